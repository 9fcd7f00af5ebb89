"""The engine on Ray without Ray: its arguments, what it says where Ray is missing, and errors of workers."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest
from lettered_stage import lettered_job

import pluralign as pl
from pluralign import errors
from pluralign.engines import RayEngine
from pluralign.engines.ray_data import _Actor, _knock, _raise, _session_folder, _set_variables


@pytest.fixture
def no_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 0}, "workers must be at least 1, received 0"),
        ({"cpus": 0}, "cpus must be at least 1"),
        ({"gpus": -1}, "gpus must be at least 0"),
        ({"gpus": float("nan")}, "gpus must be at least 0, received nan"),
        ({"gpus": 1.5}, "a whole number, or a fraction below 1"),
        ({"address": " "}, "address: received ' '; allowed: host:port, auto"),
        ({"address": "localhost"}, "address: received 'localhost'; allowed: host:port"),
    ],
)
def test_impossible_workers_are_refused(no_ray, arguments, message):
    with pytest.raises(errors.ArgumentError, match=message):
        RayEngine(**arguments)


def test_a_missing_ray_says_what_installs_it(no_ray):
    with pytest.raises(errors.MissingDependencyError, match=r"pip install 'pluralign\[ray\]'"):
        RayEngine()


def test_an_address_where_nothing_answers_is_found_out_at_once():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        with pytest.raises(OSError, match="refused"):
            _knock(address)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        _knock(f"127.0.0.1:{server.getsockname()[1]}")
    _knock("auto")


def test_a_cluster_of_our_own_has_a_token_and_no_outer_address(monkeypatch):
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    _set_variables(own=False)
    assert {name for name in os.environ if name.startswith("RAY_")} == {
        "RAY_USAGE_STATS_ENABLED",
        "RAY_DATA_LOG_LEVEL",
    }
    _set_variables(own=True)
    token = os.environ["RAY_AUTH_TOKEN"]
    assert (len(token), os.environ["RAY_AUTH_MODE"]) == (64, "token")
    assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    _set_variables(own=True)
    assert os.environ["RAY_AUTH_TOKEN"] == token
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        del os.environ[name]
    os.environ["RAY_AUTH_MODE"] = "disabled"  # as the user wants it
    _set_variables(own=True)
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_the_folder_of_a_cluster_of_our_own_goes_with_it(tmp_path, monkeypatch):
    """Names of sockets may have 107 bytes, so a long temporary folder is not used."""
    short = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    try:
        monkeypatch.setenv("RAY_TMPDIR", str(short))
        with _session_folder() as folder:
            assert Path(folder).parent == short
            assert len(f"{folder}/session_2026-12-31_23-59-59_999999_4194304/sockets/plasma_store") <= 107
            (Path(folder) / "session").mkdir()
            (Path(folder) / "session" / "raylet.log").write_text("a log")
        assert not list(short.iterdir())
        monkeypatch.setenv("RAY_TMPDIR", str(short / "not there"))
        with pytest.raises(errors.RunError, match="takes no folder for Ray's sockets"), _session_folder():
            pass
    finally:
        short.rmdir()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("long" * 9)))
    with _session_folder() as folder:
        assert Path(folder).parent == Path("/tmp")


def test_an_actor_makes_shards_and_reports_what_goes_wrong(tmp_path):
    job = lettered_job(tmp_path)
    job.shards().begin()
    actor = _Actor(job, 1, "0.0.1", "run")
    found = actor({"shard": [0]})
    facts = json.loads(found["problem"][0])
    assert facts["kind"] == "RunError"
    assert "install the same on all machines" in facts["message"]
    actor = _Actor(job, 1, pl.__version__, "run")
    found = actor({"shard": [0, 1]})
    assert list(found["shard"]) == [0, 1]
    assert list(found["problem"]) == ["", ""]
    assert len(list(job.out.glob("shard-*"))) == 2


def test_a_shard_on_which_workers_died_is_given_up_in_this_run_alone(tmp_path):
    job = lettered_job(tmp_path)
    job.shards().begin()
    (job.rows / ".tries-run-00002").write_bytes(b".....")
    found = _Actor(job, 1, pl.__version__, "run")({"shard": [2, 3]})["problem"]
    assert json.loads(found[0])["message"].startswith(
        "shard 2 was started 5 times, and its worker died each time"
    )
    assert found[1] == ""
    assert list(_Actor(job, 1, pl.__version__, "another")({"shard": [2]})["problem"]) == [""]
    assert [file.name for file in job.rows.glob(".tries*")] == [".tries-run-00002"]


def test_problems_of_workers_are_raised_as_what_they_were():
    _raise("")
    facts = {"kind": "FingerprintError", "message": "other weights", "machine": "node7", "trace": ""}
    with pytest.raises(errors.FingerprintError, match=r"a worker on node7: other weights\. Finished shards"):
        _raise(json.dumps(facts))
    facts = {"kind": "ZeroDivisionError", "message": "1 / 0", "machine": "node7", "trace": "in line 3"}
    with pytest.raises(errors.RunError, match="a worker on node7: ZeroDivisionError: 1 / 0\nin line 3"):
        _raise(json.dumps(facts))
