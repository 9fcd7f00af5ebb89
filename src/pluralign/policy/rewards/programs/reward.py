"""`ProgramReward`: the share of tests that the program in a completion passes.

In: rows with completions and tests. Out: one share per row, and on request how each test ended. Programs run
in parallel, each in a sandbox (`sandbox`); a program that was tested before with the same tests is not run
again, except after a timeout, which may be the machine's doing.
"""

from __future__ import annotations

import atexit
import os
import threading
import warnings
import weakref
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, final

from pluralign.data.problems import preview
from pluralign.errors import ArgumentError, DataError, SandboxWarning
from pluralign.policy.rewards.programs.limits import ProgramLimits
from pluralign.policy.rewards.programs.packages import modules_of, versions_of
from pluralign.policy.rewards.programs.probing import find_sandbox
from pluralign.policy.rewards.programs.results import ProgramResult, same
from pluralign.policy.rewards.programs.rows import (
    EXTRAS,
    Columns,
    Rows,
    as_columns,
    content_key,
    count_rows,
    program_of,
    text_of,
)
from pluralign.policy.rewards.programs.runner import Runner
from pluralign.policy.rewards.programs.sandbox import Sandbox
from pluralign.policy.rewards.programs.shapes import Suite, read_tests
from pluralign.policy.rewards.programs.tasks import ProgramTasks, load_tasks
from pluralign.policy.sampling.settings import Prompt

__all__ = ["ProgramReward"]

_MOST_WORKERS = 60  # each needs two user ids of 128


