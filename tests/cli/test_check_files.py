"""`check` on the files that people have: it says how it read them, or what to say so that it can."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any


def write(name: str, rows: list[dict[str, Any]]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def last_line(command, line: str, *more: str) -> str:
    status, out, err = command(line, *more)
    assert status == 0, err
    return out.splitlines()[-1]


def test_helpsteer(workplace, command):
    names = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
    rated = [{name: (i + j) % 5 for j, name in enumerate(names)} for i in range(5)]
    file = write("h.jsonl", [{"prompt": f"q{i}", "response": "r", **row} for i, row in enumerate(rated)])
    _, out, _ = command(f"check {file}")
    assert out.splitlines()[0] == "h.jsonl: ratings"
    assert "verbosity" in out
    assert out.splitlines()[-1] == (
        f"h.jsonl: 25 rows, read from a column per attribute ({', '.join(names)}) on the scale [0, 4], "
        "no problems"
    )


def test_unread_ratings_are_never_no_problems(workplace, command):
    file = write("s.jsonl", [{"prompt": f"q{i}", "response": "r", "tone": i, "wit": 4 - i} for i in range(5)])
    said = last_line(command, f"check {file}")
    assert "no problems" not in said
    assert "read as responses without ratings, although there are columns tone, wit; to read: " in said
    said = last_line(command, f"check {file} --attribute_columns [tone,wit] --scale [0,4]")
    assert said == "s.jsonl: 10 rows, read from a column per attribute (tone, wit), no problems"
    said = last_line(command, f"check {file} --rater_columns [tone,wit] --scale [0,4] --attribute style")
    assert said == "s.jsonl: 5 rows, read from a column per rater (tone, wit), no problems"
    _, out, _ = command(f"check {file} --json")
    assert [column["name"] for column in json.loads(out)["unread"]] == ["tone", "wit"]


def test_one_unread_column_of_a_spreadsheet(workplace, command):
    Path("s.csv").write_text("prompt;response;score\nq;a;1\nq;b;5\n")
    said = last_line(command, "check s.csv")
    flags = "--columns.ratings score --attribute NAME --scale '[1,5]'"
    assert flags in said
    said = last_line(command, "check s.csv --columns.ratings score --attribute NAME --scale [1,5]")
    assert said == "s.csv: 2 rows, read from cells separated by ';', no problems"


def test_fit_and_evaluate_read_the_same_columns(workplace, fake, command):
    rows = [
        {"prompt": f"q{i % 6}", "response": f"{i / 40} 1 text", "tone": i % 5, "wit": (i * i) % 5}
        for i in range(40)
    ]
    file = write("s.jsonl", rows)
    status, _, err = command(
        f"fit --ratings {file} --attribute_columns [tone,wit] --scale [0,4] --l1 0.01 --levels [0.2,0.5,0.8]"
    )
    assert status == 0, err
    assert "ratings s.jsonl: 80 rows, read from a column per attribute (tone, wit)" in err
    judge = next(line.strip() for line in err.splitlines() if line.strip().startswith("pluralign evaluate"))
    assert "--attribute_columns '[tone,wit]'" in judge
    status, _, err = command(" ".join(shlex.split(judge)[1:]))
    assert status == 0, err
