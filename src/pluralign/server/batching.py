"""Batches across connections: waiting conversations are scored together, in one thread, and a small request
does not wait behind a large one.

In: jobs of some conversations each, from any connection. Out: their answers, in order. `work` decides what a
conversation is and how it is scored.

While the model works, jobs are collected. The next batch takes one item of each job in turn until the budget
of tokens is full, so that a job of one item is in the very next batch even while a job of thousands is in
progress. A job that arrives while the model is idle waits a moment for others.

A batch that fails is split and tried again, until the items that cause the failure are alone; a job fails
only because of its own items.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Batcher", "Full", "Item", "Work"]


@dataclass(frozen=True)
class Item:
    """One conversation of a job.

    Attributes:
        place: its position in the job.
        value: the conversation; or a function, which `work` calls.
        tokens: what it adds to a batch, estimated.
        key: items of one key are answered together.
    """

    place: int
    value: Any
    tokens: int
    key: Hashable


Work = Callable[[Sequence[Item]], Sequence[Any]]


class Full(Exception):
    """More conversations wait than are allowed to."""


@dataclass(eq=False)
class _Job:
    """The items of one request that wait, and the answers so far."""

    items: deque[Item]
    answers: list[Any]
    done: asyncio.Future[list[Any]]
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.missing = len(self.items)


class Batcher:
    """Gathers jobs and runs them, in the event loop that calls `start`.

    Args:
        work: answers items, in a thread; one call at a time.
        batch_tokens: of a batch.
        window: seconds that a job waits for others while the model is idle.
        max_waiting: items that may wait.
        observe: called with the number of items and of tokens of each batch, and the seconds it took.
    """

    def __init__(
        self,
        work: Work,
        *,
        batch_tokens: int,
        window: float,
        max_waiting: int,
        observe: Callable[[int, int, float], None] = lambda items, tokens, seconds: None,
    ) -> None:
        self._work = work
        self._budget = batch_tokens
        self._window = window
        self._max_waiting = max_waiting
        self._observe = observe
        self._jobs: deque[_Job] = deque()
        self._arrival = asyncio.Event()
        self._room = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._notifying: asyncio.Task[None] | None = None
        self._refused: Exception | None = None
        self.waiting = 0
        self.running = 0

    def start(self) -> None:
        """Begins to run batches."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pluralign-model")
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Ends after the batch that is running; jobs that wait fail."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            self._thread.shutdown(wait=False, cancel_futures=True)
        for job in self._jobs:
            job.done.cancel()
        self._jobs.clear()

    def refuse(self, error: Exception) -> None:
        """Fails all jobs that wait, and all that come."""
        self._refused = error
        for job in list(self._jobs):
            self._fail(job, error)
        self._jobs.clear()
        self._notifying = asyncio.get_running_loop().create_task(self._notify_of_room())

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        """Calls a function in the model's thread, between batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def submit(self, items: Sequence[Item], *, patient: bool = False) -> list[Any]:
        """The answers to items, in order.

        Args:
            items: at least one, with places 0, 1, ...
            patient: whether to wait where too many wait already.

        Raises:
            Full: too many wait, and this caller does not.
            Exception: what `work` raised for the first item that failed.
        """
        if patient:
            async with self._room:
                await self._room.wait_for(lambda: self._refused or self._has_room(len(items)))
        if self._refused is not None:
            raise self._refused
        if not patient and not self._has_room(len(items)):
            raise Full
        job = _Job(deque(items), [None] * len(items), asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self.waiting += len(items)
        self._arrival.set()
        try:
            return await job.done
        finally:  # also where the client went away, or ran out of time
            if job.items:
                self.waiting -= len(job.items)
                job.items.clear()
                await self._notify_of_room()

    def _has_room(self, count: int) -> bool:
        # A job that is larger than all that may wait gets in where nothing else waits.
        return self.waiting == 0 or self.waiting + count <= self._max_waiting

    async def _notify_of_room(self) -> None:
        async with self._room:
            self._room.notify_all()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self.waiting:
                self._arrival.clear()
                await self._arrival.wait()
                if self._window:
                    await asyncio.sleep(self._window)
            batch = self._next()
            if not batch:
                continue
            await self._notify_of_room()
            begun = loop.time()
            self.running = len(batch)
            try:
                found = await loop.run_in_executor(self._thread, self._answered, [item for _, item in batch])
            finally:
                self.running = 0
            if talks := [item for _, item in batch if not callable(item.value)]:  # a function is none
                self._observe(len(talks), sum(item.tokens for item in talks), loop.time() - begun)
            for (job, item), answer in zip(batch, found, strict=True):
                self._give(job, item, answer)

    def _next(self) -> list[tuple[_Job, Item]]:
        """One item of each job in turn, until the batch is full."""
        batch: list[tuple[_Job, Item]] = []
        tokens = 0
        while self._jobs:
            job = self._jobs.popleft()
            if not job.items:
                continue
            if batch and tokens + job.items[0].tokens > self._budget:
                self._jobs.appendleft(job)
                break
            item = job.items.popleft()
            tokens += item.tokens
            batch.append((job, item))
            if job.items:
                self._jobs.append(job)
        self.waiting -= len(batch)
        return batch

    def _answered(self, items: list[Item]) -> list[Any]:
        """The answer to each item, or the error that it raised."""
        try:
            return list(self._work(items))
        except Exception as error:
            if len(items) == 1:
                return [error]
        half = len(items) // 2
        return self._answered(items[:half]) + self._answered(items[half:])

    def _give(self, job: _Job, item: Item, answer: Any) -> None:
        if isinstance(answer, Exception):
            self._fail(job, answer)
            return
        job.answers[item.place] = answer
        job.missing -= 1
        if not job.missing and not job.done.done():
            job.done.set_result(job.answers)

    def _fail(self, job: _Job, error: Exception) -> None:
        self.waiting -= len(job.items)
        job.items.clear()
        if not job.done.done():
            job.done.set_exception(error)
