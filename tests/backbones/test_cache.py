"""The embedding cache: nothing is computed twice, nothing damaged is believed, and failures are clear."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import talk

from pluralign.backbones import Backbone, EmbeddingCache, load
from pluralign.backbones import cache as cache_module
from pluralign.backbones.cache import Record
from pluralign.errors import ArgumentError, CacheError, CacheWarning
from without_privileges import forbidden_to_write

WIDTH = 8
FORK = multiprocessing.get_context("fork")  # no torch to import again


def run_at_once(*workers: Any) -> None:
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0


def record(seed: int) -> Record:
    return Record(np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32), seed, seed % 2 == 1)


def keys(count: int, start: int = 0) -> list[bytes]:
    return [(start + place).to_bytes(16, "little") for place in range(count)]


def count_calls(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every forward pass from now on."""
    rows: list[int] = []
    original = backbone.model.forward

    def forward(*args: object, **options: object) -> object:
        rows.append(len(options["input_ids"]))  # type: ignore[arg-type]
        return original(*args, **options)

    monkeypatch.setattr(backbone.model, "forward", forward)
    return rows


def test_what_is_written_is_read(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    written = {key: record(place) for place, key in enumerate(keys(5))}
    cache.write(written)
    found = cache.read([*keys(5), b"absent"], WIDTH)
    assert sorted(found) == [0, 1, 2, 3, 4]
    for place, key in enumerate(keys(5)):
        assert found[place].vector.tobytes() == written[key].vector.tobytes()
        assert found[place][1:] == written[key][1:]
    assert len(cache) == 5
    assert cache.read(keys(5), WIDTH + 1) == {}


def test_a_damaged_or_foreign_entry_counts_as_absent(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.write({key: record(place) for place, key in enumerate(keys(4))})
    with cache._environment().begin(write=True) as transaction:
        good = transaction.get(keys(4)[0])
        flipped = bytearray(good)
        flipped[20] ^= 1
        transaction.put(keys(4)[0], bytes(flipped))
        transaction.put(keys(4)[1], good)  # sound, but of another key
        transaction.put(keys(4)[2], b"not ours")
    assert list(cache.read(keys(4), WIDTH)) == [3]


def test_a_second_run_embeds_nothing(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, cache = load(str(bert), num_threads=1, max_length=16), EmbeddingCache(tmp_path)
    rows = [talk("hello", "yes " * 30), talk("hello", "no"), talk("yes")]
    first = backbone.embed(rows, cache=cache)
    calls = count_calls(backbone, monkeypatch)
    second = backbone.embed(rows, cache=cache)
    assert calls == []
    assert (second.stats.cached, second.stats.computed, second.stats.num_threads) == (
        first.stats.computed,
        0,
        0,
    )
    for name in ("response", "prompt", "num_tokens", "truncated"):
        assert getattr(first, name).equal(getattr(second, name))


def test_a_damaged_entry_is_computed_again(bert: Path, tmp_path: Path) -> None:
    backbone, cache = load(str(bert), num_threads=1), EmbeddingCache(tmp_path)
    rows = [talk("yes"), talk("no")]
    first = backbone.embed(rows, cache=cache)
    with cache._environment().begin(write=True) as transaction:
        key = next(iter(transaction.cursor()))[0]
        transaction.put(key, b"\0" * len(transaction.get(key)))
    second = backbone.embed(rows, cache=cache)
    assert second.stats.computed == 1
    assert backbone.embed(rows, cache=cache).stats.computed == 0
    np.testing.assert_allclose(first.response, second.response, atol=1e-5)


@pytest.mark.parametrize(
    "other",
    [{"pooling": "last"}, {"max_length": 64}, {"context": "pair"}, {"dtype": "bfloat16"}],
    ids=lambda other: next(iter(other)),
)
def test_another_setting_is_another_entry(bert: Path, tmp_path: Path, other: dict[str, object]) -> None:
    cache, rows = EmbeddingCache(tmp_path), [talk("hello", "yes")]
    load(str(bert), num_threads=1).embed(rows, cache=cache)
    again = load(str(bert), num_threads=1, **other).embed(rows, cache=cache)  # type: ignore[arg-type]
    assert again.stats.cached == 0


def test_the_same_files_elsewhere_are_the_same_entry(bert: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in bert.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    cache, rows = EmbeddingCache(tmp_path / "cache"), [talk("hello", "yes")]
    load(str(bert), num_threads=1).embed(rows, cache=cache)
    assert load(str(copy), num_threads=1).embed(rows, cache=cache).stats.computed == 0


def test_an_interrupted_run_continues_where_it_stopped(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load(str(bert), num_threads=1, max_tokens_per_batch=8)
    cache, rows = EmbeddingCache(tmp_path), [talk(text) for text in ["the", "cat", "sat", "on", "a", "mat"]]
    calls = count_calls(backbone, monkeypatch)

    def stop(done: int, total: int) -> None:
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backbone.embed(rows, cache=cache, progress=stop)
    kept, before = len(cache), sum(calls)
    assert 0 < kept == before < len(rows)
    calls.clear()
    backbone.embed(rows, cache=cache)
    assert sum(calls) == len(rows) - kept


def _write_and_read(cache: EmbeddingCache, answer: Any) -> None:
    cache.write({keys(2)[1]: record(1)})
    answer.put(sorted(cache.read(keys(2), WIDTH)))


def test_a_cache_survives_a_fork(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.write({keys(1)[0]: record(0)})
    answer = FORK.SimpleQueue()
    run_at_once(FORK.Process(target=_write_and_read, args=(cache, answer)))
    assert answer.get() == [0, 1]
    assert sorted(cache.read(keys(2), WIDTH)) == [0, 1]


def _write_many(path: str, start: int) -> None:
    cache = EmbeddingCache(path)
    for at in range(start, start + 40, 4):
        cache.write({key: record(at + place) for place, key in enumerate(keys(4, at))})


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    run_at_once(*[FORK.Process(target=_write_many, args=(str(tmp_path), start)) for start in (0, 30)])
    found = EmbeddingCache(tmp_path).read(keys(70), WIDTH)
    assert [found[place].num_tokens for place in range(70)] == list(range(70))


def test_the_map_grows_and_other_handles_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_FIRST_MAP_BYTES", 2**16)
    cache = EmbeddingCache(tmp_path)
    for at in range(0, 4000, 500):
        cache.write({key: record(at + place) for place, key in enumerate(keys(500, at))})
    assert cache._environment().info()["map_size"] > 2**16
    assert len(EmbeddingCache(tmp_path).read(keys(4000), WIDTH)) == 4000


def test_a_file_that_another_process_made_larger_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_FIRST_MAP_BYTES", 2**16)
    cache = EmbeddingCache(tmp_path)
    cache.write({keys(1)[0]: record(0)})
    run_at_once(FORK.Process(target=_write_large, args=(str(tmp_path),)))
    assert len(cache.read(keys(3000), WIDTH)) == 3000
    cache.write({key: record(1) for key in keys(10, 9000)})


def _write_large(path: str) -> None:
    EmbeddingCache(path).write({key: record(place) for place, key in enumerate(keys(3000))})


def test_a_limit_on_size_is_an_error_with_the_path(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, max_bytes=2**20)
    batch = {key: record(place) for place, key in enumerate(keys(1000))}
    cache.write(batch)
    stored = len(cache)
    too_much = {key: record(1) for key in keys(50_000, 1000)}
    with pytest.raises(CacheError, match=rf"{tmp_path}.*max_bytes=1048576"):
        cache.write(too_much)
    assert len(cache.read(keys(stored), WIDTH)) == stored
    with pytest.raises(ArgumentError, match="1 MiB"):
        EmbeddingCache(tmp_path, max_bytes=10)


def _write_until_refused(path: str, answer: Any) -> None:
    import resource

    cache, batches = EmbeddingCache(path), 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, 2**18))
    try:
        while True:
            cache.write({key: record(1) for key in keys(1000, 1000 * batches)})
            batches += 1
    except CacheError as error:
        answer.put((str(error), batches, len(cache)))


def test_a_disk_that_takes_no_more_is_an_error_and_keeps_what_it_has(tmp_path: Path) -> None:
    answer = FORK.SimpleQueue()
    run_at_once(FORK.Process(target=_write_until_refused, args=(str(tmp_path), answer)))
    message, batches, stored = answer.get()
    assert re.search(rf"{tmp_path} cannot be written.*PLURALIGN_CACHE.*cache=None", message)
    assert stored == 1000 * batches > 0


def test_network_file_systems_are_for_reading_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    EmbeddingCache(tmp_path).write({keys(1)[0]: record(0)})
    cache_module._open.pop(str(tmp_path)).close()
    monkeypatch.setattr(cache_module, "file_system", lambda path: "nfs4")
    with pytest.raises(CacheError, match="nfs4.*PLURALIGN_CACHE"):
        EmbeddingCache(tmp_path)
    assert len(EmbeddingCache(tmp_path, readonly=True).read(keys(1), WIDTH)) == 1


def test_a_read_only_cache_reads_and_stays_as_it_is(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="opened"):
        EmbeddingCache(tmp_path / "absent", readonly=True)
    backbone = load(str(bert), num_threads=1)
    backbone.embed([talk("yes")], cache=EmbeddingCache(tmp_path))
    reader = EmbeddingCache(tmp_path, readonly=True)
    stats = backbone.embed([talk("yes"), talk("no")], cache=reader).stats
    assert (stats.cached, stats.computed, len(reader)) == (1, 1, 1)


def test_a_model_in_memory_cannot_be_cached(bert: Path, tmp_path: Path) -> None:
    known = load(str(bert))
    unknown = Backbone(known.model, known.tokenizer, known.config, num_threads=1)
    assert unknown.embed([talk("yes")]).response.shape == (1, 32)
    with pytest.raises(ArgumentError, match="no fingerprint"):
        unknown.embed([talk("yes")], cache=EmbeddingCache(tmp_path))


def test_a_file_that_is_not_a_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"something else" * 1000)
    with pytest.raises(CacheError, match=str(tmp_path)):
        EmbeddingCache(tmp_path)


# -- a damaged database ----------------------------------------------------------------------------


def filled(folder: Path, count: int = 400) -> EmbeddingCache:
    """A cache that is closed, and a handle on it."""
    cache = EmbeddingCache(folder)
    cache.write({key: record(place) for place, key in enumerate(keys(count))})
    close(cache)
    return cache


def close(cache: EmbeddingCache) -> None:
    cache_module._open.pop(str(cache.path)).close()


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9])
def test_a_database_that_was_cut_off_says_which_folder_to_delete(
    tmp_path: Path, readonly: bool, share: float
) -> None:
    folder = tmp_path / "embeddings"
    filled(folder)
    file = folder / "data.mdb"
    os.truncate(file, int(share * file.stat().st_size))
    for _ in range(2):
        with pytest.raises(CacheError, match=rf"{folder} cannot be opened.*damaged.*Delete the folder"):
            EmbeddingCache(folder, readonly=readonly)
    shutil.rmtree(folder)
    assert EmbeddingCache(folder).read(keys(1), WIDTH) == {}


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_folder_that_was_deleted_while_it_was_open_loses_nothing_that_is_written_then(
    tmp_path: Path, made_anew: bool
) -> None:
    folder = tmp_path / "embeddings"
    cache = filled(folder)
    shutil.rmtree(folder)
    if made_anew:
        folder.mkdir()
    cache.write({b"new": record(1)})
    assert len(cache) == 1
    close(cache)
    assert len(EmbeddingCache(folder)) == 1


def test_a_database_that_loses_its_end_while_it_is_open(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    assert len(cache) == 400
    os.truncate(tmp_path / "data.mdb", 3 * 4096)
    for use in (cache.__len__, lambda: cache.read(keys(9), WIDTH), lambda: cache.write({b"a": record(1)})):
        with pytest.raises(CacheError, match="data.mdb was cut off: it has 12,288 of"):
            use()


def test_a_sound_database_may_end_before_its_last_page(tmp_path: Path) -> None:
    """Pages that a transaction took and gave back are counted, and may never have been written."""
    cache, draw = EmbeddingCache(tmp_path), random.Random(5)
    environment = cache._environment()
    for _ in range(60):
        with environment.begin(write=True) as transaction:
            for _ in range(draw.randrange(1, 40)):
                key = b"%d" % draw.randrange(200)
                if draw.random() < 0.4:
                    transaction.delete(key)
                else:
                    transaction.put(key, b"x" * draw.choice([10, 1500, 3000, 9000, 100000]))
        needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if (tmp_path / "data.mdb").stat().st_size < needed:
            break
    assert (tmp_path / "data.mdb").stat().st_size < needed
    assert cache.read(keys(1), WIDTH) == {}
    close(cache)
    assert EmbeddingCache(tmp_path).read(keys(1), WIDTH) == {}


@pytest.mark.parametrize("bytes_of", [bytes, random.Random(0).randbytes], ids=["zeros", "noise"])
def test_damage_inside_the_database_blames_no_full_disk(tmp_path: Path, bytes_of: Any) -> None:
    filled(tmp_path)
    pages = (tmp_path / "data.mdb").stat().st_size // 4096
    damaged = bytes_of(4096)
    messages = []
    for page in range(2, pages):
        with (tmp_path / "data.mdb").open("r+b") as file:
            file.seek(page * 4096)
            sound = file.read(4096)
            file.seek(page * 4096)
            file.write(damaged)
        try:
            EmbeddingCache(tmp_path).read(keys(400), WIDTH)
        except CacheError as error:
            messages.append(str(error))
        if str(tmp_path) in cache_module._open:
            close(EmbeddingCache(tmp_path))
        with (tmp_path / "data.mdb").open("r+b") as file:
            file.seek(page * 4096)
            file.write(sound)
    assert len(messages) > pages / 2
    assert all("Delete the folder" in message and "free some" not in message for message in messages)
    assert len(EmbeddingCache(tmp_path).read(keys(400), WIDTH)) == 400


def test_a_cache_that_may_not_be_written_serves_what_it_holds(bert: Path, tmp_path: Path) -> None:
    backbone = load(str(bert), num_threads=1)
    warm = EmbeddingCache(tmp_path / "embeddings")
    backbone.embed([talk("yes")], cache=warm)
    close(warm)
    with forbidden_to_write(tmp_path / "embeddings") as folder:
        cache = EmbeddingCache(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert backbone.embed([talk("yes")], cache=cache).stats.computed == 0
        with pytest.warns(CacheWarning, match=f"{folder} is read-only"):
            stats = backbone.embed([talk("yes"), talk("no")], cache=cache).stats
        assert (stats.cached, stats.computed, len(cache)) == (1, 1, 1)
        close(cache)
