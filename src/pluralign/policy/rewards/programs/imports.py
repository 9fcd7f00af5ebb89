"""Imports of tests and their setup: the sandbox has the standard library alone.

In: statements. Out: a refusal of tests that need more, which no program could pass; or a setup without what
is missing, since data sets import for all their programs what a few of them use (LeetCodeDataset's
`from sortedcontainers import SortedList`).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping, Set

from pluralign.errors import DataError

__all__ = ["must_be_importable", "without_missing"]

_ALIASES = {"np": "numpy", "pd": "pandas", "plt": "matplotlib"}  # of tests that leave the import to programs
_OTHERS = frozenset(("numpy", "pandas", "pytest", "scipy", "torch", "sympy", "sklearn", *_ALIASES))


def must_be_importable(tests: Iterable[ast.AST], used: Set[str], missing: Mapping[str, str]) -> None:
    """Rejects tests that need more than the standard library.

    Args:
        tests: their statements.
        used: what they read.
        missing: of their setup, as `without_missing` finds it.

    Raises:
        DataError: they do; the message names the packages.
    """
    needed = {_ALIASES.get(name, name) for name in used & _OTHERS}
    needed |= {missing[name] for name in used & missing.keys()}
    for node in _imports(tests):
        needed |= _packages(node)
    needed -= sys.stdlib_module_names
    if needed:
        raise DataError(
            f"tests: they need {', '.join(sorted(needed)) or 'a package around them'}; allowed: the "
            "standard library. Names that the program defines need no import"
        )


def without_missing(setup: ast.Module, text: str) -> tuple[str, dict[str, str]]:
    """The setup where imports of other packages may fail, and the names that they bind -> the package.

    Args:
        setup: its tree.
        text: its source, which is what comes out where nothing is missing.
    """
    missing: dict[str, str] = {}
    body: list[ast.stmt] = []
    for node in setup.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            others = sorted(_packages(node) - sys.stdlib_module_names)
            if others:
                missing |= {(one.asname or one.name).split(".")[0]: others[0] for one in node.names}
                node = ast.parse(f"try:\n    {ast.unparse(node)}\nexcept ImportError:\n    pass").body[0]
        body.append(node)
    return ast.unparse(ast.Module(body, [])) if missing else text, missing


def _imports(tops: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports in trees, without those that may fail."""
    work = list(tops)
    while work:
        node = work.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not isinstance(node, ast.Try | ast.expr):
            work += ast.iter_child_nodes(node)


def _packages(node: ast.Import | ast.ImportFrom) -> set[str]:
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]}
    return {alias.name.partition(".")[0] for alias in node.names}
