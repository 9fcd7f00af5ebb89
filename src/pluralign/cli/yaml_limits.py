"""Limits on the size of a config file or a flag's value, aliases expanded; checked before it is parsed.

YAML's aliases can make a few hundred bytes stand for billions of values, which is slow to convert and
endless to print. Values are counted here as if every alias were written out, in the graph of nodes, where
each of them is written once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["MOST_BYTES", "MOST_VALUES", "YamlLimitError", "check_file", "check_value"]

MOST_BYTES = 1_000_000
MOST_VALUES = 100_000


class YamlLimitError(ValueError):
    """A YAML text is too large to be a configuration."""


def check_file(path: str) -> None:
    """Checks a config file; one that cannot be read is left to the parser.

    Raises:
        YamlLimitError: it is too large, nested too deeply, or contains itself.
    """
    file = Path(path)
    if not file.is_file():
        return
    if file.stat().st_size > MOST_BYTES:
        raise YamlLimitError(f"the file has {file.stat().st_size:,} bytes; allowed: up to {MOST_BYTES:,}")
    check_value(file.read_text(encoding="utf-8", errors="replace"))


def check_value(text: str) -> None:
    """Checks a YAML text; one that is not YAML is left to the parser.

    Raises:
        YamlLimitError: it stands for too many values, is nested too deeply, or contains itself.
    """
    import yaml

    if len(text) < 100 and "&" not in text:  # as nearly all are
        return
    try:
        count = _count(yaml.compose(text, Loader=yaml.SafeLoader), {})
    except yaml.YAMLError:
        return
    except RecursionError:
        raise YamlLimitError("it is nested too deeply, or contains itself") from None
    if count > MOST_VALUES:
        raise YamlLimitError(
            f"with its aliases written out it has {count:,} values; allowed: up to {MOST_VALUES:,}"
            if count < 10**15
            else f"its aliases stand for more than 10^15 values; allowed: up to {MOST_VALUES:,}"
        )


def _count(node: Any, known: dict[int, int]) -> int:
    """Values below a node, itself included, with every alias written out."""
    if id(node) not in known:
        inside = getattr(node, "value", None)
        parts = inside if isinstance(inside, list) else []
        flat = [part for entry in parts for part in (entry if isinstance(entry, tuple) else (entry,))]
        known[id(node)] = 1 + sum(_count(part, known) for part in flat)
    return known[id(node)]
