"""`pluralign fit --ensemble`: members are fitted, saved, scored by nested measures and reported."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import pluralign as pl

FIT = "fit --ratings ratings.jsonl --l1 0.003 --levels [0.1,0.3,0.5,0.7,0.9] --baselines false"


def test_from_fit_to_report(workplace, fake, command):
    status, out, err = command(f"{FIT} --ensemble 3 --out several")
    assert (status, out.strip()) == (0, "several/model"), err
    assert "member 3 of 3" in err
    fitted = pl.RewardModel.from_pretrained("several", cache=None)
    assert fitted.head.num_heads == fitted.fitted["ensemble"] == 3
    status, _, err = command(f"{FIT} --ensemble 3 --out several")
    assert (status, "already holds this run" in err) == (0, True)
    status, out, err = command("score --model several --data ratings.jsonl --risk worst_case(cvar:0.3)")
    assert status == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    texts = [pl.data.conversation(row["prompt"], row["response"]) for row in pl.load_ratings("ratings.jsonl")]
    distribution = fitted.distribution(texts)
    assert [row["utility"] for row in rows] == pytest.approx(
        pl.risk.parse("worst_case(cvar:0.3)")(distribution).tolist(), abs=1e-6
    )
    total = [math.hypot(row["within_std"], row["between_std"]) for row in rows]
    assert total == pytest.approx(distribution.std().tolist(), rel=1e-4)
    status, out, err = command(
        "evaluate --model several --ratings ratings.jsonl --risk uwo:1(mean) --out judged"
    )
    assert (status, "in its two parts" in out) == (0, True), err
    status, _, err = command("report judged --out page.html")
    assert status == 0, err
    assert "What the model does not know" in Path("page.html").read_text()


def test_what_asks_for_members_says_so(workplace, fake, command):
    assert command(f"{FIT} --out one")[0] == 0
    for line, wanted, said in (
        (
            "score --model one --data ratings.jsonl --risk worst_case(mean)",
            1,
            "compares members, and Quantiles has none",
        ),
        ("score --model one --data ratings.jsonl --risk worst_case(uwo:1)", 1, "of each member alone"),
        (
            "score --model one --data ratings.jsonl --risk worst_case(mean",
            1,
            "write a nested one as OUTER(INNER)",
        ),
        (f"{FIT} --ensemble 0 --out no", 2, "--ensemble: received 0"),
        (f"{FIT} --ensemble 2.5 --out no", 2, "ensemble"),
        (
            "fit --family gaussian_ensemble --ratings ratings.jsonl --ensemble 2 --out no",
            1,
            "several heads by itself",
        ),
    ):
        status, out, err = command(line)
        assert (status, out) == (wanted, ""), line
        assert said in err, err
        assert "Traceback" not in err
    status, out, _ = command("score --model one --data ratings.jsonl")
    assert status == 0
    assert "between_std" not in json.loads(out.splitlines()[0])


def test_one_head_is_the_run_that_it_was_before_the_flag(workplace, fake, command):
    first, second = (command(line) for line in (FIT, f"{FIT} --ensemble 1"))
    assert first[0] == second[0] == 0
    assert first[1] == second[1]
    assert "nothing to do" in second[2]
    assert command(f"{FIT} --ensemble 2")[1] != first[1]


def test_folds_of_an_ensemble(workplace, fake, command):
    """Every fold has its members, an ensemble is another run, and one head is the run of before."""
    folds = f"evaluate --folds 2 {FIT.removeprefix('fit ')}"
    one, same, several = (command(f"{folds}{more}") for more in ("", " --ensemble 1", " --ensemble 3"))
    assert one[0] == same[0] == several[0] == 0, several[2]
    assert "already holds this run" in same[2]
    assert several[2].count("member 3 of 3") == 2
    paths = [Path(found[1].strip().splitlines()[-1]) for found in (one, same, several)]
    assert paths[0] == paths[1] != paths[2]
    found = json.loads(paths[2].read_text())
    assert found["ensemble"]["ratings"]["a0"]["heads"] == 3
    assert json.loads(paths[0].read_text())["ensemble"] == {}
