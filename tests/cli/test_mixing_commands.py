"""Gate, debiasing and steering from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fake_backbone import pairs_rows, ratings_rows

GATE = (
    "--gate_hidden 8 --gate_layers 1 --gate_batch 64 --gate_steps 40 --gate_eval_every 10 --gate_lr 0.05 "
    "--gate_temperature 1"
)
FITS = {
    "quantile": "fit --family quantile --l1 0.003 --levels [0.1,0.5,0.9]",
    "regression": "fit --family regression --l2 0.1 --residual gaussian",
}


@pytest.fixture
def two_attributes(workplace):
    """a0 rises with what decides the pairs, a1 falls with it."""
    for name, rows in (("two.jsonl", ratings_rows(20, attributes=2)), ("many.jsonl", pairs_rows(300))):
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("family", sorted(FITS))
def test_ratings_train_heads_and_pairs_their_gate(two_attributes, fake, command, family):
    status, _, err = command(f"{FITS[family]} {GATE} --ratings two.jsonl --pairs many.jsonl --out run")
    assert status == 0
    assert "gate: step 10 of 40" in err
    assert "of equal weights and" in err
    config = json.loads(Path("run/model/config.json").read_text())
    weights = config["fitted"]["gate"]["mean_weights"]
    assert weights["a0"] > 0.8
    assert not list(Path("run").glob("*gate*"))  # the training's own file is gone

    status, out, _ = command("evaluate --model run --ratings two.jsonl --pairs many.jsonl --out judged")
    assert status == 0
    assert "gate weights, pairs: entropy" in out
    results = json.loads(Path("judged/results.json").read_text())
    assert results["gate"]["pairs"]["weights"]["a0"] > 0.8

    lines = {}
    for wish in ("", "--weights.a0 1", "--weights.a1 2", "--steer.a0 quantile:0.1 --weights.a0 1"):
        status, out, _ = command(f"score --model run --data many.jsonl {wish}")
        assert status == 0
        lines[wish] = [json.loads(line) for line in out.splitlines()]
    gaps = {w: sum(r["utility_chosen"] > r["utility_rejected"] for r in rows) for w, rows in lines.items()}
    assert gaps["--weights.a0 1"] > 200 > 100 > gaps["--weights.a1 2"]
    assert gaps[""] > 200
    assert lines["--steer.a0 quantile:0.1 --weights.a0 1"] != lines["--weights.a0 1"]


def test_debiasing_and_missing_pairs_are_reported(two_attributes, fake, command):
    status, _, err = command(f"{FITS['quantile']} --ratings two.jsonl --debias characters --out run")
    assert status == 0
    assert "debiased against characters (shift): lambda a0" in err
    assert "gate: none, attributes have equal weights: there are no pairs and no votes" in err
    status, out, _ = command("score --model run --data two.jsonl")
    assert status == 0
    assert len(out.splitlines()) == 160


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("score --model run --data two.jsonl --weights.a2 1", 1, "unknown attribute 'a2'"),
        ("score --model run --data two.jsonl --weights.a0 -1", 1, "at least 0"),
        ("score --model run --data two.jsonl --weights.a0 0", 1, "one of them above 0"),
        ("score --model run --data two.jsonl --weights.a0 much", 2, "--weights"),
        ("score --model run --data two.jsonl --steer.a0 entropic:1", 1, "mean, median, quantile:t, cvar:a"),
        ("score --model run --data two.jsonl --steer.a0 worst", 1, "worst"),
        ("fit --ratings two.jsonl --debias words --l1 0.01", 1, "neither an attribute"),
        ("fit --ratings two.jsonl --mix sum", 2, "--mix"),
        ("fit --family regression --ratings two.jsonl --mix mixture", 1, "residual to gaussian"),
        ("fit --family regresion --ratings two.jsonl", 2, "did you mean 'regression'"),
    ],
)
def test_steering_that_is_not_possible(two_attributes, made_once, command, line, status, message):
    if "--model run" in line:
        made_once(f"{FITS['regression']} --ratings two.jsonl --out run")
    code, out, err = command(line)
    assert (code, out) == (status, "")
    assert message in err
    assert "Traceback" not in err
