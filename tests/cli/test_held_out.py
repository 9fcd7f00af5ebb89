"""An evaluation says what of its data was in the fit, also where it hides under other groups."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import pluralign as pl
from fake_backbone import pairs_rows, ratings_rows

FIT = "fit --ratings {} --l1 0.003 --levels [0.1,0.5,0.9] --out run"


def evaluated_on(command, *flags: str) -> str:
    status, out, err = command("evaluate --model run --json", *flags)
    assert status == 0, err
    return json.loads(out)["evaluated_on"]


@pytest.fixture
def renamed(workplace: Path) -> str:
    """The rows of ratings.jsonl, each in a group of its own."""
    rows = [row | {"group": f"row{i}"} for i, row in enumerate(ratings_rows(20))]
    Path("renamed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return "renamed.jsonl"


def test_texts_of_the_fit_under_other_groups(made_once, command, renamed):
    made_once(FIT.format("ratings.jsonl"))
    assert evaluated_on(command, "--ratings", "ratings.jsonl").endswith("groups were in the fit")
    said = evaluated_on(command, "--ratings", renamed, "--part", "all")
    train = json.loads(Path("run/train_groups.json").read_text())
    prompts, texts = len(train), 4 * len(train)
    assert said.endswith(
        f"0 of its 80 groups were in the fit, but {prompts} of its 20 prompts and {texts} of its 80 texts "
        "were, in other groups; WARNING: for these it is not a held-out result"
    )
    Path("run/train_texts.npz").write_bytes(b"PK no zip")
    said = evaluated_on(command, "--ratings", renamed, "--part", "all", "--out", "again")
    assert said.endswith("0 of its 80 groups were in the fit")


def test_fit_and_evaluate_keep_one_question_on_one_side(workplace, fake, command, renamed):
    status, _, err = command(FIT.format(renamed))
    assert status == 0
    assert "20 prompts appear in several groups; a split keeps 80 groups together, 20 parts in all" in err
    said = evaluated_on(command, "--ratings", renamed)
    assert "0 of its" in said
    assert said.endswith("groups were in the fit")


def test_what_was_held_out_is_reported_as_it_is(workplace, fake, command):
    """Sizes that no split by hash would meet: the words have the rows and groups of the evaluation."""
    rows = [r for r in ratings_rows(13, 12) if not (r["group"] == "g3" and r["id"].endswith("-0"))]
    Path("few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    status, _, err = command(FIT.format("few.jsonl"))
    assert status == 0
    train = json.loads(Path("run/train_groups.json").read_text())
    apart = [row for row in rows if row["group"] not in train]
    groups, share = 13 - len(train), round(100 * len(apart) / len(rows))
    assert 10 <= share <= 30
    assert f"held out: {groups} of 13 groups ({share} % of the rows); to evaluate" in err
    assert "pluralign evaluate --folds 5 --family quantile --ratings few.jsonl" in err
    said = evaluated_on(command, "--ratings", "few.jsonl")
    assert f"{len(apart)} of 155 rows ({share} %), in {groups} of 13 groups; 0 of its" in said


def test_a_part_of_the_tables_is_evaluated_on_what_the_fit_did_not_see(workplace, fake, command):
    """Ratings and pairs were split together; ratings alone would be split in another way."""
    rows = [r for r in ratings_rows(12, attributes=2) if int(r["group"][1:]) > 8]
    pairs = [row | {"group": f"g{i % 12}"} for i, row in enumerate(pairs_rows(60))]
    for name, of in (("r.jsonl", rows), ("p.jsonl", pairs)):
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in of), encoding="utf-8")
    status, _, err = command(FIT.format("r.jsonl") + " --pairs p.jsonl --gate false")
    assert status == 0, err
    for flags in (
        ["--ratings", "r.jsonl"],
        ["--pairs", "p.jsonl"],
        ["--ratings", "r.jsonl", "--pairs", "p.jsonl"],
    ):
        assert "; 0 of its" in evaluated_on(command, *flags)
    other = [row | {"prompt": f"new {i}", "group": f"n{i}"} for i, row in enumerate(pairs_rows(7, seed=3))]
    Path("new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in other), encoding="utf-8")
    assert "all 7 rows; 0 of its 7 groups were in the fit" in evaluated_on(command, "--pairs", "new.jsonl")


def test_a_model_without_its_run_folder(made_once, command):
    made_once(FIT.format("ratings.jsonl"))
    told = evaluated_on(command, "--ratings", "ratings.jsonl", "--out", "one").partition(";")[0]
    shutil.copytree("run/model", "elsewhere/alone")
    status, out, err = command("evaluate --model elsewhere/alone --json --ratings ratings.jsonl --out two")
    assert status == 0, err
    assert json.loads(out)["evaluated_on"].startswith(told)  # split again, as the fit was
    model = pl.RewardModel.from_pretrained("run")
    model.fitted = {}
    model.save_pretrained("unknown")
    status, _, err = command("evaluate --model unknown --ratings ratings.jsonl")
    assert status == 2
    assert "is not recorded" in err
    assert "--part all" in err


def test_evaluations_lie_beside_their_model_where_the_report_finds_them(workplace, fake, command):
    fit = "fit --ratings ratings.jsonl --l1 0.003 --levels [0.1,0.5,0.9] --out deep/er/run"
    assert command(fit)[0] == 0
    made = []
    for model in ("deep/er/run", "deep/er/run/model"):
        status, out, _ = command(f"evaluate --model {model} --ratings ratings.jsonl")
        assert status == 0
        made.append(Path(out.splitlines()[-1]))
        assert made[-1].parent.parent == Path("deep/er")
        assert made[-1].parent.name.startswith("run-evaluate-")
    status, out, _ = command("report deep/er/run")
    assert status == 0
    assert Path(out.strip()).is_file()
    pl.RewardModel.from_pretrained("deep/er/run").save_pretrained("deep/saved")
    status, out, _ = command("evaluate --model deep/saved --ratings ratings.jsonl")
    assert status == 0
    assert out.splitlines()[-1].startswith("deep/saved-evaluate-")


def test_check_and_cross_fitting_report_shared_prompts(workplace, fake, command, renamed):
    _, out, _ = command(f"check {renamed}")
    assert "prompts in several groups" in out
    assert "20 prompts appear in several groups" in out.splitlines()[-1]
    flags = "evaluate --folds 2 --l1 0.003 --levels [0.1,0.5,0.9] --json --ratings"
    status, out, _ = command(flags, renamed)
    assert status == 0
    assert "20 prompts appear in several groups" in json.loads(out)["evaluated_on"]


def test_the_advice_for_few_groups_is_a_command_that_works(workplace, fake, command):
    rows = [row | {"group": f"g{i // 12}"} for i, row in enumerate(ratings_rows(9))]  # 3 groups
    Path("few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fit = "fit --ratings few.jsonl --levels [0.2,0.5,0.8] --l1 0.1 --out run"
    status, _, err = command(fit)
    assert status == 0
    assert "1 group says little about a model" in err
    (advised,) = [line.strip() for line in err.splitlines() if "--folds" in line]
    assert "--folds 3 " in advised
    settings = "--levels [0.2,0.5,0.8] --l1 0.1 --out cross"
    status, _, err = command(f"{advised.removeprefix('pluralign ')} {settings}")
    assert status == 0, err
    status, _, err = command("evaluate --folds 5 --family quantile --ratings few.jsonl --out more")
    assert status == 1
    assert "--folds: 5 folds for 3 groups; allowed: at most one fold per group" in err


def test_an_unfinished_fit_is_distinguished_from_other_folders(workplace, fake, command):
    command("fit --ratings ratings.jsonl --levels [0.2,0.5,0.8] --l1 0.1 --out run")
    Path("run/model/config.json").unlink()
    for line in (
        "evaluate --ratings ratings.jsonl --out made",
        "score --data ratings.jsonl --out made.jsonl",
    ):
        status, _, err = command(f"{line} --model run")
        assert status == 2, err
        assert "run is a run folder without a finished model: run its command again" in err
