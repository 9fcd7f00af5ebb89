"""Names that are imported when first used are visible to type checkers, one by one."""

from __future__ import annotations

import ast
import importlib
import inspect
from types import ModuleType

import pytest

LAZY = ["pluralign", "pluralign.policy"]


def shown_to_checkers(module: ModuleType) -> dict[str, str]:
    """name -> module that `if TYPE_CHECKING:` imports it from."""
    tree = ast.parse(inspect.getsource(module))
    blocks = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    assert len(blocks) == 1
    return {
        alias.name: str(node.module)
        for node in blocks[0].body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("name", LAZY)
def test_lazy_names_are_the_shown_ones(name):
    module = importlib.import_module(name)
    shown = shown_to_checkers(module)
    lazy = {key: f"{name}.{place}" for key, place in module._NAMES.items()}
    packages = {key: name for key in module.__all__ if key not in lazy and not key.startswith("__")}
    assert shown == lazy | packages


@pytest.mark.parametrize("name", LAZY)
def test_checkers_see_a_misspelt_name(name):
    """`__getattr__` is hidden from them: with it in sight every name exists and has the type Any."""
    tree = ast.parse(inspect.getsource(importlib.import_module(name)))
    assert "__getattr__" not in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


@pytest.mark.parametrize("name", LAZY)
def test_public_names_are_written_out(name):
    """A computed `__all__` is opaque to checkers."""
    tree = ast.parse(inspect.getsource(importlib.import_module(name)))
    (value,) = [
        n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"
    ]
    assert ast.literal_eval(value) == importlib.import_module(name).__all__
