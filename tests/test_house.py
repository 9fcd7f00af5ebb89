"""The layout keeps its promises: imports point one way, names are the documented ones, imports stay light."""

from __future__ import annotations

import ast
import functools
import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import pluralign as pl

SOURCE = Path(pl.__file__).parent

_BELOW_ALL = ("checks", "digests", "precision", "warning_signs")
# What each part may import of the package, beside itself. DESIGN: data flows one way.
_MODELS = {"errors", "files", "distributions", "risk", "data", "conversations", "backbones", "heads", "model"}
_ABOVE = _MODELS | {"_version", "rank_correlation", "families", "losses", "fitting", "training"}
ALLOWED = {
    "_version": set(),
    "errors": set(),
    "files": {"errors"},
    "checks": {"errors"},
    "digests": {"errors"},
    "precision": set(),
    "hosts": set(),
    "rank_correlation": {"errors"},
    "warning_signs": set(),
    "smoothed_density": set(),
    "run_layout": set(),
    "families": set(),  # names what it stands for as texts, so it lies below all
    "distributions": {"errors"},
    "losses": {"errors"},
    "solvers": {"errors"},
    "risk": {"errors", "distributions"},
    "data": {"errors", "files"},
    "conversations": {"errors", "data"},
    "backbones": {"errors", "files", "conversations", "training"},
    "heads": {"errors", "files", "families", "distributions"},
    "model": (_MODELS - {"model"}) | {"_version", "run_layout"},
    "training": {"errors", "files"},  # of policies and of backbones: how, not what
    "fitting": (_MODELS - {"risk"}) | {"rank_correlation", "families", "losses", "solvers", "training"},
    "evaluation": _ABOVE,
    "policy": (_ABOVE - {"families", "fitting"}) | {"hosts"},
    "report": {"errors", "files", "families", "smoothed_density"},
    "integrations": {"errors", "distributions", "risk", "data", "model"},
    "server": _MODELS | {"_version", "hosts", "run_layout", "policy", "smoothed_density"},
    "engines": _ABOVE | {"policy", "run_layout"},
    "lab": _ABOVE | {"policy", "evaluation"},
    "cli": _ABOVE | {"hosts", "run_layout", "policy", "evaluation", "report", "lab", "server", "engines"},
}


# What the rooms of a part may import of each other; a file outside any room is room ".".
ROOMS = {
    "policy": {
        "logprobs": set(),
        "sampling": {"logprobs"},
        "rewards": {"logprobs", "sampling"},
        "judges": {"sampling", "rewards"},
        "selection": {"sampling", "rewards"},
        "training": set(),
        "offline": {"logprobs", "sampling", "rewards", "training"},
        "online": {"logprobs", "sampling", "rewards", "training"},
        ".": {
            "logprobs",
            "sampling",
            "rewards",
            "judges",
            "selection",
            "training",
            "offline",
            "online",
        },  # the public names
    },
    "fitting": {
        "train": set(),
        "tables": {"train"},
        "mix": {"train", "tables"},
        "tuning": {"train", "tables"},
        "linear": {"train", "tables", "mix", "tuning"},
        "categorical": {"train", "tables", "mix", "linear", "tuning"},
        "ensemble": {"train", "tables", "mix", "linear", "tuning"},
        ".": {"train", "tables", "mix", "tuning", "linear", "categorical", "ensemble"},
    },
}


class Facts(NamedTuple):
    """What the tests ask of a file; its syntax tree is far larger."""

    opening: str
    imports: list[tuple[str | None, int, list[str]]]  # module of `from`, its dots, names
    asked: set[str]
    families: set[str]


