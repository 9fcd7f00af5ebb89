"""Records of studies: what is added is kept, whoever writes beside it and whoever is killed."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from studies import records

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Records and locks of a test lie in its own folder."""
    monkeypatch.setattr(records, "FOLDER", tmp_path / "studies")
    monkeypatch.setattr(records, "WORK", tmp_path / "work")
    return tmp_path


def record(seed: int, value: Any = 1.0, arm: str = "first") -> records.Record:
    """One run."""
    return {"arm": arm, "settings": {"seed": seed}, "versions": {}, "hardware": {}, "results": {"x": value}}


def test_what_is_added_is_read_sorted_and_once() -> None:
    for seed in (2, 0, 1):
        records.add("some", record(seed))
    records.add("some", record(1, value=5.0))
    records.add("some", record(0, arm="another"))
    assert [(r["arm"], r["settings"]["seed"]) for r in records.read("some")] == [
        ("another", 0),
        ("first", 0),
        ("first", 1),
        ("first", 2),
    ]
    assert records.results("some", "first", seed=1) == [{"x": 5.0}]
    assert records.read("some", "first", other=1) == []
    assert records.read("nobody") == []


def test_the_order_of_the_runs_leaves_no_trace_in_the_file(tmp_path: Path) -> None:
    for study, seeds in (("one", (0, 1, 2)), ("two", (2, 1, 0))):
        for seed in seeds:
            records.add(study, record(seed))
    assert records.file_of("one").read_bytes() == records.file_of("two").read_bytes()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (0.1234567890123, 0.123457),
        (1234567.8, 1234570.0),
        (1e-7 / 3, 3.33333e-08),
        (1 / 6, 0.166667),
        (1234567, 1234567),
        (True, True),
        ("0.1234567890123", "0.1234567890123"),
        ([{"a": (2 / 3,)}, None], [{"a": [0.666667]}, None]),
    ],
)
def test_numbers_have_six_digits(given: Any, kept: Any) -> None:
    records.add("some", record(0, given))
    (found,) = records.results("some", "first")
    assert found == {"x": kept}
    assert type(found["x"]) is type(kept)


def test_a_number_that_is_not_finite_is_refused_and_nothing_is_lost() -> None:
    records.add("some", record(0))
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.add("some", record(1, float("nan")))
    assert len(records.read("some")) == 1


@pytest.mark.parametrize(
    "content", [b"", b"no gzip", gzip.compress(b'{"arm": "x"}\n', mtime=0), gzip.compress(b"[1,", mtime=0)]
)
def test_a_damaged_file_is_named_and_not_replaced(content: bytes) -> None:
    path = records.file_of("some")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(records.RecordsError, match=r"records\.jsonl\.gz"):
        records.add("some", record(0))
    assert path.read_bytes() == content


WRITER = """
import sys
from pathlib import Path
from studies import records
records.FOLDER, records.WORK = Path(sys.argv[1]) / "studies", Path(sys.argv[1]) / "work"
for seed in range(int(sys.argv[2]), int(sys.argv[3])):
    records.add("some", {"arm": "first", "settings": {"seed": seed}, "results": {"text": "x" * 3000}})
    print(seed, flush=True)
"""


def writer(folder: Path, first: int, last: int) -> subprocess.Popen[str]:
    """A process that adds a record for each of these seeds."""
    command = [sys.executable, "-c", WRITER, str(folder), str(first), str(last)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def test_two_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    both = [writer(tmp_path, 0, 40), writer(tmp_path, 40, 80)]
    assert [one.wait(60) for one in both] == [0, 0]
    assert sorted(r["settings"]["seed"] for r in records.read("some")) == list(range(80))


def test_a_process_that_is_killed_leaves_whole_records(tmp_path: Path) -> None:
    process = writer(tmp_path, 0, 100_000)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(30)]
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    found = [r["settings"]["seed"] for r in records.read("some")]
    assert sorted(found) == list(range(len(found)))
    assert len(found) >= len(said)
    records.add("some", record(-1))
    assert len(records.read("some")) == len(found) + 1


def test_a_run_has_one_process_and_is_free_again_when_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from studies import records\n"
        f"records.WORK = Path({str(tmp_path / 'work')!r})\n"
        "with records.claimed('some', 'a run') as mine:\n    print(mine, flush=True); time.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    other = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "True\n"
    with records.claimed("some", "a run") as mine, records.claimed("some", "another run") as free:
        assert (mine, free) == (False, True)
    other.send_signal(signal.SIGKILL)
    other.wait(60)
    for _ in range(100):  # the system may take a moment
        with records.claimed("some", "a run") as mine:
            if mine:
                return
        time.sleep(0.05)
    pytest.fail("the claim of a killed process stands")


def test_every_record_that_is_kept_is_whole() -> None:
    """Of the studies of this project: each says what it was, with which versions, and on what machine."""
    for path in sorted((ROOT / "studies").glob("*/records.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            found = [json.loads(line) for line in lines]
        names = [records.name_of(r["arm"], r["settings"]) for r in found]
        assert names == sorted(set(names)), path
        assert found, path
        for one in found:
            assert set(one) - {"seconds", "cpu_seconds"} == {
                "arm",
                "settings",
                "versions",
                "hardware",
                "results",
            }
            assert "seed" in one["settings"], path
            assert "torch" in one["versions"], path
            assert one["results"] == records.rounded(one["results"]), path
