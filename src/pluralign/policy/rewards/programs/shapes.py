"""The shapes in which data sets store tests of programs, converted to one.

In: the cell `tests` of a row, with `entry_point`, `setup` and `prefix` where the row has them. Out: a
`Suite`.

    ["assert f(1) == 2", ...]               each text is one test, independent of the others (MBPP)
    "assert f(1) == 2\\nassert ..."          statements in sequence; each that asserts is one test, as is
                                            each test of pytest or unittest that the text defines
    "def check(candidate): ..."             HumanEval and LeetCodeDataset: the statements of `check` likewise;
                                            `entry_point` ("f", "Solution().f") is what is checked
    [{"input": "1 2", "output": "3"}, ...]  scripts: what they read, and what they must print
    {"inputs": [...], "outputs": [...]}     the same (APPS)
    {"inputs", "outputs", "fn_name": "f"}   calls of a function: lists of arguments, and results (APPS)

Each of them may also be a text of JSON.

`setup` is code that tests and program both begin with (imports, `class ListNode`, MBPP's test_setup_code);
`prefix` is code that a completion may continue (HumanEval's prompt).
"""

from __future__ import annotations

import ast
import builtins
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pluralign.errors import DataError
from pluralign.policy.rewards.programs.defined_tests import as_script, must_test, runs_of
from pluralign.policy.rewards.programs.imports import must_be_importable, without_missing
from pluralign.policy.rewards.programs.names import FUNCTIONS, bound_and_used, walk
from pluralign.policy.rewards.programs.stored_tests import call_tests, decoded

__all__ = ["Suite", "read_tests"]

_SHAPES = (
    "a list of texts with assertions, one text of assertions or with `def check(candidate)`, a list of "
    "{'input', 'output'}, or {'inputs': [...], 'outputs': [...]} with or without 'fn_name'"
)
# Modules that tests use without importing them, where programs usually do.
_MODULES = frozenset(
    (
        *("math", "cmath", "re", "collections", "itertools", "functools", "operator", "string", "random"),
        *("heapq", "bisect", "copy", "datetime", "decimal", "fractions", "statistics", "json", "typing"),
        *("numbers", "sys"),
    )
)


@dataclass(frozen=True)
class Suite:
    """The tests of one row.

    Attributes:
        tests: code, and whether it counts as a test or only prepares the next.
        names: what tests ask the program for.
        candidate: parameter of a check and the expression that it stands for.
        together: whether statements see what those before them have bound.
        setup: code that both sides begin with.
        judge_setup: further code of the tests alone.
        classes: classes of the setup, whose instances go back and forth.
        prefix: code that a completion may continue.
        scripts: input and output of scripts; empty where functions are tested.
    """

    tests: tuple[tuple[str, bool], ...] = ()
    names: tuple[str, ...] = ()
    candidate: tuple[str, str] | None = None
    together: bool = False
    setup: str = ""
    judge_setup: str = ""
    classes: tuple[str, ...] = ()
    prefix: str = ""
    scripts: tuple[tuple[str, str], ...] = field(default=())

    @property
    def count(self) -> int:
        """Number of tests."""
        return len(self.scripts) or sum(counts for _, counts in self.tests)

    def describe(self) -> dict[str, Any]:
        """All that decides results, JSON-able."""
        return asdict(self)