@functools.cache
def facts_of(path: Path) -> Facts:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    imports = [
        (node.module or "", node.level, [a.name for a in node.names])
        if isinstance(node, ast.ImportFrom)
        else (None, 0, [a.name for a in node.names])
        for node in nodes
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    asked = {one for node in nodes for one in asked_classes(node)}
    return Facts(ast.get_docstring(tree) or "", imports, asked, family_words(nodes))


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """Parts of the package that a file imports anywhere, also inside functions."""
    names = imported_modules(path)
    return {n.split(".")[1] for n in names if n.startswith("pluralign.")}


def imported_modules(path: Path, files: Collection[str] = ()) -> set[str]:
    """Modules that a file imports anywhere, also inside functions; with `files`, those of packages too."""
    found: set[str] = set()
    for module, level, names in facts_of(path).imports:
        assert level == 0, f"{path}: imports are absolute"
        if module is None:
            found |= set(names)
            continue
        below = [f"{module}.{name}" for name in names]
        inside = module == "pluralign" or any(name in files for name in below)
        found |= set(below if inside else [module])
    return found


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_imports_point_one_way(part):
    files = [p for p in SOURCE.rglob("*.py") if part_of(p) == part]
    assert files, f"no files in {part}"
    for path in files:
        extra = imported_parts(path) - ALLOWED[part] - {part, *_BELOW_ALL}
        assert not extra, f"{path.relative_to(SOURCE)} imports {sorted(extra)}, which {part} must not know"


@pytest.mark.parametrize("part", sorted(ROOMS))
def test_rooms_know_only_those_before_them(part):
    folder = SOURCE / part
    rooms = {p.name for p in folder.iterdir() if (p / "__init__.py").exists()} | {"."}
    assert rooms == set(ROOMS[part])
    for path in folder.rglob("*.py"):
        room = path.relative_to(folder).parts[0] if path.parent != folder else "."
        for name in imported_modules(path):
            if name.startswith(f"pluralign.{part}."):
                other = name.split(".")[2]
                other = other if other in rooms else "."
                assert other == room or other in ROOMS[part][room], (
                    f"{path.relative_to(SOURCE)} imports {name}"
                )


# Where a family may be named: its head, its recipe and config, and the table.
OF_FAMILIES = (
    "families.py",
    "heads/",
    "fitting/config.py",
    "fitting/linear/",
    "fitting/categorical/",
    "fitting/ensemble/",
)
# Words that are also something else there.
HOMONYMS = {
    "losses/__init__.py": {"bradley_terry"},  # the formula
    "losses/preference.py": {"bradley_terry"},
    "model/export/classifier.py": {"regression"},  # a problem type of transformers
    "report/pictures.py": {"quantile"},  # of a distribution
    "risk/measures.py": {"quantile"},
    "server/explorer/choices.py": {"quantile"},  # the measure
}


def asked_classes(node: ast.AST) -> set[str]:
    """Names of the classes that an expression or pattern asks an object about."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        about = node.args[1:] if node.func.id in ("isinstance", "issubclass") else []
    elif isinstance(node, ast.MatchClass):
        about = [node.cls]
    elif isinstance(node, ast.Compare):  # type(x) is C
        about = [node.left, *node.comparators]
    else:
        about = []
    parts = [part for one in about for part in ast.walk(one)]
    return {p.id for p in parts if isinstance(p, ast.Name)} | {
        p.attr for p in parts if isinstance(p, ast.Attribute)
    }


def family_words(nodes: list[ast.AST]) -> set[str]:
    """Names of families in the texts of a file, docstrings apart.

    `quantile` and the like are words of the language, so they count only where they are the whole text.
    """
    own = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {id(n.body[0].value) for n in nodes if isinstance(n, own) and ast.get_docstring(n)}
    texts = [
        n.value
        for n in nodes
        if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docs
    ]
    return {
        name
        for name in pl.families.FAMILIES
        if name in texts
        or ("_" in name and any(name in text and re.search(rf"\b{name}\b", text) for text in texts))
    }


def test_only_a_familys_own_files_and_the_table_name_it():
    distributions = set(pl.distributions.__all__) - {"RewardDistribution"}
    heads = {name for name in pl.heads.__all__ if name.endswith("Head") and name != "Head"}
    assert {"Point", "Categorical"} < distributions
    assert {"CategoricalHead", "MixedHead"} < heads
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        facts = facts_of(path)
        if not name.startswith(("distributions/", "heads/")):
            found = facts.asked & (distributions | heads)
            assert not found, f"{name} asks whether something is a {sorted(found)}; ask it what it can do"
        if not name.startswith(OF_FAMILIES):
            found = facts.families - HOMONYMS.get(name, set())
            assert not found, f"{name} names the families {sorted(found)}; ask the head or pluralign.families"


@pytest.mark.parametrize(
    ("code", "classes", "words"),
    [
        ("if isinstance(law, (Point, pl.Empirical)): pass", {"Point", "pl", "Empirical"}, set()),
        ("match law:\n    case Categorical(): pass", {"Categorical"}, set()),
        ("type(law) is Quantiles", {"type", "law", "Quantiles"}, set()),
        ("if family == 'quantile': pass", {"family"}, {"quantile"}),
        ("f'{x}: use bradley_terry for pairs'", set(), {"bradley_terry"}),
        ('"""Of bradley_terry and `quantile`."""\nx = "the quantile of fit_bradley_terry"', set(), set()),
    ],
)
def test_the_search_for_names_of_families_finds_them(code, classes, words):
    nodes = list(ast.walk(ast.parse(code)))
    assert {one for node in nodes for one in asked_classes(node)} == classes
    assert family_words(nodes) == words


def test_no_circles():
    """Also not of imports inside functions, or for the type checker alone."""
    files = {module_of(path): path for path in SOURCE.rglob("*.py")}
    ahead = {
        name: {found for found in imported_modules(path, files) if found in files and found != "pluralign"}
        for name, path in files.items()
    }
    while free := {name for name, others in ahead.items() if not others & ahead.keys() - {name}}:
        ahead = {name: others for name, others in ahead.items() if name not in free}
    assert not ahead, f"import each other, or stand between such: {sorted(ahead)}"


def module_of(path: Path) -> str:
    parts = ("pluralign", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def test_every_part_has_a_rule():
    parts = {part_of(p) for p in SOURCE.rglob("*.py")} - {"__init__"}
    assert parts == set(ALLOWED)


def test_documented_names_exist():
    for name in pl.__all__:
        assert getattr(pl, name) is not None
    assert sorted(pl.__all__) == dir(pl)
    with pytest.raises(AttributeError, match="no attribute 'Quantile'"):
        _ = pl.Quantile


def test_public_modules_export_what_they_list():
    import importlib

    for part in ALLOWED:
        module = importlib.import_module(f"pluralign.{part}")
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"pluralign.{part} lists {name!r} and does not have it"


def test_light_things_import_nothing_heavy():
    """One after the other in one process: what is absent after the last was not imported by the first."""
    steps = [
        ("import pluralign", ["torch", "transformers", "datasets", "numpy"]),
        ("import pluralign.cli.main", ["torch", "transformers", "datasets", "numpy"]),
        (
            "from pluralign.cli.main import main; main(['fit', '--help'])",
            ["torch", "transformers", "datasets"],
        ),
        ("import pluralign as pl; pl.Quantiles", ["transformers", "datasets", "scipy", "pandas"]),
    ]
    code = "import sys\n"
    for statement, absent in steps:
        code += f"try:\n    {statement}\nexcept SystemExit:\n    pass\n"
        code += f"print({statement!r}, [m for m in {absent!r} if m in sys.modules], file=sys.stderr)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for statement, _ in steps:
        assert f"{statement} []" in done.stderr.splitlines(), done.stderr


def test_every_file_says_what_it_is():
    for path in SOURCE.rglob("*.py"):
        assert len(facts_of(path).opening) > 20, f"{path.relative_to(SOURCE)} opens without saying what it is"


def test_no_catch_all_modules():
    names = {p.stem for p in SOURCE.rglob("*.py")}
    assert not names & {"utils", "util", "common", "helpers", "misc"}


def test_the_oldest_versions_that_are_tried_are_the_lower_bounds():
    """`constraints-oldest.txt` against pyproject.toml: all that is needed to run, and no other version."""
    root = SOURCE.parents[1]
    if not (root / "pyproject.toml").is_file():
        pytest.skip("not a clone")
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    unchecked = ("docs", "fuzz", "browser", "ray")
    extras = {name: lines for name, lines in extras.items() if name not in unchecked}
    needed = [Requirement(line) for line in [*project["dependencies"], *itertools.chain(*extras.values())]]
    bounds = {canonicalize_name(one.name): Version(spec.version) for one in needed for spec in one.specifier}
    lines = (root / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    tried = {canonicalize_name(name): Version(version) for name, version in pins.items()}
    tools = {"ruff", "mypy", "build", "setuptools"}  # of `make lint types wheel`, which run with the newest
    assert {name: tried.get(name) for name in bounds.keys() - tools} == {
        name: bound for name, bound in bounds.items() if name not in tools
    }
    assert tried.keys() - bounds.keys() == {"tokenizers"}  # transformers chooses it


def test_the_version_stands_in_one_file():
    settings = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["dynamic"] == ["version"]
    assert settings["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "pluralign._version.__version__"
    written = [p.name for p in SOURCE.rglob("*.py") if f'"{pl.__version__}"' in p.read_text(encoding="utf-8")]
    assert written == ["_version.py"]
