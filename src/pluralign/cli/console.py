"""Terminal output: lines and tables on stderr, or one JSON object on stdout with --json."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["Console", "cut", "interval", "shown"]

_WIDTH = 100  # of tables that are not shown in a terminal
_WIDEST_CELL = 40


# What a terminal obeys instead of showing: control characters except line ends and tabs, marks that reverse
# text, Unicode's own line ends; and lone surrogates, which cannot be written.
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Console:
    """Prints for people, or for programs.

    Args:
        as_json: reserve stdout for one JSON object; everything else goes to stderr.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def say(self, line: str) -> None:
        """Prints one line about the progress of the command."""
        print(shown(line), file=sys.stderr, flush=True)

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Prints a table for people; prints nothing with --json, where `result` has the numbers."""
        if self.as_json:
            return
        from rich.console import Console as Rich
        from rich.table import Table

        grid = Table(header_style="dim", box=None, pad_edge=False, show_header=any(head))
        for i, name in enumerate(head):
            grid.add_column(_in_line(name), justify="left" if i == 0 else "right", no_wrap=True)
        for row in rows:
            grid.add_row(*[cut(_in_line(str(cell)), _WIDEST_CELL) for cell in row])
        rich = Rich(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH)
        rich.print(_in_line(title), style="bold", no_wrap=True, overflow="ellipsis")
        rich.print(grid)
        rich.print()

    def result(self, value: Any, line: str) -> None:
        """Prints the outcome: the JSON object with --json, otherwise one line on stdout."""
        if self.as_json:
            print(shown(json.dumps(value, allow_nan=False, ensure_ascii=False)))
        else:
            print(shown(line))


def shown(text: str) -> str:
    """The text with control characters written as `\\u001b`, so that it cannot control the terminal.

    Everything that is printed passes through here. JSON keeps its meaning, since such characters occur there
    only inside strings.
    """
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _in_line(text: str) -> str:
    return shown(text).replace("\n", "\\n").replace("\t", " ")


def cut(text: str, width: int) -> str:
    """The text, truncated with an ellipsis if it is too long for a cell."""
    return text if len(text) <= width else text[: width - 1] + "…"


def interval(value: dict[str, Any] | None, digits: int = 4) -> str:
    """An estimate with its interval, as `0.2514 [0.2480, 0.2549]`; two digits fewer from 10 on."""
    if value is None:
        return "-"
    digits = digits if abs(value["estimate"]) < 10 else max(0, digits - 2)
    if value["low"] is None:
        return f"{value['estimate']:.{digits}f}"
    return f"{value['estimate']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"