def read_tests(
    cell: Any, entry_point: str | None = None, setup: str | None = None, prefix: str | None = None
) -> Suite:
    """The tests of a row.

    Args:
        cell: one of the shapes above.
        entry_point: what a check is of, an expression.
        setup: code that both sides begin with.
        prefix: code that a completion may continue.

    Raises:
        DataError: another shape, no tests, or tests that are not valid Python.
    """
    setup, prefix = setup or "", prefix or ""
    cell = decoded(cell)
    function = cell.get("fn_name") if isinstance(cell, Mapping) else None
    if isinstance(cell, Mapping) and cell.get("inputs") is not None:
        inputs, outputs = list(cell["inputs"]), list(cell.get("outputs") or ())
        if len(inputs) != len(outputs):
            raise DataError(
                f"tests: {len(inputs)} inputs and {len(outputs)} outputs; their numbers must be equal"
            )
        if function and inputs:
            calls = call_tests(inputs, outputs)
            bodies = [(ast.parse(call).body, True) for call in calls]
            entry = _expression(entry_point or function)
            return _suite(bodies, [], ("candidate", entry), False, setup, prefix)
        cell = [{"input": given, "output": wanted} for given, wanted in zip(inputs, outputs, strict=True)]
    if isinstance(cell, str):
        return _code(cell, entry_point, setup, prefix)
    if isinstance(cell, Sequence) and cell:
        if all(isinstance(test, Mapping) for test in cell):
            return Suite(
                setup=_prepared(setup)[0], prefix=prefix, scripts=tuple(_script(test) for test in cell)
            )
        if all(isinstance(test, str) for test in cell):
            if len(cell) == 1 and "def check(" in cell[0]:
                return _code(cell[0], entry_point, setup, prefix)
            trees = [_parse(test, f"test {number}") for number, test in enumerate(cell)]
            bodies = [(_run(tree, f"test {number}"), True) for number, tree in enumerate(trees)]
            return _suite(bodies, [], None, False, setup, prefix)
    if isinstance(cell, Sequence | Mapping) and not cell:
        raise DataError("tests: the list is empty, so there is no share to pass; leave the row out")
    raise DataError(f"tests: received {type(cell).__name__}; allowed: {_SHAPES}")


def _script(test: Mapping[str, Any]) -> tuple[str, str]:
    given, wanted = test.get("input"), test.get("output")
    given = "" if given is None else given
    if not isinstance(given, str) or not isinstance(wanted, str):
        raise DataError("tests: input and output of a script must be texts (output: what it must print)")
    return given, wanted


def _parse(code: str, what: str) -> ast.Module:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise DataError(f"tests: {what} is not valid Python ({error}): {code[:80]!r}") from None


def _run(tree: ast.Module, what: str) -> list[ast.stmt]:
    """The statements of one test, with those that run what it only defines."""
    body = as_script(tree.body)
    body += [statement for run, _ in runs_of(body, what) for statement in run]
    must_test(body, what)
    return body


def _expression(entry_point: Any) -> str:
    """The entry point, if it is one."""
    try:
        ast.parse(entry_point, mode="eval")
    except (SyntaxError, ValueError, TypeError):
        raise DataError(
            f"entry_point is {entry_point!r}; allowed: an expression such as 'Solution().f'"
        ) from None
    return str(entry_point)


def _code(code: str, entry_point: str | None, setup: str, prefix: str) -> Suite:
    """Tests in one text, with or without a check function."""
    tree = _parse(code, "the text")
    checks = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "check"]
    if not checks:
        _run(tree, "the text")
        statements = as_script(tree.body)
        counted = _counted(statements, statements, runs_of(statements, "the text"))
        return _suite(counted, [], None, True, setup, prefix)
    must_test(checks[-1].body, "check")
    check = checks[-1]
    others: list[ast.stmt] = []
    for node in tree.body:
        call = node.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
        if call is not None and isinstance(call.func, ast.Name) and call.func.id == "check":
            if call.args and entry_point is None:
                entry_point = ast.unparse(call.args[0])
        elif node is not check:
            others.append(node)
    if entry_point is None or not check.args.args:
        raise DataError(
            "tests: `check` needs to know what it checks: a column entry_point ('f' or 'Solution().f'), or a "
            "call `check(f)` at the end of the tests"
        )
    _expression(entry_point)
    returns = [
        n for n in ast.walk(check) if isinstance(n, ast.Return | ast.Global | ast.Nonlocal | ast.Yield)
    ]
    parameter = check.args.args[0].arg
    if returns:  # only as a function does it mean what it says
        body: list[tuple[list[ast.stmt], bool]] = [(ast.parse(f"check({parameter})").body, True)]
        others.append(check)
    else:
        body = _counted(check.body, tree.body)
    return _suite(body, others, (parameter, entry_point), True, setup, prefix)


