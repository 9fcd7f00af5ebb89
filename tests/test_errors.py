"""Errors and warnings: the tree in the docstring is that of the classes."""

from __future__ import annotations

import re

from pluralign import errors

_LINE = re.compile(r"((?:│   |    )*)(?:[├└]── )?(\w+)(?: \((\w+)\))?(?: +(\w.*))?")


def drawn() -> dict[str, tuple[str | None, str | None]]:
    """Of each name in the docstring the name above it, and the built-in type beside it."""
    found: dict[str, tuple[str | None, str | None]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if not line.startswith("    "):
            continue
        match = _LINE.fullmatch(line[4:])
        assert match, f"out of shape: {line}"
        depth = len(match[1]) // 4 + ("── " in line)
        above[depth:] = [match[2]]
        found[match[2]] = (above[depth - 1] if depth else None, match[3])
        assert bool(match[4]) == bool(depth), f"says nothing: {line}"
    return found


def test_the_tree_in_the_docstring_is_that_of_the_classes():
    kinds = {
        k.__name__: k
        for k in vars(errors).values()
        if isinstance(k, type) and k.__module__ == errors.__name__
    }
    tree = drawn()
    assert tree.keys() == kinds.keys()
    for name, (above, built_in) in tree.items():
        bases = {base.__name__ for base in kinds[name].__bases__}
        if above is None:
            assert bases <= {"Exception", "UserWarning"}
        else:
            assert bases == {above} | ({built_in} if built_in else set())
