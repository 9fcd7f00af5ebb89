"""Numbers of the source tree's structure, to compare two states of it.

    python docs/scripts/structure.py [FOLDER]        # the folder of the package; src/pluralign without one

Prints, one per line:

    files, lines   Python files, and their lines without blanks, comments and docstrings; also of each part
    largest        the file with the most lines, counted as an editor does
    parts, rooms   what lies directly in the package; folders with two files or more, at any depth
    arrows         pairs of parts where a file of one imports from the other; the same for the rooms of a part
    circles        groups of modules that import each other in a circle: when they run, and (in brackets) also
                   for type checkers alone
    repeated       runs of four statements or more that stand in two functions, up to names and literals

It uses only the standard library and does not import the package.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

_RUN = 4  # statements


def main(package: Path) -> None:
    """Prints the numbers of a package."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))}
    modules = {_module(path, package): path for path in trees}
    imports = {name: _imports(_running(trees[path]), modules) - {name} for name, path in modules.items()}
    every = {name: _imports(ast.walk(trees[path]), modules) - {name} for name, path in modules.items()}
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in trees}
    largest = max(sizes, key=lambda path: sizes[path])
    rooms = [path for path in package.rglob("*") if path.is_dir() and len(list(path.glob("*.py"))) > 1]
    print(f"files     {len(trees)}")
    lines: Counter[str] = Counter()
    for path, tree in trees.items():
        lines[path.relative_to(package).parts[0].removesuffix(".py")] += _code_lines(path, tree)
    print(f"lines     {lines.total()}")
    for part, count in sorted(lines.items()):
        print(f"  {part:18} {count}")
    print(f"largest   {largest.relative_to(package)} {sizes[largest]}")
    print(f"parts     {len({name.split('.')[1] for name in modules if '.' in name})}")
    print(f"rooms     {len(rooms)}")
    print(f"arrows    {len(_arrows(imports, 1))}")
    for part in sorted({name.split(".")[1] for name in modules if name.count(".") > 2}):
        inside = {
            name: found for name, found in imports.items() if name.startswith(f"{package.name}.{part}.")
        }
        known = {".".join(name.split(".")[:3]) for name in inside if name.count(".") > 2}
        print(f"  {part:12} {len(known)} rooms, {len(_arrows(inside, 2, known))} arrows")
    circles = _circles(every)
    print(f"circles   {len(_circles(imports))} ({len(circles)})")
    for circle in circles:
        print(f"  {', '.join(circle)}")
    repeated = _repeated(trees, package)
    print(f"repeated  {len(repeated)}")
    for places in repeated:
        print(f"  {', '.join(places)}")


def _module(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(nodes: Iterable[ast.AST], modules: dict[str, Path]) -> set[str]:
    """The modules of the package that these nodes import."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else node.module for name in below}
    return found & modules.keys()


def _running(node: ast.AST) -> list[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING:`."""
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return [below for each in node.orelse for below in _running(each)]
    return [node, *(below for each in ast.iter_child_nodes(node) for below in _running(each))]


def _code_lines(path: Path, tree: ast.AST) -> int:
    """Lines with code: no blanks, comments or docstrings."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING):
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and first.end_lineno:
                lines -= set(range(first.lineno, first.end_lineno + 1))
    return len(lines)


def _arrows(imports: dict[str, set[str]], depth: int, known: set[str] | None = None) -> set[tuple[str, str]]:
    """Pairs of folders at a depth; with `known`, among these and the rest as one."""

    def place(name: str) -> str:
        found = ".".join(name.split(".")[: depth + 1])
        return found if known is None or found in known else "."

    pairs = {(place(name), place(other)) for name, found in imports.items() for other in found}
    top = {name for name in imports if "." not in name}
    return {(a, b) for a, b in pairs if a != b and not {a, b} & top and (known is None or {a, b} <= {*known})}


def _circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected modules, after Tarjan."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in sorted(imports[name]):
            if other not in number:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == number[name]:
            place = stack.index(name)
            if len(stack) - place > 1:
                found.append(sorted(stack[place:]))
            del stack[place:]

    for name in imports:
        if name not in number:
            visit(name)
    return found


def _repeated(trees: dict[Path, ast.Module], package: Path) -> list[tuple[str, ...]]:
    """Places of runs of statements that have one shape; a longer run is counted once."""
    places: dict[str, set[str]] = defaultdict(set)
    for path, tree in trees.items():
        for node in _functions(tree):
            place = f"{path.relative_to(package)}:{node.name}"
            for block in _blocks(node):
                for start in range(len(block) - _RUN + 1):
                    places[_shape(block[start : start + _RUN])].add(place)
    return sorted({tuple(sorted(found)) for found in places.values() if len(found) > 1})


def _functions(node: ast.Module | ast.ClassDef) -> list[ast.FunctionDef]:
    """Functions and methods, with those inside them as a part of them."""
    within = [each for one in node.body if isinstance(one, ast.ClassDef) for each in _functions(one)]
    return [one for one in node.body if isinstance(one, ast.FunctionDef)] + within


def _blocks(function: ast.FunctionDef) -> list[list[ast.stmt]]:
    """Its lists of statements, without docstrings."""
    found = []
    for node in ast.walk(function):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                found.append([one for one in block if not _is_text(one)])
    return found


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _shape(statements: list[ast.stmt]) -> str:
    """Names numbered by their first use, literals left out."""
    names: dict[str, str] = {}

    def shape(node: object) -> str:
        if isinstance(node, ast.Name | ast.arg):
            name = node.id if isinstance(node, ast.Name) else node.arg
            return names.setdefault(name, f"n{len(names)}")
        if isinstance(node, ast.Constant):
            return "c"
        if isinstance(node, ast.AST):
            return f"{type(node).__name__}({','.join(shape(value) for _, value in ast.iter_fields(node))})"
        if isinstance(node, list):
            return f"[{','.join(map(shape, node))}]"
        return str(node)

    return shape(statements)


if __name__ == "__main__":
    root = Path(__file__).resolve().parents[2]
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else root / "src" / "pluralign")
