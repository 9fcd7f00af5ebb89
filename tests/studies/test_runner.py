"""The runner: does what is missing, in the order of the seeds, and once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import studies
from studies import __main__ as command
from studies import records
from studies.runner import Wanted, perform
from studies.study import Arm, Study, once


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records and locks of a test lie in its own folder."""
    monkeypatch.setattr(records, "FOLDER", tmp_path / "studies")
    monkeypatch.setattr(records, "WORK", tmp_path / "work")


class Counted:
    """A study of two arms that remembers what it was asked to do."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int, int]] = []
        self.threads: list[int] = []
        arms = {
            "grid": Arm(
                lambda seed: [{"size": n, "seed": seed} for n in (10, 20)], self._run("grid"), seeds=2
            ),
            "timed": Arm(once({"size": 1}), self._run("timed"), threads=1, packages=("pytest",)),
        }
        self.study = Study("counted", "how often?", arms)

    def _run(self, arm: str) -> Any:
        def run(size: int, seed: int) -> dict[str, Any]:
            self.done.append((arm, size, seed))
            self.threads.append(torch.get_num_threads())
            return {"value": size * (1 + seed) / 3}

        return run


def test_runs_go_seed_by_seed_and_are_done_once() -> None:
    counted = Counted()
    assert perform(counted.study, Wanted(), report=lambda line: None) == 5
    assert counted.done == [
        ("grid", 10, 0),
        ("grid", 20, 0),
        ("timed", 1, 0),
        ("grid", 10, 1),
        ("grid", 20, 1),
    ]
    assert perform(counted.study, Wanted(), report=lambda line: None) == 0
    assert perform(counted.study, Wanted(seeds=3), report=lambda line: None) == 2
    assert counted.done[5:] == [("grid", 10, 2), ("grid", 20, 2)]
    (record,) = records.read("counted", "grid", size=20, seed=1)
    assert record["results"] == {"value": 13.3333}


def test_what_is_wanted_is_all_that_is_done() -> None:
    counted = Counted()
    wanted = Wanted(["grid"], 2, {"size": ["20", "30"], "seed": ["1"]})
    assert perform(counted.study, wanted, report=lambda line: None) == 1
    assert counted.done == [("grid", 20, 1)]
    assert perform(counted.study, wanted, force=True, report=lambda line: None) == 1
    assert perform(counted.study, Wanted(), minutes=0, report=lambda line: None) <= 1


def test_an_interrupted_study_continues_where_it_was() -> None:
    counted = Counted()
    whole = counted.study.arms["grid"].run

    def breaks(size: int, seed: int) -> dict[str, Any]:
        if (size, seed) == (10, 1):
            raise KeyboardInterrupt
        found: dict[str, Any] = whole(size=size, seed=seed)
        return found

    broken = Study("counted", "", {"grid": Arm(counted.study.arms["grid"].runs, breaks, seeds=2)})
    with pytest.raises(KeyboardInterrupt):
        perform(broken, Wanted(), report=lambda line: None)
    assert len(records.read("counted")) == 2
    assert perform(counted.study, Wanted(["grid"]), report=lambda line: None) == 2


def test_a_run_of_another_process_is_left_to_it() -> None:
    counted, said = Counted(), []
    with records.claimed("counted", records.name_of("grid", {"size": 20, "seed": 0})):
        assert perform(counted.study, Wanted(["grid"], 1), report=said.append) == 1
    assert said[-1] == "grid seed=0 size=20: another process is at it"


def test_a_record_says_with_what_and_on_what_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    counted, before = Counted(), torch.get_num_threads()
    perform(counted.study, Wanted(seeds=1), report=lambda line: None)
    assert counted.threads == [2, 2, 1]
    assert torch.get_num_threads() == before
    (record,) = records.read("counted", "timed")
    assert record["settings"] == {"size": 1, "seed": 0}
    assert {"pluralign", "torch", "transformers", "numpy", "pytest"} == set(record["versions"])
    assert record["hardware"]["threads"] == 1
    assert {"cpu", "cpu_count", "machine", "load_average", "threads"} == set(record["hardware"])
    assert {"seconds", "cpu_seconds"} < set(record)


def test_the_command_names_runs_without_doing_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["brme", "--dry-run", "--arms", "spread", "--seeds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["missing spread features=minilm seed=0", "missing spread features=traits seed=0"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name a study"),
        (["nothing"], "invalid choice"),
        (["brme", "--arms", "other"], "brme has the arms spread, heads, choice"),
        (["brme", "--where", "seed"], "KEY=VALUE"),
    ],
)
def test_the_command_says_what_it_takes(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert said in capsys.readouterr().err


def test_every_study_can_be_loaded_and_lists_runs_that_its_records_are_among(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    for name in studies.NAMES:
        study = studies.load(name)
        assert study.name == name
        known = {records.name_of(r["arm"], r["settings"]) for r in records.read(name)}
        runs = {records.name_of(arm, settings) for arm, _, settings in Wanted().of(study)}
        assert runs, name
        assert known <= runs, f"{name}: {sorted(known - runs)[:3]}"
