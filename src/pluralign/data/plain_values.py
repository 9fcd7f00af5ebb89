"""Converts table values from any library to plain Python, as a JSON file would contain.

In: a cell. Out: numbers, texts, lists and dicts.
"""

from __future__ import annotations

import decimal
import json
import re
from typing import Any

__all__ = ["number_in", "number_with_comma", "plain", "value_in"]

# As in JSON, with a sign, a point at either end, or the words that spreadsheets and Python write.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:nan|inf|infinity)", re.I)
# Not 1,000, which may be a thousand.
_DECIMAL_COMMA = re.compile(r"[+-]?(?:[0-9]+,(?:[0-9]{1,2}|[0-9]{4,})|0,[0-9]+)")


def plain(value: Any) -> Any:
    """Arrays and tuples as lists, array scalars and decimals as plain numbers, at any depth."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, decimal.Decimal):
        return float(value)
    return plain(value.tolist()) if hasattr(value, "tolist") else value


def number_in(text: str) -> float | None:
    """The number that a text denotes, None for any other text.

    Stricter than Python, which accepts "1_0" for 10 and digits of every script.

    >>> number_in(" 3."), number_in("1_0"), number_in("\uff13")
    (3.0, None, None)
    """
    text = text.strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def number_with_comma(text: str) -> float | None:
    """The number that a text with a decimal comma denotes, None for any other text.

    >>> number_with_comma("3,5"), number_with_comma("0,125"), number_with_comma("1,000")
    (3.5, 0.125, None)
    """
    text = text.strip()
    return float(text.replace(",", ".")) if _DECIMAL_COMMA.fullmatch(text) else None


def value_in(cell: str) -> Any:
    """The value of a cell without a type: JSON, a number in another notation, or its text."""
    for text in (cell, cell.lower()):  # True and NaN as other programs write them
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    number = number_in(cell)
    return cell if number is None else number
