"""What docs/how-to/files.md shows of `pluralign check` is what it says of such files.

The page's files are made up; these have the same columns and as many rows, texts and prompts, so the first
lines and the last sentence must be those of the page. Tables of statistics in between depend on the ratings.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from doc_blocks import blocks, console_commands
from pluralign.cli.main import main

SHOWN = [
    pair
    for b in blocks("docs/how-to/files.md")
    if b.language == "console"
    for pair in console_commands(b.code)
]
HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


def lines(name: str, rows: list[dict[str, object]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def answers(count: int = 40, per_prompt: int = 2) -> list[dict[str, object]]:
    return [{"prompt": f"q{i // per_prompt}", "response": f"answer {i}"} for i in range(count)]


def helpsteer() -> None:
    rated = [row | {name: (i + j) % 5 for j, name in enumerate(HELPSTEER)} for i, row in enumerate(answers())]
    lines("helpsteer.jsonl", rated)


def attributes() -> None:
    rows = [row | {"clarity": 1 + i % 5, "tone": 1 + i * i % 5} for i, row in enumerate(answers())]
    lines("attributes.jsonl", rows)


def raters() -> None:
    rows = [f"q{i // 2};answer {i};{1 + i % 5};{1 + i * 2 % 5};{'' if i % 5 == 0 else 3}" for i in range(40)]
    Path("raters.csv").write_text("\n".join(["prompt;response;ann;bob;cem", *rows]) + "\n")


def long() -> None:
    rows = [
        row | {"rater": rater, "rating": 1 + (i + j) % 5}
        for i, row in enumerate(answers(20))
        for j, rater in enumerate(("ann", "bob", "cem"))
    ]
    lines("long.jsonl", rows)


def arena() -> None:
    def talk(i: int, side: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"answer {side} {i}"}]

    winners = ("model_a", "model_b", "tie", "tie (bothbad)")
    rows = [
        {
            "conversation_a": talk(i, "a"),
            "conversation_b": talk(i, "b"),
            "winner": winners[i % 4],
            "judge": f"j{i % 7}",
        }
        for i in range(40)
    ]
    lines("arena.jsonl", rows)


def votes() -> None:
    rows = [
        {
            "prompt": f"q{i}",
            "response_a": f"a {i}",
            "response_b": f"b {i}",
            "votes": ["A", "B", "tie"][i % 3 :] + ["A"] * (i % 3),
        }
        for i in range(40)
    ]
    lines("votes.jsonl", rows)


def listed() -> None:
    rows = [row | {"rating": 1 + i % 5} for i, row in enumerate(answers())]
    Path("list.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")


def decimal() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    ratings = pa.array([Decimal("1.50"), Decimal("2.00")], pa.decimal128(4, 2))
    pq.write_table(
        pa.table({"prompt": ["q", "q"], "response": ["a", "b"], "rating": ratings}), "decimal.parquet"
    )


FILES: dict[str, Callable[[], None]] = {
    "helpsteer.jsonl": helpsteer,
    "attributes.jsonl": attributes,
    "raters.csv": raters,
    "long.jsonl": long,
    "arena.jsonl": arena,
    "votes.jsonl": votes,
    "list.json": listed,
    "decimal.parquet": decimal,
}


def sentence(text: str, file: str) -> str:
    """The last thing that is said, which begins with the file's name and may be wrapped."""
    return " ".join(text[text.rindex(f"\n{file}: ") :].split())


@pytest.mark.parametrize(("command", "output"), SHOWN, ids=[command for command, _ in SHOWN])
def test_shown_output(command, output, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(command)
    file = words[1]
    FILES[file]()
    assert program == "pluralign"
    assert main(words) == 0
    said = capsys.readouterr().out
    assert [line.split() for line in said.splitlines()[:4]] == [
        line.split() for line in output.splitlines()[:4]
    ]
    assert sentence(said, file) == sentence(output, file)
