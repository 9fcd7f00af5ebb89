"""Several processes embed together: the result of one, the work divided, failures known to all."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import talk

from pluralign.backbones import Backbone, EmbeddingCache, distributed, filling, load
from pluralign.backbones.distributed import ALONE, find_world, local_device
from pluralign.errors import ArgumentError, RunError

FORK = multiprocessing.get_context("fork")  # no torch to import again
FIELDS = ("response", "prompt", "num_tokens", "truncated")
ROWS = [
    talk(
        f"please write poem {number % 7} about " + "the moon " * (number % 7), "cat " * (number % 11) + "rain"
    )
    for number in range(40)
] + [talk("no prompt"), talk("", "empty prompt"), talk("hello", "")]

Work = Callable[[int], Any]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that this process has touched cannot be used after a fork."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def in_processes(work: Work, size: int = 2) -> list[Any]:
    """What `work(rank)` gives, or the error it raises, in each of several processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pipes = [FORK.Pipe(duplex=False) for _ in range(size)]
    workers = [
        FORK.Process(target=_work, args=(work, rank, size, port, pipes[rank][1])) for rank in range(size)
    ]
    for worker in workers:
        worker.start()
    for _, sender in pipes:
        sender.close()
    try:
        return [receiver.recv() if receiver.poll(60) else "silent" for receiver, _ in pipes]
    except EOFError as error:
        raise AssertionError("a process ended without an answer") from error
    finally:
        for worker in workers:
            worker.join(10)
            worker.kill()


def _work(work: Work, rank: int, size: int, port: int, answer: Any) -> None:
    torch.set_num_threads(1)  # threads of the parent are not there after a fork
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )  # fmt: skip
    try:
        answer.send(work(rank))
    except BaseException as error:
        answer.send(error)
    answer.close()
    os._exit(0)


def count_rows(model: Backbone) -> list[int]:
    rows: list[int] = []
    original = model.model.forward

    def forward(*args: Any, **options: Any) -> Any:
        rows.append(len(options["input_ids"]))
        return original(*args, **options)

    model.model.forward = forward
    return rows


def arrays(result: Any) -> dict[str, np.ndarray]:
    return {name: getattr(result, name).numpy() for name in FIELDS}


def expect_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], atol: float = 0) -> None:
    for name in FIELDS:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=atol)


def test_one_process_is_alone() -> None:
    assert find_world() is ALONE
    assert ALONE.gather("x") == ["x"]


# Text by text nothing is left to rounding; in batches and with shared prompts their composition is.
ALONE_IN_BATCH = {"max_tokens_per_batch": 1, "share_prompts": False}


