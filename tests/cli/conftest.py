"""Commands run in this process, in an empty folder, on a backbone without a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, votes_rows
from pluralign import backbones

Rows = list[dict[str, Any]]


def write(name: str, rows: Rows) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with ratings.jsonl, pairs.jsonl and votes.jsonl."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write("ratings.jsonl", ratings_rows(num_prompts=20))
    write("pairs.jsonl", pairs_rows(40))
    write("votes.jsonl", votes_rows(30))
    return folder


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeBackbone:
    """The backbone of every command of the test; it counts what it embeds."""
    backbone = FakeBackbone()
    monkeypatch.setattr(backbones, "load", lambda *_args, **_options: backbone)
    return backbone


@pytest.fixture(scope="session")
def made_before() -> dict[tuple[str, ...], Path]:
    """What some commands added to the current folder."""
    return {}


@pytest.fixture
def made_once(
    workplace: Path,
    fake: FakeBackbone,
    command: Callable[..., tuple[int, str, str]],
    made_before: dict[tuple[str, ...], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., None]:
    """Runs commands that many tests begin with, in the first of them; the others get copies of the files."""

    def run(*lines: str) -> None:
        if lines in made_before:
            shutil.copytree(made_before[lines], workplace, dirs_exist_ok=True)
            return
        before = {path.name for path in workplace.iterdir()}
        for line in lines:
            status, _, err = command(line)
            assert status == 0, err
        kept = tmp_path_factory.mktemp("made")
        for path in workplace.iterdir():
            if path.name not in before:
                shutil.copytree(path, kept / path.name)
        made_before[lines] = kept

    return run
