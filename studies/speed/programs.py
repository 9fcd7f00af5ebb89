"""Programs per second: `ProgramReward` at each level beside a plain `subprocess.run` per program.

Trivial programs with one assertion, all different, so that nothing is remembered. The plain way starts Python
with program and assertion in one text, which protects from nothing. Ways take turns in one process with two
workers each (two threads for the plain way), so that neighbours in time are compared; the median ratio
counts.

Wall clock depends on who else uses the cores, and processor time of programs in namespaces is nobody's once
the kernel has ended them. So ratios count, and the processor time of the plain way says what two idle cores
would do with it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pluralign.errors import SandboxError
from pluralign.policy.rewards.programs import reward as reward_module
from pluralign.policy.rewards.programs.probing import find_sandbox
from pluralign.policy.rewards.programs.reward import ProgramReward
from pluralign.policy.rewards.programs.sandbox import LEVELS, Sandbox
from studies.speed.timing import Timing, rounds

PROGRAMS, WORKERS, SECONDS = 60, 2, 60.0
PLAIN = "subprocess"


def run(seed: int) -> dict[str, Any]:
    """Rates, ratios and processor time of every level that this machine has."""
    del seed
    found, refused = _levels()
    rewards = {name: _reward(sandbox) for name, sandbox in found.items()}
    ways = {PLAIN: _plain} | {name: _rewarded(reward) for name, reward in rewards.items()}
    for work in ways.values():  # starts what later rounds find
        work()
    timing = Timing()
    for number in rounds(SECONDS):
        timing.in_turn(number, ways)
    for reward in rewards.values():
        reward.close()
    seconds = timing.seconds()
    processor = _processor(_plain)
    return {
        "programs": PROGRAMS,
        "workers": WORKERS,
        "per_second": {
            name: {
                "median": PROGRAMS / one["median"],
                "min": PROGRAMS / one["max"],
                "max": PROGRAMS / one["min"],
            }
            for name, one in seconds.items()
        },
        "times_subprocess": {
            name: {key: timing.ratio(PLAIN, name)[key] for key in ("median", "min", "max", "repeats")}
            for name in found
        },
        "plain_processor_ms": 1000 * processor,
        "plain_per_second_of_two_cores": WORKERS / processor,
        "refused": refused,
    }


def _levels() -> tuple[dict[str, Sandbox], dict[str, str]]:
    found, refused = {}, {}
    for level in reversed(LEVELS):
        try:
            found[level] = find_sandbox(level, level)
        except SandboxError as error:
            refused[level] = str(error)[:200]
    return found, refused


def _reward(sandbox: Sandbox) -> ProgramReward:
    kept = reward_module.find_sandbox
    reward_module.find_sandbox = lambda _minimum: sandbox
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about weak levels, which are compared here
            return ProgramReward(workers=WORKERS, cache_size=0)
    finally:
        reward_module.find_sandbox = kept


def _rewarded(reward: ProgramReward) -> Callable[[], None]:
    rows = {
        "completion": [f"def f(x): return x + {i}" for i in range(PROGRAMS)],
        "tests": [[f"assert f(1) == {i + 1}"] for i in range(PROGRAMS)],
    }

    def work() -> None:
        if reward(rows) != [1.0] * PROGRAMS:
            raise RuntimeError(f"{reward.sandbox}: a program did not pass")

    return work


def _plain() -> None:
    python = os.path.realpath(sys.executable)

    def one(i: int) -> None:
        code = f"def f(x): return x + {i}\nassert f(1) == {i + 1}"
        subprocess.run([python, "-c", code], check=True, capture_output=True)

    with ThreadPoolExecutor(WORKERS) as threads:
        list(threads.map(one, range(PROGRAMS)))


def _processor(work: Callable[[], object]) -> float:
    """Processor seconds per program."""
    before = _used()
    work()
    return (_used() - before) / PROGRAMS


def _used() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)
