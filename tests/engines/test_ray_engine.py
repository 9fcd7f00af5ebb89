"""The engine on a Ray cluster of this machine: the local engine's files, whatever dies on the way."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from lettered_stage import calls, lettered_job, small_files

import pluralign as pl
import tiny_policy
from pluralign.cli.main import main
from pluralign.engines import LocalEngine, RayEngine, finish
from pluralign.errors import ArgumentError, ArtifactError, RunError
from pluralign.heads import BradleyTerryHead
from pluralign.heads.scaling import ColumnScaling
from tiny_backbones import tiny_decoder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.peer,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (the extra ray)"),
]

ROWS = 60


@pytest.fixture(scope="module")
def cluster():
    """One cluster of two cores for all tests that start none themselves; its workers import what they do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes one into the home folder
        yield from _started()


def _started():
    import ray

    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        object_store_memory=2**27, _node_ip_address="127.0.0.1",
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.fixture
def ray_engine(cluster):
    return RayEngine(workers=2)


def shards(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / "out").iterdir()}


@pytest.fixture
def local(tmp_path):
    folder = tmp_path / "local"
    folder.mkdir()
    finish(lettered_job(folder, ROWS), LocalEngine())
    return shards(folder)


def test_the_files_are_those_of_the_local_engine(tmp_path, local, ray_engine):
    said = []
    finish(lettered_job(tmp_path, ROWS), ray_engine, lambda done, total: said.append((done, total)))
    assert shards(tmp_path) == local
    assert said == [(i, 10) for i in range(11)]
    made = calls(tmp_path)
    assert len(made) == 20
    assert {pid for pid, _, _ in made} & {str(os.getpid())} == set()


def test_a_worker_that_is_killed_costs_its_shard(tmp_path, local, ray_engine):
    (tmp_path / "stop-22").touch()  # the second batch of the fourth shard
    finish(lettered_job(tmp_path, ROWS), ray_engine)
    assert shards(tmp_path) == local
    assert not (tmp_path / "stop-22").exists()
    again = [first for _, first, _ in calls(tmp_path)]
    assert sorted(set(again)) == sorted(str(i) for n in range(10) for i in (6 * n, 6 * n + 4))
    assert again.count("18") == again.count("22") == 2
    assert len(again) <= 20 + 2 + 2  # at most one more shard: that of the other worker is not lost


def test_a_shard_on_which_every_worker_dies_is_given_up(tmp_path, ray_engine):
    (tmp_path / "deadly-18").touch()
    with pytest.raises(RunError, match="shard 3 was started 5 times, and its worker died each time"):
        finish(lettered_job(tmp_path, 24), ray_engine)
    assert [first for _, first, _ in calls(tmp_path)].count("18") == 5
    assert len(list((tmp_path / "out").glob("shard-*.parquet"))) == 3


def test_what_a_worker_refuses_is_raised_here(tmp_path, ray_engine):
    job = lettered_job(tmp_path, ROWS)
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = job.rows / "rows-00003.parquet"
    rows = pq.read_table(file)
    pq.write_table(rows.set_column(1, "response", pa.array(["refused"] * len(rows))), file)
    with pytest.raises(ArgumentError, match=r"a worker on \S+: a response that this stage refuses"):
        finish(job, ray_engine)
    there = len(list(job.out.glob("shard-*")))
    assert there < 10


def test_another_model_is_refused_before_anything_runs(tmp_path, ray_engine):
    finish(lettered_job(tmp_path, 6), LocalEngine())
    before = calls(tmp_path)
    with pytest.raises(RunError, match="model: 'a' before, 'b' now"):
        finish(lettered_job(tmp_path, 6, model="b"), ray_engine)
    assert calls(tmp_path) == before


def test_a_cluster_that_is_not_there_or_too_small(tmp_path, cluster):
    with pytest.raises(RunError, match="room for 2 workers of 1 CPUs and 0 GPUs; needed: 50"):
        finish(lettered_job(tmp_path), RayEngine(workers=50))
    with pytest.raises(RunError, match=r"0 GPUs, room for 0 workers of 1 CPUs and 1 GPUs"):
        finish(lettered_job(tmp_path), RayEngine(gpus=1))


