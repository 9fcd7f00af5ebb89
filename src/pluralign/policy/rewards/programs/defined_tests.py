"""Tests that a text defines and does not run, as people write them for pytest and unittest.

In: the statements of a text. Out: statements that run it as a script, and one more for each test that it
only defines. What cannot be run here is refused: a test that is never run is one that every program passes.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from pluralign.errors import DataError
from pluralign.policy.rewards.programs.names import FUNCTIONS

__all__ = ["as_script", "must_test", "runs_of"]

_GUARDS = ("__name__ == '__main__'", "'__main__' == __name__")
_RUNNERS = ("unittest.main", "pytest.main", "TextTestRunner", "TestLoader", "TestSuite", "makeSuite")


def as_script(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements with what is guarded by `if __name__ == "__main__"`, without those of a test runner."""
    found: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test) in _GUARDS:
            found += as_script(node.body)
        elif not (isinstance(node, ast.Expr | ast.Assign) and any(r in ast.unparse(node) for r in _RUNNERS)):
            found.append(node)
    return found


def runs_of(body: Sequence[ast.stmt], what: str) -> list[tuple[list[ast.stmt], bool]]:
    """Statements that run the tests which the body defines and never calls, and whether they are tests.

    Args:
        body: of the text, as a script.
        what: the text, in messages.

    Raises:
        DataError: such a test takes arguments or is asynchronous.
    """
    loaded = {node.id for node in _executed(body) if isinstance(node, ast.Name)}
    found: list[tuple[list[ast.stmt], bool]] = []
    for node in body:
        if isinstance(node, FUNCTIONS) and node.name.startswith("test") and node.name not in loaded:
            _must_run(node, len(node.args.args) - len(node.args.defaults), what)
            found.append((ast.parse(f"{node.name}()").body, True))
        elif isinstance(node, ast.ClassDef) and node.name not in loaded:
            of_unittest = any(ast.unparse(base).endswith("TestCase") for base in node.bases)
            if of_unittest and any(isinstance(m, FUNCTIONS) and m.name == "setUpClass" for m in node.body):
                found.append((ast.parse(f"{node.name}.setUpClass()").body, False))
            for method in node.body if of_unittest or node.name.startswith("Test") else []:
                if isinstance(method, FUNCTIONS) and method.name.startswith("test"):
                    _must_run(method, len(method.args.args) - len(method.args.defaults) - 1, what)
                    run = f"('{method.name}').debug()" if of_unittest else f"().{method.name}()"
                    found.append((ast.parse(node.name + run).body, True))
    return found


def _must_run(node: ast.FunctionDef | ast.AsyncFunctionDef, needed: int, what: str) -> None:
    if needed > 0 or isinstance(node, ast.AsyncFunctionDef):
        why = "takes arguments" if needed > 0 else "is asynchronous"
        raise DataError(
            f"tests: {what} defines {node.name}, which {why} and is called by nothing; allowed: functions "
            "that take no arguments, a call, or `def check(candidate)`"
        )


def must_test(body: Sequence[ast.stmt], what: str) -> None:
    """Rejects code that every program would pass."""
    if not any(isinstance(node, ast.Assert | ast.Raise | ast.Call) for node in _executed(body)):
        raise DataError(f"tests: {what} neither asserts nor calls anything, so every program would pass it")


def _executed(body: Sequence[ast.stmt]) -> list[ast.AST]:
    """What runs when the statements do: nothing inside of definitions."""
    found: list[ast.AST] = []
    work: list[ast.AST] = list(body)
    while work:
        node = work.pop()
        if isinstance(node, (*FUNCTIONS, ast.Lambda)):
            continue
        if isinstance(node, ast.ClassDef):
            work += [n for n in node.body if not isinstance(n, FUNCTIONS)]
            continue
        found.append(node)
        work += ast.iter_child_nodes(node)
    return found
