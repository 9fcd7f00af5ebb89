"""`pluralign calibrate`: half of what a fit held out corrects the model, the other half evaluates it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

FIT = "fit --ratings rated.jsonl --l1 0.003 --levels [0.1,0.3,0.5,0.7,0.9] --test_share 0.5 --out model"


@pytest.fixture
def fitted(workplace, fake, command):
    """160 groups; half of them are held out."""
    generator = np.random.default_rng(0)
    with open("rated.jsonl", "w", encoding="utf-8") as file:
        for i in range(320):
            x = generator.uniform(-1, 1)
            given = np.clip(np.round(3 + x + generator.normal(size=3)), 1, 5).tolist()
            row = {"prompt": f"p{i}", "response": f"{x:.4f} 0 {i}", "attribute": "help", "ratings": given}
            file.write(json.dumps(row | {"scale": [1, 5], "group": f"g{i % 160}"}) + "\n")
    status, _, err = command(FIT)
    assert status == 0, err


def test_the_held_out_groups_are_shared_between_calibrating_and_evaluating(fitted, command):
    status, out, err = command("calibrate --model model --ratings rated.jsonl --out better --json")
    assert status == 0, err
    found = json.loads(out)
    used = found["calibrated"]["help"]["groups"]
    assert 20 <= used < 80
    assert found["calibrated"]["help"]["rows"] == 6 * used
    assert "calibrating on:" in err
    assert "pluralign evaluate --model better --ratings rated.jsonl" in err
    status, out, err = command("evaluate --model better --ratings rated.jsonl --out result --json")
    assert status == 0, err
    results = json.loads(out)
    fit_groups = set(json.loads(Path("model/train_groups.json").read_text(encoding="utf-8")))
    assert results["ratings"]["help"]["groups"] == 160 - len(fit_groups) - used
    assert "0 of its" in results["evaluated_on"]
    assert 0.8 < results["ratings"]["help"]["coverage"]["model"]["estimate"] <= 1
    status, _, err = command("calibrate --model model --ratings rated.jsonl --out better")
    assert (status, "already holds this run" in err) == (0, True)


def test_what_cannot_be_calibrated_names_its_flags(fitted, command):
    cases = {
        "--model model --ratings rated.jsonl --share 0": (2, "--share: received 0"),
        "--model model": (2, "--ratings"),
        "--model model --pairs pairs.jsonl --votes votes.jsonl": (2, "--pairs or --votes"),
        "--model model --pairs pairs.jsonl --attributes [help]": (2, "--attributes"),
        "--model model --ratings rated.jsonl --attributes [wit]": (1, "received wit"),
        "--model model --ratings rated.jsonl --share 0.1": (1, "needed: at least 20"),
        "--model absent --ratings rated.jsonl": (1, "absent"),
    }
    for flags, (wanted, said) in cases.items():
        status, out, err = command(f"calibrate {flags}")
        assert (status, out) == (wanted, ""), (flags, err)
        assert said in err
        assert "Traceback" not in err
    status, _, err = command("calibrate --model model --ratings rated.jsonl --part all --share 1 --out whole")
    assert status == 0, err
    status, _, err = command("calibrate --model whole --ratings rated.jsonl --out again")
    assert (status, "every group of this data was in the fit" in err) == (2, True)


def test_preferences_get_a_temperature(fitted, command):
    status, out, err = command(
        "calibrate --model model --votes votes.jsonl --part all --share 1 --out sure --json"
    )
    assert status == 0, err
    found = json.loads(out)
    assert found["temperature"]["kind"] == "preferences"
    assert found["temperature"]["rows"] == 30
    assert "preferences: temperature" in err
