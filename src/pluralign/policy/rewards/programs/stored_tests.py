"""Tests as data sets store them: JSON in a text, and APPS's arguments and results of a function.

In: the cell of a table. Out: the cell without its JSON, and calls as tests in Python.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from typing import Any

from pluralign.data.problems import preview
from pluralign.errors import DataError

__all__ = ["call_tests", "decoded"]


def decoded(cell: Any) -> Any:
    """A text that is a JSON list or object as what it says; anything else unchanged.

    >>> decoded('["assert f(1) == 2"]'), decoded("assert f(1) == 2")
    (['assert f(1) == 2'], 'assert f(1) == 2')
    """
    if not isinstance(cell, str) or cell.lstrip()[:1] not in ("[", "{"):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def call_tests(arguments: Sequence[Any], results: Sequence[Any]) -> list[str]:
    """A test in Python for each call of `candidate`, which compares as APPS does.

    A tuple counts as a list, and a result that is a list may also hold the expected value as its first
    element.

    Args:
        arguments: for each call a list of its arguments.
        results: for each call what it returns.

    Raises:
        DataError: arguments are not a list, or a value has no literal in Python (NaN).

    >>> call_tests([[1, 2]], [3])
    ['got = candidate(1, 2)\\nassert (list(got) if isinstance(got, tuple) else got) in [3]']
    """
    tests = []
    for number, (given, expected) in enumerate(zip(arguments, results, strict=True)):
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise DataError(
                f"tests: inputs[{number}] is {preview(given)}; allowed with fn_name: a list of arguments"
            )
        allowed = [expected, expected[0]] if isinstance(expected, list) and expected else [expected]
        call = ", ".join(_literal(value, number) for value in given)
        tests.append(
            f"got = candidate({call})\n"
            f"assert (list(got) if isinstance(got, tuple) else got) in {_literal(allowed, number)}"
        )
    return tests


def _literal(value: Any, number: int) -> str:
    text = repr(value)
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise DataError(
            f"tests: call {number} has {preview(value)}; allowed: values that JSON can hold, and finite "
            "numbers"
        ) from None
    return text
