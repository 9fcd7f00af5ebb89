"""An evaluation says what of its data was in the fit, also where it hides under other groups."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fake_backbone import ratings_rows

FIT = "fit --ratings {} --l1 0.003 --levels [0.1,0.5,0.9] --out run"


def judged(command, *flags: str) -> str:
    status, out, err = command("evaluate --model run --json", *flags)
    assert status == 0, err
    return json.loads(out)["judged"]


@pytest.fixture
def renamed(workplace: Path) -> str:
    """The rows of ratings.jsonl, each in a group of its own."""
    rows = [row | {"group": f"row{i}"} for i, row in enumerate(ratings_rows(20))]
    Path("renamed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return "renamed.jsonl"


def test_texts_of_the_fit_under_other_groups(workplace, fake, command, renamed):
    assert command(FIT.format("ratings.jsonl"))[0] == 0
    assert judged(command, "--ratings", "ratings.jsonl").endswith("groups were in the fit")
    said = judged(command, "--ratings", renamed, "--part", "all")
    train = json.loads(Path("run/train_groups.json").read_text())
    prompts, texts = len(train), 4 * len(train)
    assert said.endswith(
        f"0 of its 80 groups were in the fit, but {prompts} of its 20 prompts and {texts} of its 80 texts "
        "were, in other groups; WARNING: for these it is not a held-out result"
    )
    Path("run/train_texts.npz").write_bytes(b"PK no zip")
    said = judged(command, "--ratings", renamed, "--part", "all", "--out", "again")
    assert said.endswith("0 of its 80 groups were in the fit")


def test_fit_and_evaluate_keep_one_question_on_one_side(workplace, fake, command, renamed):
    status, _, err = command(FIT.format(renamed))
    assert status == 0
    assert "20 prompts appear in several groups; a split keeps 80 groups together, 20 parts in all" in err
    said = judged(command, "--ratings", renamed)
    assert "0 of its" in said
    assert said.endswith("groups were in the fit")


def test_check_and_cross_fitting_tell(workplace, fake, command, renamed):
    _, out, _ = command(f"check {renamed}")
    assert "prompts in several groups" in out
    assert "20 prompts appear in several groups" in out.splitlines()[-1]
    flags = "evaluate --folds 2 --l1 0.003 --levels [0.1,0.5,0.9] --json --ratings"
    status, out, _ = command(flags, renamed)
    assert status == 0
    assert "20 prompts appear in several groups" in json.loads(out)["judged"]
