"""The page on extending the package does what it says: its code runs, in order."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pluralign.families import FAMILIES
from pluralign.policy import OBJECTIVES
from pluralign.risk import MEASURES

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
SECTIONS = ("A risk measure", "An objective", "A family")


@pytest.fixture
def unregistered() -> Iterator[None]:
    """The tables as they were."""
    tables = (FAMILIES, MEASURES, OBJECTIVES)
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


def test_the_page_on_extending_runs(unregistered, tmp_path, monkeypatch):
    parts = re.split(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    assert tuple(sections) == SECTIONS
    blocks = [re.findall(r"```python\n(.*?)```", text, re.DOTALL) for text in sections.values()]
    assert all(any("assert " in block for block in found) for found in blocks)
    (tmp_path / "extension.py").write_text("\n".join(block for found in blocks for block in found))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        importlib.import_module("extension")
    finally:
        sys.modules.pop("extension", None)
    assert "neighbours" in FAMILIES
    assert "span" in MEASURES
    assert "ipo" in OBJECTIVES
