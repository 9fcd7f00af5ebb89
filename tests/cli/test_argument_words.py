"""Messages of the library as the command line says them: flags for arguments, and only those that it has."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pluralign.cli.argument_words import as_flags, in_tuning_flags
from pluralign.cli.tuning_flags import TuningFlags
from pluralign.fitting import TuningConfig

ALL = (
    "columns",
    "where",
    "scale",
    "attribute",
    "attribute_columns",
    "rater_columns",
    "on_bad_row",
    "hub_split",
)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("a column 'a', or columns={'a': <the file's name for it>}", "a column 'a', or --columns.a NAME"),
        ("or columns={'prompt': None} for texts", "or --columns.prompt null for texts"),
        ("a name, or attribute=... for the file", "a name, or --attribute NAME for the file"),
        ("or scale=(lowest, highest) for it", "or --scale [LOWEST,HIGHEST] for it"),
        ("'x', as attribute= says", "'x', as --attribute says"),
        ("use where={'attribute': 'x'}", "use --where.attribute x"),
        ("for attribute_columns= and rater_columns=, c", "for --attribute_columns and --rater_columns, c"),
        ("set them aside with on_bad_row='quarantine'.", "set them aside with --on_bad_row quarantine."),
        ("split='test', config=None apply only to a", "--hub_split test applies only to a"),
        ("k=3 folds for 2 groups", "k=3 folds for 2 groups"),
        ("subscale=3", "subscale=3"),
    ],
)
def test_arguments_become_flags(message, expected):
    assert as_flags(message, ALL) == expected


def test_alternatives_that_the_command_lacks_are_left_out():
    message = "Correct the rows, or set them aside with on_bad_row='quarantine'."
    assert as_flags(message, ["columns"]) == "Correct the rows."
    message = "a column 'a', or columns={'a': <the file's name for it>}, or attribute=...\nnext line"
    assert as_flags(message, ["columns"]) == "a column 'a', or --columns.a NAME\nnext line"
    message = "apply only to a hub data set; to filter rows use where={'split': ...}"
    assert as_flags(message, []) == "apply only to a hub data set"


def test_a_setting_at_the_beginning_is_a_flag():
    assert as_flags("l1: received -1; allowed: 0", ["l1"]).startswith("--l1: received")
    assert as_flags("l1 = -1.0: a number", ["l1"]).startswith("--l1 = -1.0")
    assert as_flags("l1: received -1", ["l2"]).startswith("l1: received")


def test_many_rows_with_one_problem_are_one_line(workplace, command):
    rows = [
        {"prompt": f"q{i}", "response": f"a {i}", "attribute": "x", "ratings": [6 + i % 5], "scale": [1, 5]}
        for i in range(80)
    ]
    rows[7]["ratings"], rows[9]["response"] = [3], None
    Path("bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, _, err = command("fit --ratings bad.jsonl")
    assert status == 1
    said = err[err.index("pluralign: ") :].splitlines()
    assert said == [
        "pluralign: bad.jsonl: 80 problems",
        "  - bad.jsonl, 79 rows (1, 2, 3, 4, 5, ...), column 'ratings': found 6, 7, 8, ...; "
        "allowed: numbers on the scale [1, 5]",
        "  - bad.jsonl, row 10, column 'response': found nothing; allowed: text",
        "Correct the rows, or set them aside with --on_bad_row quarantine.",
    ]
    _, _, err = command("score --model m --data bad.jsonl")
    assert err.splitlines()[-1] == "Correct the rows."  # score has no quarantine


def test_columns_are_mapped_by_flags(workplace, command):
    Path("c.jsonl").write_text('{"prompt": "q", "answer": "a", "ratings": [1]}\n')
    _, _, err = command("fit --ratings c.jsonl")
    assert "--columns.response answer" in err  # the likely one
    assert "--attribute NAME" in err
    assert "--scale [LOWEST,HIGHEST]" in err
    assert "={" not in err
    Path("d.jsonl").write_text('{"prompt": "q", "said": "a", "ratings": [1]}\n')
    assert "--columns.response NAME" in command("fit --ratings d.jsonl")[2]


TUNED = ("lr", "batch", *(field.name for field in dataclasses.fields(TuningFlags)))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "the loss is not finite in step 3, for 1 of 2 units (numbers 4; groups 'rank'). Checkpoints are "
            "kept. Try a smaller lr or head_lr, a smaller max_grad_norm, or bf16=False",
            "the loss is not finite in step 3, for 1 of 2 units (numbers 4; groups 'rank'). Checkpoints are "
            "kept. Try a smaller --tune_lr or --tune_head_lr, a smaller --tune_max_grad_norm, or --tune_bf16 "
            "false",
        ),
        (
            "run holds the checkpoints of another tuning (epochs 1.0 instead of 2.0); continue",
            "run holds the checkpoints of another tuning (--tune_epochs 1.0 instead of 2.0); continue",
        ),
        ("targets = 'nowhere': the model cannot", "--tune_targets = 'nowhere': the model cannot"),
        (
            "tune='full' changes all weights. Load it with dtype='float32', or use tune='lora'",
            "--tune full changes all weights. Load it with --dtype float32, or use --tune lora",
        ),
        ("batch = 0: a whole number is needed", "--batch = 0: a whole number is needed"),  # of a head
        ("another rank of a matrix", "another rank of a matrix"),
    ],
)
def test_settings_of_tuning_become_its_flags(message, expected):
    assert as_flags(message, TUNED) == expected
    if "tuning" in message or "targets" in message:
        assert as_flags(message, ("columns",)) == message


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(TuningConfig) if f.name != "loggers"])
def test_every_setting_of_tuning_is_known_by_its_flag(name):
    flag = name if name.startswith("tune_") else f"tune_{name}"
    expected = name if name in ("tune_seed", "dropout") else f"--{flag}"  # no error speaks of these two
    assert in_tuning_flags(f"{name} = -2: no") == f"{expected} = -2: no"