@final
class ProgramReward:
    """The share of its tests that a program passes; without code 0.

    Programs are run in the strongest sandbox that the machine offers; `str(reward.sandbox)` says which, and
    what it does not protect. The expected results of tests are never in the process of the program.

    Args:
        limits: of each program.
        minimum: the weakest acceptable level of protection: "bubblewrap", "namespaces", "separate_user"
            (rlimits under a user id of its own, as root) or "rlimits" (consent to programs that can touch
            your files).
        all_or_nothing: 1 if all tests pass, else 0, instead of the share.
        workers: programs at a time; None for the number of processors.
        cache_size: number of results to remember; 0 for none.
        tasks: the tests of prompts (`load_tasks`), for rows without a column `tests`.
        packages: installed packages of pure Python that programs may import beside the standard library, such
            as sortedcontainers.

    Attributes:
        sandbox: the level of protection that was found.
        ended: how tests have ended so far: reason -> number of tests.

    Raises:
        ArgumentError: an argument is invalid.
        SandboxError: no level of at least `minimum` works here.

    >>> reward = ProgramReward()  # doctest: +SKIP
    >>> rows = {"completion": ["def f(x): return x"], "tests": [["assert f(1) == 1", "assert f(2) == 4"]]}
    >>> reward(rows)  # doctest: +SKIP
    [0.5]
    """

    def __init__(
        self,
        limits: ProgramLimits | None = None,
        *,
        minimum: str = "separate_user",
        all_or_nothing: bool = False,
        workers: int | None = None,
        cache_size: int = 100_000,
        tasks: ProgramTasks | None = None,
        packages: Sequence[str] = (),
    ) -> None:
        if limits is not None and not isinstance(limits, ProgramLimits):
            raise ArgumentError(f"limits is {preview(limits)}; allowed: a ProgramLimits, or None")
        if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
            raise ArgumentError(
                f"workers is {preview(workers)}; allowed: a whole number of at least 1, or None"
            )
        if isinstance(cache_size, bool) or not isinstance(cache_size, int) or cache_size < 0:
            raise ArgumentError(f"cache_size is {preview(cache_size)}; allowed: a whole number of at least 0")
        if tasks is not None and not isinstance(tasks, ProgramTasks):
            raise ArgumentError(f"tasks is {preview(tasks)}; allowed: what load_tasks returns, or None")
        self.limits = limits or ProgramLimits()
        self.all_or_nothing = all_or_nothing
        self.tasks = tasks
        self._modules = modules_of(packages)
        self.packages = versions_of(packages)
        self.sandbox: Sandbox = find_sandbox(minimum)
        self.workers = min(workers or len(os.sched_getaffinity(0)), _MOST_WORKERS)
        self.ended: Counter[str] = Counter()
        self._cache: OrderedDict[str, ProgramResult] = OrderedDict()
        self._cache_size = cache_size
        self._lock = threading.Lock()
        self._pool: _Pool | None = None
        weak = self.sandbox.level in ("rlimits", "separate_user")
        if weak or not (self.sandbox.processes_limited and self.sandbox.calls_filtered):
            reasons = "; ".join(f"{level}: {why}" for level, why in self.sandbox.refused)
            warnings.warn(f"programs run at level {self.sandbox} ({reasons})", SandboxWarning, stacklevel=2)

    @classmethod
    def from_tables(
        cls,
        tables: Sequence[str],
        *,
        columns: Mapping[str, str | None] | None = None,
        split: str | None = None,
        limits: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> ProgramReward:
        """A reward with the tests of the prompts in some tables.

        Args:
            tables: as in `load_tasks`, as are the next two.
            columns: our column names to the file's.
            split: of hub data sets.
            limits: of `ProgramLimits`, by name.
            options: other arguments of `ProgramReward`.

        Raises:
            ArgumentError: an argument is invalid.
            DataError: a table cannot be read, or a row has no valid prompt or tests.
            SandboxError: no level that is accepted works here.
        """
        tasks = load_tasks(*tables, columns=columns, split=split)
        return cls(ProgramLimits(**dict(limits or {})), tasks=tasks, **options)

    def describe(self) -> dict[str, Any]:
        """Limits and counting; not the level of the sandbox, which does not change honest rewards."""
        described = {"kind": "programs", "limits": self.limits.describe()}
        of_tasks = {} if self.tasks is None else {"tasks": self.tasks.digest}
        with_packages = {"packages": self.packages} if self.packages else {}
        return described | {"all_or_nothing": self.all_or_nothing} | of_tasks | with_packages

    def check(self, prompts: Sequence[Prompt], name: str = "prompts") -> None:
        """Whether all prompts have tests, where rows will have none; before the first is sampled.

        Raises:
            DataError: some have none.
        """
        if self.tasks is not None:
            self.tasks.check(prompts, name)

    def __call__(self, rows: Rows) -> list[float]:
        """One number in [0, 1] per row.

        Args:
            rows: a mapping of columns, a table of `datasets`, or a list of rows: completion (text, or
                messages of which the last is the policy's) and tests, and where the tests need them
                entry_point, setup and prefix (`shapes`); with `tasks` completion and prompt suffice.

        Raises:
            DataError: a column is missing, or tests are not valid; the message names the row.
        """
        results = self.results(rows)
        return [float(result.passed) if self.all_or_nothing else result.share for result in results]

    def results(self, rows: Rows) -> list[ProgramResult]:
        """How each test of each row ended; raises as `__call__`."""
        columns = as_columns(rows)
        found_by = "tests" if self.tasks is None or "tests" in columns else "prompt"
        jobs = [self._job(columns, row, found_by) for row in range(count_rows(columns, found_by))]
        keys = [None if source is None else content_key(source, suite) for source, suite in jobs]
        pool = self._own_pool()
        waiting: dict[str, Any] = {}
        for row, ((source, suite), key) in enumerate(zip(jobs, keys, strict=True)):
            if source is not None and key is not None and key not in waiting and self._known(key) is None:
                waiting[key] = (row, pool.submit(source, suite))
        fresh: dict[str, ProgramResult] = {}
        failed: list[DataError] = []
        for key, (row, future) in waiting.items():
            try:
                fresh[key] = future.result()
                self._remember(key, fresh[key])
            except DataError as error:
                failed.append(DataError(f"row {row}: {error}"))
        if failed:
            raise failed[0]
        found = []
        for (_, suite), key in zip(jobs, keys, strict=True):
            known = same(suite.count, "no code") if key is None else fresh.get(key) or self._known(key)
            assert known is not None
            found.append(known)
            self.ended.update(known.reasons)
        return found

    def close(self) -> None:
        """Ends the processes that wait for programs; the next call starts new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def __getstate__(self) -> dict[str, Any]:
        kept = dict(self.__dict__)
        del kept["_lock"], kept["_pool"]
        return kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _pool=None)
        self.sandbox = find_sandbox(self.sandbox.level)  # perhaps on another machine

    def _job(self, rows: Columns, row: int, found_by: str) -> tuple[str | None, Suite]:
        try:
            if found_by == "prompt" and self.tasks is not None:
                suite = self.tasks.of(rows["prompt"][row])
            else:
                extras = {name: rows[name][row] for name in EXTRAS if name in rows}
                for name, value in extras.items():
                    if value is not None and not isinstance(value, str):
                        raise DataError(f"{name} is {preview(value)}; allowed: text, or nothing")
                suite = read_tests(rows["tests"][row], **extras)
            text = text_of(rows["completion"][row])
        except DataError as error:
            raise DataError(f"row {row}: {error}") from None
        return program_of(text, suite), suite

    def _known(self, key: str) -> ProgramResult | None:
        with self._lock:
            found = self._cache.get(key)
            if found is not None:
                self._cache.move_to_end(key)
            return found

    def _remember(self, key: str, result: ProgramResult) -> None:
        if "timeout" in result.reasons or not self._cache_size:
            return
        with self._lock:
            self._cache[key] = result
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)

    def _own_pool(self) -> _Pool:
        with self._lock:
            if self._pool is None or self._pool.process != os.getpid():  # a fork has no threads
                self._pool = _Pool(self.sandbox, self.limits, self.workers, self._modules)
            return self._pool


class _Pool:
    """Threads with a runner each."""

    def __init__(self, sandbox: Sandbox, limits: ProgramLimits, workers: int, modules: Any) -> None:
        self.process = os.getpid()
        self._own = threading.local()
        self._runners: list[Runner] = []
        self._free = list(range(workers))
        self._sandbox, self._limits, self._modules = sandbox, limits, modules
        self._threads = ThreadPoolExecutor(workers, "programs", self._begin)
        _pools.add(self)

    def _begin(self) -> None:
        runner = Runner(self._sandbox, self._limits, _slots.take(), self._modules)
        self._runners.append(runner)
        self._own.runner = runner

    def submit(self, source: str, suite: Suite) -> Any:
        return self._threads.submit(lambda: self._own.runner.run(source, suite))

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        while self._runners:
            runner = self._runners.pop()
            runner.close()
            _slots.give(runner.slot)


class _Slots:
    """Numbers that no two runners of this process share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free = list(range(_MOST_WORKERS))

    def take(self) -> int:
        with self._lock:
            if not self._free:
                raise ArgumentError(f"more than {_MOST_WORKERS} programs at a time; close() a ProgramReward")
            return self._free.pop(0)

    def give(self, slot: int) -> None:
        with self._lock:
            self._free.append(slot)


_slots = _Slots()
_pools: weakref.WeakSet[_Pool] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for pool in list(_pools):
        if pool.process == os.getpid():
            pool.close()
