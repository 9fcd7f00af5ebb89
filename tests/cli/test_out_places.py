"""No command writes over what it reads, nor among it, and a file has the format of its ending."""

from __future__ import annotations

from pathlib import Path

import pytest

from pluralign.cli import out_places
from pluralign.data import row_files

LINES = [
    ("score --model m --data in.jsonl --out ./in.jsonl", "--out in.jsonl is the file of --data"),
    (
        "score --model m --data in.jsonl --engine local --out link.jsonl",
        "--out link.jsonl is the file of --data",
    ),
    (
        "score --model m --data other --combine [m] --reference in.jsonl --out in.jsonl",
        "--out in.jsonl is the file of --reference",
    ),
    (
        "score --model m --data folder --out folder/s.jsonl",
        "--out folder/s.jsonl lies in folder, the folder of",
    ),
    ("fit --ratings in.jsonl --out in.jsonl", "--out in.jsonl is the file of --ratings"),
    ("fit --pairs folder --out folder/run", "--out folder/run lies in folder, the folder of --pairs"),
    ("fit --votes folder --out folder", "--out folder is the folder of --votes"),
    ("evaluate --model folder --ratings in.jsonl --out folder", "--out folder is the folder of --model"),
    ("calibrate --model folder --ratings in.jsonl --out folder", "--out folder is the folder of --model"),
    ("compare in.jsonl folder --out in.jsonl", "--out in.jsonl is the file of --runs"),
    ("embed --data in.jsonl --out in.jsonl", "--out in.jsonl is the file of --data"),
    ("embed --data folder --out folder/deep/er", "--out folder/deep/er lies in folder, the folder of --data"),
    ("export --model folder --out folder", "--out folder is the folder of --model"),
    ("export --model m --reference in.jsonl --out in.jsonl", "--out in.jsonl is the file of --reference"),
    ("sample --model m --prompts in.jsonl --out in.jsonl", "--out in.jsonl is the file of --prompts"),
    ("sample --samples folder --programs t --out folder", "--out folder is the folder of --samples"),
    ("sample --model m --prompts p --programs [p,in.jsonl] --out in.jsonl", "is the file of --programs"),
    ("sample --model m --prompts p --reward_function f.py:f --out f.py", "is the file of --reward_function"),
    ("select --shards folder --out folder/best", "lies in folder, the folder of --shards"),
    ("select --samples folder --out folder", "--out folder is the folder of --samples"),
    ("align --model m --data in.jsonl --out in.jsonl", "--out in.jsonl is the file of --data"),
    (
        "align --method ppo --model m --prompts folder --out folder/a",
        "lies in folder, the folder of --prompts",
    ),
    ("score --config c.jsonl --out c.jsonl", "--out c.jsonl is the file of --config"),
    ("lab --out l.csv", "--out: received 'l.csv'; allowed: a file that ends in .jsonl or .jsonl.gz"),
    ("report folder --out folder/results.json", "allowed: a file that ends in .html or .htm"),
    (
        "report folder --card folder/results.json",
        "--card: received 'folder/results.json'; allowed: a file that",
    ),
]


@pytest.mark.parametrize(("line", "message"), LINES)
def test_what_is_read_is_not_written_over(workplace, command, line, message):
    """Before anything is loaded: none of these models is there."""
    Path("in.jsonl").write_text("{}\n")
    Path("link.jsonl").symlink_to("in.jsonl")
    Path("f.py").write_text("")
    Path("c.jsonl").write_text("model: m\ndata: in.jsonl\n")
    Path("folder").mkdir()
    Path("folder/results.json").write_text("{}")
    before = sorted(Path().rglob("*"))
    status, _, err = command(line)
    assert (status, message in err) == (2, True), err
    assert sorted(Path().rglob("*")) == before
    assert Path("in.jsonl").read_text() == "{}\n"


def test_a_place_beside_the_data_is_none_of_it(workplace, command):
    Path("folder").mkdir()
    Path("folder/in.jsonl").write_text("{}\n")
    _, _, err = command("score --model absent --data folder/in.jsonl --out folder/s.jsonl")
    assert "--out" not in err
    _, _, err = command("score --model absent --data folder --out folder-scores.jsonl")
    assert "--out" not in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fit --ratings ratings.jsonl --out /proc/x", "/proc/x cannot be made: /proc takes no files; choose"),
        (
            "fit --ratings ratings.jsonl --out ratings.jsonl/x",
            "cannot be made: ratings.jsonl is a file; choose",
        ),
        (
            "lab --n 8 --out /proc/x.jsonl",
            "/proc/x.jsonl cannot be written: /proc takes no files; nothing was",
        ),
        ("lab --n 8 --out ratings.jsonl/x.jsonl", "ratings.jsonl is a file; nothing was changed"),
    ],
)
def test_places_where_nothing_can_be_made(workplace, command, line, message):
    status, _, err = command(line)
    assert (status, message in err) == (1, True), err


def test_scores_have_the_endings_that_rows_are_written_with():
    """Named twice, since the parser imports nothing that reads tables."""
    assert out_places._ENDINGS["score", "out"] == row_files.ENDINGS
