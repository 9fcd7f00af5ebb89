"""`pluralign compare` from end to end: tables, files, names, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("jinja2")


@pytest.fixture
def evaluated(made_once):
    """runs/a and runs/b: fits, each with an evaluation next to it."""
    lines = []
    for name, penalty in (("a", "0.01"), ("b", "0.05")):
        lines += [
            f"fit --ratings ratings.jsonl --l1 {penalty} --levels [0.1,0.5,0.9] --out runs/{name}",
            f"evaluate --model runs/{name} --ratings ratings.jsonl --out runs/e{name}",
        ]
    made_once(*lines)


def test_a_comparison_of_evaluations(evaluated, command):
    status, out, err = command("compare runs/ea runs/eb --out both")
    assert status == 0, err
    assert out.endswith("both/comparison.html\n")
    assert "accuracy of pairs from ratings" in out
    found = json.loads(Path("both/comparison.json").read_text())
    assert {row["name"] for row in found[0]["table"]} == {"ea", "eb"}
    assert [part["measure"] for part in found][:2] == ["pairs_from_ratings.accuracy", "ratings.crps"]
    page, text = Path("both/comparison.html").read_text(), Path("both/comparison.md").read_text()
    assert found[0]["verdict"] in page
    assert found[0]["verdict"] in text
    again = command("compare runs/ea runs/eb --out both --json")
    assert json.loads(again[1])["comparisons"] == found
    assert "already holds" in again[2]


def test_names_and_runs_of_a_fit(evaluated, command):
    status, out, _ = command("compare strict=runs/b plain=runs/a --measures [ratings.crps] --json")
    assert status == 0
    (found,) = json.loads(out)["comparisons"]
    assert sorted(row["name"] for row in found["table"]) == ["plain", "strict"]
    assert found["better"] == "lower"


def test_scores_of_two_policies(workplace, command):
    for name, more in (("old", 0.0), ("new", 2.0)):
        rows = [{"id": i, "group": i // 2, "utility": (7 * i % 11) / 4 + more} for i in range(80)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, _, err = command("compare new.jsonl old.jsonl")
    assert status == 0, err
    assert "new.jsonl is better than old.jsonl." in err
    assert "better than old.jsonl for everybody" in err


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("compare runs/ea", 2, "at least two runs"),
        ("compare runs/ea runs/ea", 2, "given twice"),
        ("compare runs/ea absent", 2, "absent is not a folder"),
        ("compare runs/ea runs/eb --level 95", 2, "--level: received 95"),
        ("compare runs/ea runs/eb --measures [crps]", 1, "ratings.crps"),
        ("compare runs/ea ratings.jsonl", 1, "of one kind"),
    ],
)
def test_what_it_refuses(evaluated, command, line, status, message):
    found = command(line)
    assert (found[0], message in found[2]) == (status, True), found[2]
