"""Jobs of many connections in one thread: budgets, turns, failures that stay where they belong."""

from __future__ import annotations

import asyncio
import time

import pytest

from pluralign.server.batching import Batcher, Full, Item


def items(*values: object, tokens: int = 1) -> list[Item]:
    return [Item(place, value, tokens, "key") for place, value in enumerate(values)]


class Recorder:
    """Answers each value with itself; remembers the batches."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.batches: list[list[object]] = []
        self.seconds = seconds

    def __call__(self, batch):
        time.sleep(self.seconds)
        self.batches.append([item.value for item in batch])
        for item in batch:
            if isinstance(item.value, Exception):
                raise item.value
        return [item.value for item in batch]


def run(work, main, **options):
    async def all_of_it():
        batcher = Batcher(work, **{"batch_tokens": 8, "window": 0.02, "max_waiting": 100} | options)
        batcher.start()
        try:
            return await asyncio.wait_for(main(batcher), 30)
        finally:
            await batcher.stop()

    return asyncio.run(all_of_it())


def test_what_comes_together_is_answered_together():
    work = Recorder()

    async def main(batcher):
        return await asyncio.gather(*(batcher.submit(items(i)) for i in range(8)))

    assert run(work, main) == [[i] for i in range(8)]
    assert work.batches == [list(range(8))]


def test_batches_keep_to_their_budget_and_a_larger_text_is_alone():
    work = Recorder()

    async def main(batcher):
        return await asyncio.gather(
            batcher.submit(items("a", "b", "c", tokens=3)), batcher.submit(items("long", tokens=50))
        )

    assert run(work, main) == [["a", "b", "c"], ["long"]]
    assert [len(batch) for batch in work.batches if "long" in batch] == [1]
    assert all(len(batch) <= 2 for batch in work.batches)


def test_jobs_take_turns():
    work = Recorder(0.01)

    async def main(batcher):
        bulk = asyncio.create_task(batcher.submit(items(*range(80))))
        await asyncio.sleep(0.05)
        single = await batcher.submit(items("single"))
        waited = not bulk.done()
        return single, waited, await bulk

    assert run(work, main) == (["single"], True, list(range(80)))


def test_a_failure_is_its_own_jobs_alone():
    work = Recorder()
    bad = ValueError("this one")

    async def main(batcher):
        jobs = [batcher.submit(items(i, i)) for i in range(4)] + [batcher.submit(items("x", bad, "y"))]
        return await asyncio.gather(*jobs, return_exceptions=True)

    found = run(work, main, batch_tokens=100)
    assert found == [[0, 0], [1, 1], [2, 2], [3, 3], bad]


def test_what_may_wait_has_a_limit_and_the_patient_wait_for_room():
    work = Recorder(0.02)

    async def main(batcher):
        first = [asyncio.create_task(batcher.submit(items(i))) for i in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await batcher.submit(items("late"))
        patient = await batcher.submit(items("patient"), patient=True)
        return patient, await asyncio.gather(*first)

    assert run(work, main, max_waiting=4, batch_tokens=1) == (["patient"], [[0], [1], [2], [3]])


def test_who_gives_up_leaves_room():
    work = Recorder(0.05)

    async def main(batcher):
        for _ in range(20):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(batcher.submit(items(*range(50))), 0.001)
        assert batcher.waiting == 0
        return await batcher.submit(items("after"))

    assert run(work, main) == ["after"]


def test_a_stop_refuses_what_waits():
    work = Recorder(0.05)

    async def main(batcher):
        jobs = [asyncio.create_task(batcher.submit(items(i))) for i in range(5)]
        await asyncio.sleep(0.06)
        batcher.refuse(RuntimeError("stops"))
        return await asyncio.gather(*jobs, return_exceptions=True)

    found = run(work, main, batch_tokens=1)
    assert found[0] == [0]
    assert str(found[-1]) == "stops"
    assert all(one == [i] or str(one) == "stops" for i, one in enumerate(found))


def test_who_waits_for_room_when_a_stop_refuses_is_refused_too():
    work = Recorder(0.05)

    async def main(batcher):
        jobs = [asyncio.create_task(batcher.submit(items(i), patient=True)) for i in range(6)]
        await asyncio.sleep(0.02)
        batcher.refuse(RuntimeError("stops"))
        found = await asyncio.gather(*jobs, return_exceptions=True)
        with pytest.raises(RuntimeError, match="stops"):
            await batcher.submit(items("late"))
        return found

    found = run(work, main, batch_tokens=1, max_waiting=2, window=0.0)
    assert all(one == [i] or str(one) == "stops" for i, one in enumerate(found))
    assert str(found[-1]) == "stops"
