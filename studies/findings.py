"""Findings in words, held against the records: a sentence that the numbers do not bear out fails the build.

In: `studies/<name>/findings.md`, and pages under docs/ that quote a study. Out: the text without its
marks, and what is wrong. Marks are HTML comments, so that the file reads well anywhere:

    Transport is behind by 0.06<!-- = gap -->.<!-- claim: behind_everywhere, not_with_five -->

`= gap`: the text before the mark ends with what `gap()` in the study's `claims.py` returns, a string.
`claim: ...`: each of these functions of `claims.py` returns True.
`unrecorded: why`: measured once, and nothing was kept to hold it against.

Every paragraph and every point of a list has a mark; every function of `claims.py` is named by one.
Outside of a study's own file a mark names the study too: `= brme.gap`.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from studies import NAMES, records

MARK = re.compile(r"<!--\s*(=|claim:|unrecorded:)\s*(.*?)\s*-->", re.DOTALL)

Claims = dict[str, Callable[[], bool | str]]


def claims_of(study: str) -> Claims:
    """The functions of a study's `claims.py`."""
    module = importlib.import_module(f"studies.{study}.claims")
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }


def file_of(study: str) -> Path:
    """The findings of a study."""
    return records.FOLDER / study / "findings.md"


def section(study: str, heading: str) -> str:
    """What stands under a heading of a study's findings, without marks.

    Raises:
        KeyError: there is no such heading.
    """
    parts = re.split(r"^## (.*)$", file_of(study).read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return re.sub(r"(?<!\n)\n(?!\n|- )\s*", " ", MARK.sub("", found[heading]).strip())


def problems() -> list[str]:
    """What is wrong with the findings and with the pages that quote them; empty where all is well."""
    found: list[str] = []
    used: set[str] = set()
    for study in NAMES:
        if file_of(study).exists():
            text = file_of(study).read_text(encoding="utf-8")
            found += _wrong(text, f"studies/{study}/findings.md", study, used)
            found += [f"studies/{study}/findings.md: no mark in {_short(part)!r}" for part in _unmarked(text)]
    for page in (*sorted((records.ROOT / "docs").rglob("*.md")), records.ROOT / "README.md"):
        found += _wrong(page.read_text(encoding="utf-8"), str(page.relative_to(records.ROOT)), None, used)
    for study in NAMES:
        if file_of(study).exists():
            names = [f"{study}.{name}" for name in claims_of(study)]
            found += [f"{name}: no sentence names this claim" for name in names if name not in used]
    return found


def _wrong(text: str, page: str, study: str | None, used: set[str]) -> Iterator[str]:
    """Marks of a page that name nothing, or something that does not hold."""
    for match in MARK.finditer(text):
        kind, names = match.groups()
        before = _one_line(MARK.sub("", text[: match.start()]))
        for name in [] if kind == "unrecorded:" else re.split(r",\s*", names):
            whole = f"{study}.{name}" if study else name
            used.add(whole)
            problem = _problem(kind, whole, before)
            if problem:
                yield f"{page}: {problem}: {_short(_last_part(text, match.start()))!r}"


def _problem(kind: str, name: str, before: str) -> str | None:
    study, _, function = name.partition(".")
    claim = claims_of(study).get(function) if study in NAMES and file_of(study).exists() else None
    if claim is None:
        return f"there is no claim {name}"
    value = claim()
    if kind == "claim:":
        return None if value is True else f"{name} does not hold"
    if not isinstance(value, str):
        return f"{name} is not a number in words"
    expected = _one_line(value)
    whole_number = not re.search(r"[\d.,]\Z", before.removesuffix(expected))
    return None if before.endswith(expected) and whole_number else f"{name} is {value}"


def _one_line(text: str) -> str:
    """However its lines are broken."""
    return re.sub(r"\s+", " ", text)


def _parts(text: str) -> list[str]:
    """Paragraphs and points of lists; no headings, tables or pictures."""
    parts = re.split(r"\n\s*\n|\n(?=- )", text)
    return [part.strip() for part in parts if part.strip() and not part.strip().startswith(("#", "|", "!["))]


def _unmarked(text: str) -> list[str]:
    return [part for part in _parts(text) if not MARK.search(part)]


def _last_part(text: str, place: int) -> str:
    """The paragraph or point that holds a mark, up to its end."""
    start = max(text.rfind("\n\n", 0, place), text.rfind("\n- ", 0, place), 0)
    ends = [end for end in (text.find("\n\n", place), text.find("\n- ", place)) if end >= 0]
    return text[start : min(ends, default=len(text))].strip()


def _short(text: str) -> str:
    plain = " ".join(MARK.sub("", text).split())
    return plain if len(plain) <= 300 else plain[:300] + " ..."
