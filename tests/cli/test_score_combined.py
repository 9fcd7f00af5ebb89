"""`pluralign score` with several models: on one scale by references, or from the folder of a combination."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import pluralign as pl
from pluralign import data

FITS = (
    "fit --ratings ratings.jsonl --l1 0.003 --levels [0.1,0.3,0.5,0.7,0.9] --out quantile",
    "fit --family bradley_terry --pairs pairs.jsonl --l2 0.01 --out bt",
)


@pytest.fixture
def fitted(made_once):
    made_once(*FITS)


def utilities(out: str) -> list[float]:
    return [json.loads(line)["utility"] for line in out.splitlines()]


def test_two_models_and_their_stored_combination_score_alike(fitted, command):
    line = "score --data ratings.jsonl --risk cvar:0.2"
    status, out, err = command(f"{line} --model quantile --combine [bt] --reference ratings.jsonl")
    assert status == 0, err
    models = [pl.RewardModel.from_pretrained(Path(run) / "model", cache=None) for run in ("quantile", "bt")]
    table = pl.load_responses("ratings.jsonl")
    texts = [data.conversation(row["prompt"], row["response"]) for row in table]
    both = pl.combine(models, reference=texts)
    expected = both.score(texts, risk="cvar:0.2").tolist()
    assert utilities(out) == pytest.approx(expected, abs=1e-6)
    both.save_pretrained("both")
    status, again, err = command(f"{line} --model both")
    assert status == 0, err
    assert utilities(again) == pytest.approx(expected, abs=1e-6)
    status, out, err = command("evaluate --model both --ratings ratings.jsonl --out judged")
    assert (status, out) == (2, "")
    assert "both is a combination, whose rewards are not on a rating scale" in err
    assert not Path("judged").exists()
    status, out, _ = command(
        f"{line} --model quantile --combine [bt] --reference pairs.jsonl --how vincentize"
    )
    assert status == 0
    assert len(utilities(out)) == len(texts)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--model quantile --combine [bt]", "--combine and --reference go together"),
        ("--model quantile --reference ratings.jsonl", "--combine and --reference go together"),
        ("--model quantile --combine [bt] --reference ratings.jsonl --weights.a0 1", "for one model"),
        ("--model quantile --combine [nobody] --reference ratings.jsonl", "nobody is not a model folder"),
        ("--model quantile --combine [bt] --reference nowhere.jsonl", "nowhere.jsonl"),
        ("--model quantile --combine [bt] --reference ratings.jsonl --how sum", "--how"),
    ],
)
def test_what_does_not_go_together_is_reported(fitted, command, flags, message):
    status, out, err = command(f"score --data ratings.jsonl {flags}")
    assert status != 0
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_a_combination_takes_no_weights(fitted, command):
    model = pl.RewardModel.from_pretrained("quantile/model", cache=None)
    texts = [[{"role": "assistant", "content": f"{x} 1 words"}] for x in (0, 1, 2)]
    pl.combine([model], reference=texts).save_pretrained("one")
    status, _, err = command("score --data ratings.jsonl --model one --weights.a0 1")
    assert status != 0
    assert "one is a combination" in err
