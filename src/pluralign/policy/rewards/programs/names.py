"""Names that code binds and uses, and a walk through its tree that leaves out what holds none.

Tables of tests hold hundreds of long literals per row, so constants and operators are not visited.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator

__all__ = ["FUNCTIONS", "bound_and_used", "walk"]

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BASES = (ast.expr_context, ast.operator, ast.cmpop, ast.unaryop, ast.boolop)
_LEAVES = frozenset(kind for base in _BASES for kind in (base, *base.__subclasses__())) | {ast.Constant}


def walk(tops: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All nodes below and with these, in any order, except constants, operators and contexts."""
    work = list(tops)
    while work:
        node = work.pop()
        yield node
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, list):
                work += [one for one in value if isinstance(one, ast.AST) and type(one) not in _LEAVES]
            elif isinstance(value, ast.AST) and type(value) not in _LEAVES:
                work.append(value)


def bound_and_used(tops: Iterable[ast.AST], starred: Collection[str] = ()) -> tuple[set[str], set[str]]:
    """Names that the nodes bind anywhere in them, and names that they read.

    Args:
        tops: the nodes.
        starred: modules whose `from ... import *` is looked up.
    """
    bound: set[str] = set()
    used: set[str] = set()
    for node in walk(tops):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            if module in starred and any(alias.name == "*" for alias in node.names):
                bound |= set(dir(__import__(str(module), fromlist=["*"])))
            bound |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return bound, used
