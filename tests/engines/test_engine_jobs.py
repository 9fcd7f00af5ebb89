"""Jobs on the local engine: results in order, resumed without repeated work, refused for other models."""

from __future__ import annotations

import errno
import os

import pytest
from lettered_stage import Lettered, calls, lettered_job

from pluralign.engines import LocalEngine, finish
from pluralign.errors import ArgumentError, ArtifactError, RunError
from pluralign.policy.sampling.shards import read_shards


def test_results_are_those_of_all_rows_in_order(tmp_path):
    said = []
    folder = finish(lettered_job(tmp_path), LocalEngine(), lambda done, total: said.append((done, total)))
    rows = read_shards(folder.path)
    assert rows["id"][:] == [str(i) for i in range(40)]
    assert rows["length"][:] == [i % 50 for i in range(40)]
    assert rows["vector"][9] == [9.0, 3.0]
    assert said == [(i, 7) for i in range(8)]
    assert [rows for _, _, rows in calls(tmp_path)] == [4, 2] * 6 + [4]


def test_an_interrupted_job_goes_on_with_what_is_missing(tmp_path, monkeypatch):
    ask, seen = Lettered.__call__, []

    def breaks(self, batch):
        seen.append(batch["id"][0])
        if len(seen) == 6:  # in the second batch of the third shard
            raise KeyboardInterrupt
        return ask(self, batch)

    monkeypatch.setattr(Lettered, "__call__", breaks)
    with pytest.raises(KeyboardInterrupt):
        finish(lettered_job(tmp_path), LocalEngine())
    assert len(list((tmp_path / "out").glob("shard-*"))) == 2
    said = []
    finish(lettered_job(tmp_path), LocalEngine(), lambda done, total: said.append(done))
    assert said == [2, 3, 4, 5, 6, 7]
    assert seen[6:] == ["12", "16", "18", "22", "24", "28", "30", "34", "36"]
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    finish(lettered_job(fresh), LocalEngine())
    for file in (fresh / "out").iterdir():
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()
    before = len(seen)
    finish(lettered_job(tmp_path), LocalEngine())
    assert len(seen) == before


def test_a_damaged_shard_is_made_again(tmp_path):
    finish(lettered_job(tmp_path), LocalEngine())
    shard = tmp_path / "out" / "shard-00002.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:50])
    finish(lettered_job(tmp_path), LocalEngine())
    assert shard.read_bytes() == whole


def test_shards_of_another_model_or_input_are_refused(tmp_path):
    finish(lettered_job(tmp_path), LocalEngine())
    before = calls(tmp_path)
    with pytest.raises(RunError, match="other settings .model: 'a' before, 'b' now.*choose another folder"):
        finish(lettered_job(tmp_path, model="b"), LocalEngine())
    with pytest.raises(RunError, match="rows: 40 before, 39 now"):
        finish(lettered_job(tmp_path, count=39), LocalEngine())
    assert calls(tmp_path) == before


def test_the_batch_does_not_change_results(tmp_path):
    for name, batch_rows in (("a", 1), ("b", 6)):
        (tmp_path / name).mkdir()
        finish(lettered_job(tmp_path / name, batch_rows=batch_rows), LocalEngine())
    for file in (tmp_path / "a" / "out").glob("shard-*"):
        assert (tmp_path / "b" / "out" / file.name).read_bytes() == file.read_bytes()


def test_what_a_stage_refuses_stops_the_job_and_keeps_what_is_done(tmp_path):
    def refuses(folder):
        stage = Lettered(folder)

        def call(batch):
            if batch["id"][0] == "12":
                raise ArgumentError("a response that this stage refuses")
            return stage(batch)

        return call

    with pytest.raises(ArgumentError, match="that this stage refuses"):
        finish(lettered_job(tmp_path, make=refuses), LocalEngine())
    assert len(list((tmp_path / "out").glob("shard-*"))) == 2


def test_a_full_disk_names_the_shard_and_loses_nothing(tmp_path, monkeypatch):
    job = lettered_job(tmp_path)
    sync, synced = os.fsync, []

    def full(handle):
        synced.append(handle)
        if len(synced) > 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match=r"shard-0000\d.parquet cannot be written: the disk is full"):
        finish(job, LocalEngine())
    monkeypatch.setattr(os, "fsync", sync)
    there = len(list((tmp_path / "out").glob("shard-*")))
    assert 0 < there < 7
    before = len(calls(tmp_path))
    finish(job, LocalEngine())
    assert len(calls(tmp_path)) - before == 13 - 2 * there


def test_a_worker_that_writes_elsewhere_is_noticed(tmp_path):
    class Lost:
        name = "lost"

        def run(self, job, shards, progress):
            return None

    with pytest.raises(RunError, match=r"7 of 7 shards are not in .*storage that all machines share"):
        finish(lettered_job(tmp_path), Lost())


def test_a_machine_that_does_not_see_the_folders_says_so(tmp_path):
    from pluralign.engines import ShardWorker

    job = lettered_job(tmp_path)
    with pytest.raises(RunError, match=r"cannot be read here .*every machine sees under the same path"):
        ShardWorker(job).make(0)  # nobody began the folder of shards
    job.shards().begin()
    (tmp_path / "rows" / "rows.json").unlink()
    with pytest.raises(RunError, match=r"cannot be read here"):
        ShardWorker(job).make(0)
    assert not calls(tmp_path)