# -- commands --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A folder with a model on a tiny decoder, rows, prompts and a policy."""
    folder = tmp_path_factory.mktemp("scored")
    backbone = tiny_decoder(folder / "decoder")
    torch.manual_seed(0)
    head = BradleyTerryHead(ColumnScaling.empty(backbone.response_size), torch.randn(backbone.response_size))
    pl.RewardModel(backbone, head).save_pretrained(folder / "model")
    rows = [{"prompt": f"question {i // 4}", "response": f"answer {i} " * (i % 7)} for i in range(400)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts = [{"prompt": f"question {i}"} for i in range(9)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    tiny_policy.saved(folder / "policy")
    return folder


@pytest.fixture
def place(scored, cluster, monkeypatch):
    """That folder, and one thread here as Ray's workers have."""
    monkeypatch.chdir(scored)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield scored
    torch.set_num_threads(before)


RAY = "--engine ray --ray_workers 2"


@pytest.mark.parametrize(
    ("line", "here", "there"),
    [
        ("score --model model --data data.jsonl --rows_per_shard 64", "a.jsonl", "b.jsonl"),
        ("embed --backbone decoder --data data.jsonl --rows_per_shard 64 --cache none", "a", "b"),
        (
            "sample --prompts prompts.jsonl --model policy --completions 3 --max_new_tokens 6 "
            "--prompts_per_shard 2",
            "c",
            "d",
        ),
    ],
)
def test_commands_write_what_they_write_in_this_process(place, capfd, line, here, there):
    assert main(f"{line} --device cpu --engine local --out {here}".split()) == 0
    capfd.readouterr()
    assert main(f"{line} {RAY} --out {there}".split()) == 0
    said = capfd.readouterr()
    assert "question" not in said.err + said.out
    assert not [word for word in said.err.splitlines() if "INFO" in word or "WARNING" in word]
    if Path(here).is_file():
        assert Path(there).read_bytes() == Path(here).read_bytes()
        here, there = f"{here}.shards", f"{there}.shards"
    files = [file for file in Path(here).glob("*/*") if file.suffix in (".parquet", ".json")]
    assert len(files) > 3
    for file in files:
        assert (Path(there) / file.relative_to(here)).read_bytes() == file.read_bytes()


def test_a_worker_without_the_backbone(place, capsys):
    """The model's folder is there, and the backbone that it names is not."""
    (place / "decoder").rename(place / "moved")
    try:
        status = main(f"score --model model --data data.jsonl {RAY} --out without.jsonl".split())
    finally:
        (place / "moved").rename(place / "decoder")
    said = capsys.readouterr().err
    assert status == 1
    assert "pluralign: a worker on " in said
    assert "decoder" in said
    assert "Traceback" not in said
    assert not Path("without.jsonl").exists()


def test_a_full_disk_on_a_worker_names_machine_and_path(tmp_path, ray_engine):
    """The workers may write files of 400 bytes only."""
    with pytest.raises(ArtifactError, match=r"a worker on \S+: \S+shard-0000\d.parquet cannot be written"):
        finish(lettered_job(tmp_path, ROWS, make=small_files), ray_engine)
    assert not list((tmp_path / "out").glob("shard-*"))
    finish(lettered_job(tmp_path, ROWS), ray_engine)  # when there is space


# -- a driver with a cluster of its own --------------------------------------------------------------


@pytest.fixture
def short_folder():
    """Names of sockets may not be long."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_is_stopped_is_continued(tmp_path, local, short_folder, monkeypatch, request, how):
    """Its workers end with it, and nobody else can reach its cluster."""
    script = (
        "import pathlib\n"
        "from lettered_stage import lettered_job\n"
        "from pluralign.engines import RayEngine, finish\n"
        f"job = lettered_job(pathlib.Path({str(tmp_path)!r}), {ROWS}, seconds=0.5)\n"
        "finish(job, RayEngine(workers=2))\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setenv("RAY_TMPDIR", str(short_folder))
    # A group of its own: the signal goes to the driver alone, as a scheduler sends it.
    driver = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    request.addfinalizer(driver.kill)  # whatever fails: its cluster ends with it
    waited = time.monotonic()
    while len(list((tmp_path / "out").glob("shard-*.parquet"))) < 3:
        assert driver.poll() is None
        assert time.monotonic() - waited < 300  # Ray takes two minutes to start on a busy machine
        time.sleep(0.05)
    listening = {address for pid in family(driver.pid) for address in listened(pid)}
    driver.send_signal(how)
    driver.wait(timeout=60)
    if how == signal.SIGINT:
        assert not list(short_folder.iterdir())  # sockets and logs of its cluster
    assert listening
    assert {address for address in listening if not address.startswith(LOOPBACK)} == set()
    workers = {int(pid) for pid, _, _ in calls(tmp_path)}
    waited = time.monotonic()
    while any(map(alive, workers)):
        assert time.monotonic() - waited < 60
        time.sleep(0.1)
    there = sorted((tmp_path / "out").glob("shard-*.parquet"))
    assert 3 <= len(there) < 10
    before = len(calls(tmp_path))
    finish(lettered_job(tmp_path, ROWS), LocalEngine())
    assert {name: of for name, of in shards(tmp_path).items() if not name.startswith(".")} == local
    assert len(calls(tmp_path)) - before == 2 * (10 - len(there))


# As /proc/net has them: 127.0.0.1, the same as an address of IPv6, and ::1.
LOOPBACK = ("0100007F:", "0000000000000000FFFF00000100007F:", "00000000000000000000000001000000:")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def family(leader: int) -> list[int]:
    """Processes that descend from one."""
    parents = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                fields = (path / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(path.name)] = int(fields[1])
    found = [leader]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def listened(pid: int) -> list[str]:
    """Local addresses, as /proc has them, on which a process listens."""
    try:
        sockets = {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return []
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.append(fields[1])
    return found