def _counted(
    statements: Sequence[ast.stmt],
    around: Iterable[ast.stmt],
    runs: Sequence[tuple[list[ast.stmt], bool]] = (),
) -> list[tuple[list[ast.stmt], bool]]:
    """Each statement, and whether it is a test: it asserts, itself or by a function of the tests."""
    asserting = {
        n.name for n in around if isinstance(n, FUNCTIONS) and _asserts(n, set()) and n.name != "check"
    }
    defines = (*FUNCTIONS, ast.ClassDef)
    found = [([s], not isinstance(s, defines) and _asserts(s, asserting)) for s in statements]
    found += runs
    return found if any(counts for _, counts in found) else [(list(statements), True)]


def _asserts(node: ast.AST, asserting: set[str]) -> bool:
    for inner in walk([node]):
        if isinstance(inner, ast.Assert | ast.Raise):
            return True
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id in asserting:
            return True
    return False


def _suite(
    tests: list[tuple[list[ast.stmt], bool]],
    others: list[ast.stmt],
    candidate: tuple[str, str] | None,
    together: bool,
    setup: str,
    prefix: str,
) -> Suite:
    begin, of_setup, classes, missing = _prepared(setup)
    entry = [ast.parse(candidate[1], mode="eval").body] if candidate else []
    nodes: list[ast.AST] = [*(s for body, _ in tests for s in body), *others]
    bound, used = bound_and_used([*nodes, *entry], _MODULES)
    bound |= of_setup | ({candidate[0]} if candidate else set())
    free = used - bound - set(dir(builtins))
    modules = sorted(free & _MODULES)
    names = free - set(modules)
    must_be_importable(nodes, used, missing)
    if not names:  # a program that is asked for by the name of a built-in function
        called = [bound_and_used(body)[1] & set(dir(builtins)) for body, counts in tests if counts]
        names = set.intersection(*called) - bound if called else set()
    imports = "".join(f"import {name}\n" for name in modules)
    return Suite(
        tests=tuple((_unparse(body), counts) for body, counts in tests),
        names=tuple(sorted(names)),
        candidate=candidate,
        together=together,
        setup=begin,
        judge_setup=imports + _unparse(others),
        classes=classes,
        prefix=prefix,
    )


@functools.lru_cache(maxsize=64)
def _prepared(setup: str) -> tuple[str, frozenset[str], tuple[str, ...], dict[str, str]]:
    """A setup that runs here, names that it binds, its classes, and names of packages that are not here."""
    tree = _parse(setup, "setup")
    classes = tuple(node.name for node in tree.body if isinstance(node, ast.ClassDef))
    text, missing = without_missing(tree, setup)
    return text, frozenset(bound_and_used([tree], _MODULES)[0]), classes, missing


def _unparse(statements: Sequence[ast.stmt]) -> str:
    return ast.unparse(ast.Module([_InPlace().visit(statement) for statement in statements], []))


class _InPlace(ast.NodeTransformer):
    """Calls that are statements of their own may be there for what they do to their arguments."""

    def visit(self, node: ast.AST) -> Any:
        return node if isinstance(node, ast.expr) else super().visit(node)  # no statement is in one

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return self._call(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        return self._call(node)

    def _call(self, node: Any) -> ast.AST:
        if isinstance(node.value, ast.Call):
            marked = ast.Call(ast.Name("__in_place__", ast.Load()), [node.value.func], [])
            node.value = ast.Call(marked, node.value.args, node.value.keywords)
        return node  # type: ignore[no-any-return]