@pytest.mark.parametrize(("size", "window"), [(2, 4096), (3, 4)])
@pytest.mark.parametrize(
    ("model", "options", "atol"),
    [
        ("llama", ALONE_IN_BATCH, 0),
        ("bert", ALONE_IN_BATCH, 0),
        ("llama", {"max_tokens_per_batch": 256}, 1e-5),
    ],
    ids=["llama", "bert", "llama in batches"],
)
def test_every_process_gets_what_one_alone_gets(
    model: str, options: dict[str, Any], atol: float, size: int, window: int,
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    one = load(str(request.getfixturevalue(model)), num_threads=1, **options)
    expected = one.embed(ROWS)
    monkeypatch.setattr(filling, "_WINDOW", window)
    monkeypatch.setattr(distributed, "_CHUNK_BYTES", 1000)

    def work(rank: int) -> Any:
        calls: list[tuple[int, int]] = []
        result = one.embed(ROWS, progress=lambda done, total: calls.append((done, total)))
        return arrays(result), calls, result.stats

    for rank, (found, calls, stats) in enumerate(in_processes(work, size)):
        expect_same(found, arrays(expected), atol)
        assert (stats.computed, stats.tokens) == (expected.stats.computed, expected.stats.tokens)
        if rank == 0:
            assert calls[-1] == (stats.computed, stats.computed)
            assert [done for done, _ in calls] == sorted(done for done, _ in calls)
        else:
            assert calls == []


def test_each_text_is_run_by_one_process_and_cached_for_all(bert: Path, tmp_path: Path) -> None:
    one = load(str(bert), num_threads=1, max_tokens_per_batch=64)
    rows = count_rows(one)

    def work(rank: int) -> Any:
        stats = one.embed(ROWS, cache=EmbeddingCache(tmp_path)).stats
        return sum(rows), stats.computed

    (first, computed), (second, _) = in_processes(work)
    assert first + second == computed
    assert min(first, second) > computed / 4
    assert one.embed(ROWS, cache=EmbeddingCache(tmp_path)).stats.cached == computed


def test_prompts_are_still_shared(llama: Path) -> None:
    one = load(str(llama), num_threads=1)
    rows = count_rows(one)
    talks = [talk(f"the cat {prompt} looked at the moon " * 3, str(n)) for prompt in "ab" for n in range(4)]

    def work(rank: int) -> list[int]:
        one.embed(talks)
        return rows

    # Each process: one prompt, then its four responses.
    assert in_processes(work) == [[1, 4], [1, 4]]


def test_what_one_process_lacks_is_computed_for_all(bert: Path, tmp_path: Path) -> None:
    one = load(str(bert), num_threads=1)
    expected = one.embed(ROWS)
    one.embed(ROWS[:20], cache=EmbeddingCache(tmp_path / "0"))
    known = len(EmbeddingCache(tmp_path / "0"))
    one.embed(ROWS[:4], cache=EmbeddingCache(tmp_path / "1"))
    few = len(EmbeddingCache(tmp_path / "1"))

    def work(rank: int) -> Any:
        result = one.embed(ROWS, cache=EmbeddingCache(tmp_path / str(rank), readonly=True))
        return arrays(result), result.stats.cached

    assert few < known
    for found, cached in in_processes(work):
        expect_same(found, arrays(expected), 1e-5)
        assert cached == few


def test_different_conversations_are_refused_unless_each_is_on_its_own(bert: Path) -> None:
    one = load(str(bert), num_threads=1)

    def together(rank: int) -> None:
        one.embed(ROWS[rank:])

    for error in in_processes(together):
        assert isinstance(error, ArgumentError)
        assert "distributed=False" in str(error)
    expected = [arrays(one.embed(ROWS[rank:])) for rank in range(2)]
    one.distributed = False
    for found, own in zip(in_processes(lambda rank: arrays(one.embed(ROWS[rank:]))), expected, strict=True):
        expect_same(found, own)


def test_a_failure_in_one_process_ends_all_with_its_message(bert: Path) -> None:
    one = load(str(bert), num_threads=1)

    def work(rank: int) -> None:
        if rank == 1:
            one.model.forward = lambda **inputs: 1 / 0
        one.embed(ROWS)

    first, second = in_processes(work)
    assert isinstance(second, ZeroDivisionError)
    assert isinstance(first, RunError)
    assert "rank 1 of the 2 processes" in str(first)
    assert "ZeroDivisionError: division by zero" in str(first)


def test_an_illegal_conversation_in_one_process_ends_all(bert: Path) -> None:
    one = load(str(bert), num_threads=1)
    first, second = in_processes(lambda rank: one.embed([*ROWS, []] if rank == 0 else ROWS))
    assert isinstance(first, ArgumentError)
    assert isinstance(second, RunError)
    assert "conversation 43" in str(second)


def test_a_process_whose_neighbour_has_gone_reports_its_own_error(bert: Path) -> None:
    one = load(str(bert), num_threads=1)

    def work(rank: int) -> Any:
        find_world().gather(rank)  # both have met
        return "gone" if rank == 0 else one.embed([[]])

    first, second = in_processes(work)
    assert first == "gone"
    assert isinstance(second, ArgumentError)


def test_an_interrupted_process_loses_a_batch_at_most(bert: Path, tmp_path: Path) -> None:
    one = load(str(bert), num_threads=1, max_tokens_per_batch=32)
    total = one.embed(ROWS).stats.computed
    rows = count_rows(one)
    original = one.model.forward

    def interrupt(**inputs: Any) -> Any:
        if len(rows) == 3:
            raise KeyboardInterrupt
        return original(**inputs)

    def work(rank: int) -> Any:
        if rank == 1:
            one.model.forward = interrupt
        try:
            one.embed(ROWS, cache=EmbeddingCache(tmp_path))
        except (KeyboardInterrupt, RunError) as error:
            return sum(rows), error
        return sum(rows), None

    (first, other), (second, interrupted) = in_processes(work)
    assert isinstance(interrupted, KeyboardInterrupt)
    assert isinstance(other, RunError)
    assert "ended" in str(other)
    assert len(EmbeddingCache(tmp_path)) == first + second < total
    assert one.embed(ROWS, cache=EmbeddingCache(tmp_path)).stats.computed == total - first - second


def test_more_processes_than_texts(llama: Path) -> None:
    one = load(str(llama), num_threads=1)
    expected = arrays(one.embed(ROWS[:1]))
    for found in in_processes(lambda rank: arrays(one.embed(ROWS[:1], progress=lambda *_: None)), 3):
        expect_same(found, expected)
    for found in in_processes(lambda rank: arrays(one.embed([]))):
        assert found["response"].shape == (0, 32)


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_device() == torch.device("cpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert local_device() == torch.device("cuda")
    for name, value in {"WORLD_SIZE": "4", "RANK": "7", "MASTER_ADDR": "x", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device() == torch.device("cuda:3")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)  # the launcher shows each its own
    assert local_device() == torch.device("cuda:0")


SCRIPT = """
import sys
import numpy as np
from accelerate import PartialState
from pluralign.backbones import EmbeddingCache, load

sys.path.insert(0, {tests!r})
from test_distributed import ROWS, arrays

result = load({model!r}, num_threads=1).embed(ROWS, cache=EmbeddingCache({cache!r}))
state = PartialState(cpu=True)  # what a trainer does afterwards joins the same processes
assert state.num_processes == 2
np.savez({out!r} + f"/{{state.process_index}}.npz", **arrays(result))
state.wait_for_everyone()
"""


TORCHRUN = "torch.distributed.run --standalone --nproc_per_node 2"
# --multi_gpu starts processes as on GPUs; without any, they embed on the CPU.
ACCELERATE = (
    "accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --main_process_port 0 "
    "--mixed_precision no --dynamo_backend no"
)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_started_by_a_launcher(launcher: str, llama: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    script = tmp_path / "embed.py"
    places = {"tests": str(Path(__file__).parent), "model": str(llama), "out": str(tmp_path)}
    script.write_text(SCRIPT.format(**places, cache=str(tmp_path / "cache")))
    command = [sys.executable, "-m", *launcher.split(), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    expected = arrays(load(str(llama), num_threads=1).embed(ROWS))
    for rank in range(2):
        expect_same(dict(np.load(tmp_path / f"{rank}.npz")), expected, 1e-5)
