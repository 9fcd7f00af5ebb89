"""`pluralign evaluate --suite`: models of all kinds, files, hub layouts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fake_backbone import pairs_rows, talk


def write(name: str, rows) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


@pytest.fixture
def fitted(made_once):
    made_once("fit --family quantile --ratings ratings.jsonl --out run --l1 0.01 --cache none")
    return "run"


def held_out(count=30):
    return [row | {"id": str(i), "group": f"new {i}"} for i, row in enumerate(pairs_rows(count, seed=5))]


def test_a_run_folder_on_pairs_with_several_measures(fitted, command):
    write("held.jsonl", held_out())
    line = "evaluate --suite pairs run --data held.jsonl --risk mean,cvar:0.1 --cache none"
    status, out, err = command(line)
    assert status == 0, err
    folder = Path(out.strip().splitlines()[-1]).parent
    assert folder.name.startswith("run-evaluate-")  # beside the model, where `report` looks
    for words in ("pairs: 30 rows, 30 groups", "cvar:0.1", "the longer response", "minus length"):
        assert words in out
    assert "all 30 rows of held.jsonl, in 30 groups" in err
    assert "WARNING" not in err
    results = json.loads((folder / "results.json").read_text())
    assert list(results["suite"]["scores"])[:2] == ["mean", "cvar:0.1"]
    assert pq.read_table(folder / "scores.parquet")["risk"].unique().to_pylist()[:2] == ["mean", "cvar:0.1"]
    status, again, err = command(line)
    assert status == 0
    assert "already holds this run" in err
    assert again == out
    assert command(f"report {folder}")[0] == 0


def test_what_the_model_was_fitted_on_is_told(workplace, fake, command):
    assert command("fit --family bradley_terry --pairs pairs.jsonl --out run --cache none")[0] == 0
    status, _, err = command("evaluate --suite pairs --model run --data pairs.jsonl --cache none")
    assert status == 0, err
    assert "WARNING: the model was fitted on this file" in err
    write("more.jsonl", [*pairs_rows(5), *held_out(5)])
    status, _, err = command("evaluate --suite pairs run --data more.jsonl --cache none")
    assert status == 0, err
    assert "groups were in the fit" in err


def test_a_combination_is_scored_as_any_model(fitted, command):
    import pluralign as pl

    model = pl.RewardModel.from_pretrained("run/model")
    pl.combine([model, model], reference=[talk(f"{i} 0 x") for i in range(9)]).save_pretrained("both")
    write("held.jsonl", held_out())
    status, out, err = command("evaluate --suite pairs both --data held.jsonl --cache none --json")
    assert status == 0, err
    results = json.loads(out)
    assert results["family"] == "combination"
    assert list(results["suite"]["scores"]) == ["mean", "length"]


def test_files_of_scores_need_no_model_and_know_their_own(fitted, command):
    write("held.jsonl", held_out())
    status, out, _ = command("evaluate --suite pairs run --data held.jsonl --cache none --out first")
    assert status == 0
    status, out, err = command("evaluate --suite pairs --scores first/scores.parquet --json")
    assert status == 0, err
    first = json.loads(Path("first/results.json").read_text())
    assert json.loads(out)["suite"]["scores"] == first["suite"]["scores"]
    assert command("evaluate --suite pairs run --scores first/scores.parquet")[0] == 0
    assert command("fit --family quantile --ratings ratings.jsonl --out other --l1 0.1 --cache none")[0] == 0
    status, _, err = command("evaluate --suite pairs other --scores first/scores.parquet")
    assert status != 0
    assert "another version of this model" in err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("evaluate --suite rewardbenc run --data held.jsonl", "did you mean 'rewardbench'?); allowed"),
        ("evaluate --model run --data held.jsonl --suite", "--suite: received '--cache'; allowed"),
        ("evaluate --suite pairs --data held.jsonl", "no model: name a model folder, or --scores"),
        ("evaluate --suite pairs run", "name a file with --data"),
        ("evaluate --suite pairs run other --data held.jsonl", "received a second model, other"),
        (
            "evaluate --suite pairs run --data held.jsonl --risk cvar:2",
            "parameter of cvar must be a fraction",
        ),
        ("evaluate --suite pairs run --data held.jsonl --legacy", "only rewardbench has"),
        ("evaluate --suite pairs run --data held.jsonl --dat x", "unknown option --dat"),
        (
            "evaluate --suite pairs run --scores s.json --data held.jsonl",
            "--data is for data that a model scores",
        ),
        ("evaluate --suite rewardbench run --data held.jsonl", "which RewardBench does not have"),
        ("evaluate --suite pairs run --data none.jsonl", "none.jsonl: no such file"),
    ],
)
def test_errors_are_one_clear_message(fitted, command, line, words):
    write("held.jsonl", held_out(4))
    status, _, err = command(line + " --cache none")
    assert status != 0
    assert words in err
    assert "Traceback" not in err
    assert not [p for p in Path().iterdir() if "evaluate" in p.name]  # nothing is left behind


def test_help_of_a_suite_names_its_flags(workplace, capsys):
    from pluralign.cli.main import main

    with pytest.raises(SystemExit):
        main(["evaluate", "--suite", "pairs", "--help"])
    shown = capsys.readouterr().out
    for flag in ("--risk", "--scores", "--legacy", "--hub_split"):
        assert flag in shown


def test_the_names_of_the_command_are_those_of_the_catalogue():
    from pluralign.cli.evaluate_suite import SUITE_NAMES
    from pluralign.evaluation.suites import SUITES

    assert list(SUITE_NAMES) == list(SUITES)
