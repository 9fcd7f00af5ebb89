"""`ProgramReward`: the share of tests that the program in a completion passes.

In: rows with completions and tests. Out: one share per row, and on request how each test ended. Programs run
in parallel, each in a sandbox (`sandbox`); a program that was tested before with the same tests is not run
again, except after a timeout, which may be the machine's doing.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import threading
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, final

from pluralign.data.problems import preview
from pluralign.errors import ArgumentError, DataError, SandboxWarning
from pluralign.policy.rewards.programs.extraction import defined_names, extract_program
from pluralign.policy.rewards.programs.limits import ProgramLimits
from pluralign.policy.rewards.programs.probing import find_sandbox
from pluralign.policy.rewards.programs.results import ProgramResult, same
from pluralign.policy.rewards.programs.runner import Runner
from pluralign.policy.rewards.programs.sandbox import Sandbox
from pluralign.policy.rewards.programs.shapes import Suite, read_tests

__all__ = ["ProgramReward"]

Columns = Mapping[str, Sequence[Any]]
Rows = Columns | Sequence[Mapping[str, Any]]  # or a table of datasets
_COLUMNS = ("completion", "tests", "entry_point", "setup", "prefix")
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
    ) -> None:
        if limits is not None and not isinstance(limits, ProgramLimits):
            raise ArgumentError(f"limits is {preview(limits)}; allowed: a ProgramLimits, or None")
        if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
            raise ArgumentError(
                f"workers is {preview(workers)}; allowed: a whole number of at least 1, or None"
            )
        if isinstance(cache_size, bool) or not isinstance(cache_size, int) or cache_size < 0:
            raise ArgumentError(f"cache_size is {preview(cache_size)}; allowed: a whole number of at least 0")
        self.limits = limits or ProgramLimits()
        self.all_or_nothing = all_or_nothing
        self.sandbox: Sandbox = find_sandbox(minimum)
        self.workers = min(workers or len(os.sched_getaffinity(0)), _MOST_WORKERS)
        self._cache: OrderedDict[str, ProgramResult] = OrderedDict()
        self._cache_size = cache_size
        self._lock = threading.Lock()
        self._pool: _Pool | None = None
        if self.sandbox.level in ("rlimits", "separate_user") or not self.sandbox.processes_limited:
            reasons = "; ".join(f"{level}: {why}" for level, why in self.sandbox.refused)
            warnings.warn(f"programs run at level {self.sandbox} ({reasons})", SandboxWarning, stacklevel=2)

    def describe(self) -> dict[str, Any]:
        """Limits and counting; not the level of the sandbox, which does not change honest rewards."""
        return {"kind": "programs", "limits": self.limits.describe(), "all_or_nothing": self.all_or_nothing}

    def __call__(self, rows: Rows) -> list[float]:
        """One number in [0, 1] per row.

        Args:
            rows: a mapping of columns, a table of `datasets`, or a list of rows: completion (text, or
                messages of which the last is the policy's) and tests, and where the tests need them
                entry_point, setup and prefix (`shapes`).

        Raises:
            DataError: a column is missing, or tests are not valid; the message names the row.
        """
        results = self.results(rows)
        return [float(result.passed) if self.all_or_nothing else result.share for result in results]

    def results(self, rows: Rows) -> list[ProgramResult]:
        """How each test of each row ended; raises as `__call__`."""
        columns = _columns(rows)
        jobs = [self._job(columns, row) for row in range(_count(columns))]
        keys = [None if source is None else _key(source, suite) for source, suite in jobs]
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

    def _job(self, rows: Columns, row: int) -> tuple[str | None, Suite]:
        try:
            extras = {name: rows[name][row] for name in _COLUMNS[2:] if name in rows}
            for name, value in extras.items():
                if value is not None and not isinstance(value, str):
                    raise DataError(f"{name} is {preview(value)}; allowed: text, or nothing")
            suite = read_tests(rows["tests"][row], **extras)
            text = _text(rows["completion"][row])
        except DataError as error:
            raise DataError(f"row {row}: {error}") from None
        return _program(text, suite), suite

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
                self._pool = _Pool(self.sandbox, self.limits, self.workers)
            return self._pool


class _Pool:
    """Threads with a runner each."""

    def __init__(self, sandbox: Sandbox, limits: ProgramLimits, workers: int) -> None:
        self.process = os.getpid()
        self._own = threading.local()
        self._runners: list[Runner] = []
        self._free = list(range(workers))
        self._sandbox, self._limits = sandbox, limits
        self._threads = ThreadPoolExecutor(workers, "programs", self._begin)
        _pools.add(self)

    def _begin(self) -> None:
        runner = Runner(self._sandbox, self._limits, _slots.take())
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


def _columns(rows: Any) -> Columns:
    """The rows as columns; keys that a row lacks become None."""
    if isinstance(rows, Mapping):
        return rows
    if hasattr(rows, "column_names"):
        return {name: rows[name] for name in rows.column_names}
    if isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows):
        names = [name for name in _COLUMNS if any(name in row for row in rows) or not rows]
        return {name: [row.get(name) for row in rows] for name in names}
    raise DataError(
        f"rows: received {type(rows).__name__} {preview(rows)}; allowed: columns, a table of datasets, or a "
        "list of rows"
    )


def _count(rows: Columns) -> int:
    for name in _COLUMNS[:2]:
        if name in rows and (isinstance(rows[name], str) or not hasattr(rows[name], "__len__")):
            raise DataError(
                f"column {name!r} is {preview(rows[name])}; allowed: a list with one entry per row"
            )
        if name not in rows:
            have = ", ".join(rows) or "none"
            raise DataError(
                f"ProgramReward needs a column {name!r}; the columns are: {have}. tests: per row a list of "
                "assertions, or another shape of docs/how-to/programs.md"
            )
    if len(rows["completion"]) != len(rows["tests"]):
        raise DataError(
            f"{len(rows['completion'])} completions and tests of {len(rows['tests'])} rows; each needs one"
        )
    return len(rows["completion"])


def _text(completion: Any) -> str:
    """The policy's text."""
    if isinstance(completion, str):
        return completion
    if isinstance(completion, Sequence) and completion and isinstance(completion[-1], Mapping):
        content = completion[-1].get("content")
        if isinstance(content, str):
            return content
        if isinstance(content, Sequence):  # parts, as some templates have them
            return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
        if content is None:
            return ""
    raise DataError(f"completion is {preview(completion)}; allowed: text, or messages with the policy's last")


def _program(text: str, suite: Suite) -> str | None:
    """The program, with the prefix before it if the completion does not define the names that are tested."""
    names = set(suite.names)
    found = extract_program(text, names)
    if suite.prefix:
        body = found if found is not None else text
        whole = suite.prefix + ("" if suite.prefix.endswith("\n") else "\n") + body
        if not names & defined_names(body) and body.strip() and names & defined_names(whole):
            try:
                compile(whole, "<program>", "exec", dont_inherit=True)
            except (SyntaxError, ValueError):
                return found
            return whole
    return found


def _key(source: str, suite: Suite) -> str:
    raw = json.dumps([source, suite.describe()], sort_keys=True)
    return hashlib.sha256(raw.encode("utf-8", "surrogatepass")).hexdigest()
