"""The settings that a class declares itself, read from its source: for a help text without its imports.

In: a module of this package and the name of a dataclass in it. Out: a dataclass with the same own fields,
defaults and docstring, and none of its behaviour. `pluralign align --help` would import transformers, which
takes seconds, to list a configuration of which most is transformers' own.
"""

from __future__ import annotations

import ast
import dataclasses
from importlib.resources import files
from typing import Any, Literal

__all__ = ["declared"]


def declared(module: str, name: str) -> type:
    """A dataclass of the fields that a class declares itself.

    Args:
        module: where it is, as `pluralign.policy.offline.config`; it is not imported.
        name: of the class; annotations and defaults of its fields are literals, `Literal`s and unions of
            built-in types.

    Raises:
        LookupError: there is no such class.
    """
    top, *parts = module.split(".")
    source = files(top).joinpath(*parts[:-1], f"{parts[-1]}.py").read_text(encoding="utf-8")
    found = [n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == name]
    if not found:
        raise LookupError(f"{module} has no class {name}")
    own = [
        (node.target.id, _type(node.annotation), dataclasses.field(default=ast.literal_eval(node.value)))
        if node.value is not None
        else (node.target.id, _type(node.annotation))
        for node in found[0].body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    return dataclasses.make_dataclass(name, own, namespace={"__doc__": ast.get_docstring(found[0])})


def _type(annotation: ast.expr) -> Any:
    """The type that an annotation of built-in types names."""
    return eval(ast.unparse(annotation), {"Literal": Literal})
