"""The layout keeps its promises: imports point one way, names are the documented ones, imports stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pluralign as pl

SOURCE = Path(pl.__file__).parent

# What each part may import of the package, beside itself. DESIGN: data flows one way.
ALLOWED = {
    "errors": set(),
    "distributions": {"errors"},
    "losses": {"errors"},
    "solvers": {"errors"},
    "risk": {"errors", "distributions"},
    "data": {"errors"},
    "conversations": {"errors", "data"},
    "backbones": {"errors", "conversations"},
    "heads": {"errors", "distributions"},
    "model": {"errors", "distributions", "risk", "conversations", "backbones", "heads"},
    "fitting": {
        "errors",
        "distributions",
        "losses",
        "solvers",
        "data",
        "conversations",
        "backbones",
        "heads",
        "model",
    },
    "evaluation": {
        *{
            "errors",
            "distributions",
            "losses",
            "risk",
            "data",
            "conversations",
            "backbones",
            "heads",
            "model",
            "fitting",
        },
    },
    "policy": {
        *{
            "errors",
            "distributions",
            "losses",
            "risk",
            "data",
            "conversations",
            "backbones",
            "heads",
            "model",
            "fitting",
        },
    },
    "report": {"errors"},
    "integrations": {"errors", "distributions", "risk", "data", "model"},
    "lab": {
        *{
            "errors",
            "distributions",
            "losses",
            "risk",
            "data",
            "conversations",
            "backbones",
            "heads",
            "model",
            "fitting",
        },
        *{"policy", "evaluation"},
    },
    "cli": {
        *{
            "errors",
            "distributions",
            "losses",
            "risk",
            "data",
            "conversations",
            "backbones",
            "heads",
            "model",
            "fitting",
        },
        *{"policy", "evaluation", "report", "lab"},
    },
}


# What the rooms of a part may import of each other; a file outside any room is room ".".
ROOMS = {
    "policy": {
        "logprobs": set(),
        "sampling": {"logprobs"},
        "rewards": {"logprobs", "sampling"},
        "offline": {"logprobs", "sampling", "rewards"},
        ".": {"logprobs", "sampling", "rewards", "offline"},  # the public names, shown to type checkers
    },
    "fitting": {
        "train": {"."},
        "mix": {"train", "."},
        "categorical": {"train", "mix", "."},
        "ensemble": {"train", "mix", "."},
        ".": {"train", "mix", "categorical", "ensemble"},
    },
}


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """Parts of the package that a file imports anywhere, also inside functions."""
    names = imported_modules(path)
    return {n.split(".")[1] for n in names if n.startswith("pluralign.") and "__version__" not in n}


def imported_modules(path: Path) -> set[str]:
    """Modules that a file imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [node.module or ""]
            if node.module == "pluralign":
                names = [f"pluralign.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= set(names)
    return found


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_imports_point_one_way(part):
    files = [p for p in SOURCE.rglob("*.py") if part_of(p) == part]
    assert files, f"no files in {part}"
    for path in files:
        extra = imported_parts(path) - ALLOWED[part] - {part}
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


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import pluralign", ["torch", "transformers", "datasets", "numpy"]),
        ("import pluralign.cli.main", ["torch", "transformers", "datasets", "numpy"]),
        (
            "from pluralign.cli.main import main; main(['fit', '--help'])",
            ["torch", "transformers", "datasets"],
        ),
        ("import pluralign as pl; pl.Quantiles", ["transformers", "datasets", "scipy", "pandas"]),
    ],
)
def test_light_things_import_nothing_heavy(statement, absent):
    code = f"import sys\ntry:\n    {statement}\nexcept SystemExit:\n    pass\n"
    code += f"print([m for m in {absent!r} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_every_file_says_what_it_is():
    for path in SOURCE.rglob("*.py"):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert len(text or "") > 20, f"{path.relative_to(SOURCE)} opens without saying what it is"


def test_no_catch_all_modules():
    names = {p.stem for p in SOURCE.rglob("*.py")}
    assert not names & {"utils", "util", "common", "helpers", "misc"}
