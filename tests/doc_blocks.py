"""The code blocks of a Markdown page, and how each language is run.

A block is run unless the line before it is `<!-- not run: reason -->`. Python blocks of a page share one
namespace, in order; of shell blocks the `pluralign` commands run in this process. `console` blocks are
commands with what they print.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GENERATED = ("docs/results.md", "docs/decisions/", "docs/changelog.md", "docs/reference/")
LANGUAGES = {"python", "bash", "sh", "json", "console", "text"}


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    code: str
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Hand-written pages, relative to the root."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    names = [page.relative_to(ROOT).as_posix() for page in found]
    return [name for name in names if not name.startswith(GENERATED)]


def blocks(page: str) -> Iterator[Block]:
    """Its fenced blocks, in order."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    start: int | None = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        marker = re.fullmatch(r"<!-- not run: (.+) -->", lines[start - 1]) if start else None
        code = "\n".join(lines[start + 1 : number])
        yield Block(page, start + 1, lines[start][3:].strip(), code, marker[1] if marker else None)
        start = None
    assert start is None, f"{page}:{start} opens a block and does not close it"


def shell_lines(code: str) -> list[str]:
    """The commands of a shell block; comments are gone, continued lines are joined."""
    joined = re.sub(r"\s*\\\n\s*", " ", code)
    return [
        line for line in (re.split(r"(?:^|\s)#", line)[0].strip() for line in joined.splitlines()) if line
    ]


def console_commands(code: str) -> list[tuple[str, str]]:
    """(command, what it printed) of a console block; a command may be long, its output is the rest."""
    parts = re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]
    return [(part.split("\n", 1)[0], part.split("\n", 1)[1] if "\n" in part else "") for part in parts]


def run_python(block: Block, namespace: dict[str, Any]) -> None:
    """Executes it; a traceback shows page and line."""
    padded = "\n" * block.line + block.code
    exec(compile(padded, str(ROOT / block.page), "exec", dont_inherit=True), namespace)


def run_shell(block: Block, shorter: Mapping[str, str] | None = None) -> None:
    """Runs its `pluralign` commands; what it asks of make or an installer must exist.

    Args:
        block: of a shell.
        shorter: how commands begin -> flags that make them short.
    """
    from pluralign.cli.main import main

    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in shell_lines(block.code):
        program, *words = shlex.split(line)
        if program == "pluralign":
            for start, flags in (shorter or {}).items():
                words += flags.split() if line.startswith(f"pluralign {start}") else []
            assert main(words) == 0, f"{block}: {line}"
        elif program == "make":
            assert set(words) <= targets, f"{block}: the Makefile has no such target: {line}"
        elif program == "python":
            assert (ROOT / words[0]).is_file(), f"{block}: no such script: {line}"
        else:
            assert program in {"pip", ".venv/bin/pre-commit"}, f"{block}: nobody runs {program!r}; say why"


def run_json(block: Block) -> None:
    """Each object is JSON."""
    json.loads(block.code)
