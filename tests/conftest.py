"""No network and never the user's own cache; `fake_backbone` can be imported from every folder of tests."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes that share cores are many times slower with two threads each; torch reads this once.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import itertools
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from property_examples import examples

# Tests make few cycles, and searching for them every 700 objects takes a twentieth of the time.
gc.set_threshold(20_000, 20, 20)

# Whether data outlives a power cut cannot be tested here, and waiting for the disk takes longer than most
# tests; those of what happens where it fails replace this themselves.
os.fsync = lambda opened: None

# A shell that starts the tests in the background has Ctrl-C ignored; what they raise themselves must arrive.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every machine; a slow machine is no failure. HYPOTHESIS_PROFILE=default searches anew.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=examples(100))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_configure(config: pytest.Config) -> None:
    """Our own warnings are errors."""
    # Said here: settings in pyproject.toml would import the package before jaxtyping can add its checks.
    config.addinivalue_line("filterwarnings", "error::pluralign.errors.PluralignWarning")


_modules_before = 0


def pytest_runtest_setup() -> None:
    """What has been imported stays; it is not searched for garbage again and again."""
    global _modules_before
    if len(sys.modules) > _modules_before + 100:
        gc.collect()
        gc.freeze()
        _modules_before = len(sys.modules)


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of folders; pytest finds its own by listing all that there are, every time."""
    folder = tmp_path_factory.mktemp("caches")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture
def same_current_folder() -> Iterator[None]:
    """After a test and what `monkeypatch` undoes: the folder of a test that passed is removed."""
    before = os.getcwd()
    yield
    os.chdir(before)


@pytest.fixture(autouse=True)
def own_default_cache(
    same_current_folder: None, caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """PLURALIGN_CACHE points into a fresh folder, for this process and those that a test starts."""
    folder = next(caches)
    folder.mkdir()
    monkeypatch.setenv("PLURALIGN_CACHE", str(folder))
    return folder


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `pluralign ...` in this process: exit status, stdout, stderr."""
    from pluralign.cli.main import main

    def run(line: str, *more: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([*line.split(), *more])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
