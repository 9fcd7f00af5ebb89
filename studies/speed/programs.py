"""Programs per second: `ProgramReward` at each level beside a plain `subprocess.run` per program.

    python -m studies.speed.programs [--programs 60] [--rounds 5]

Trivial programs with one assertion, all different, so that nothing is remembered. The plain way starts Python
with program and assertion in one text, which protects from nothing. Ways take turns in one process with two
workers each (two threads for the plain way), so that neighbours in time are compared; wall clock per way, the
median ratio counts. The numbers go to studies/speed/programs.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

from pluralign.errors import SandboxError
from pluralign.policy.rewards.programs import reward as reward_module
from pluralign.policy.rewards.programs.probing import find_sandbox
from pluralign.policy.rewards.programs.reward import ProgramReward
from pluralign.policy.rewards.programs.sandbox import LEVELS
from studies.speed.timing import Timing

TARGET = Path(__file__).parent / "programs.json"
WORKERS = 2


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    timing, ways = Timing(), {"subprocess": plain(flags.programs)} | levels(flags.programs)
    for number in range(-1, flags.rounds):  # the first round starts what later ones find
        if number < 0:
            for work in ways.values():
                work()
        else:
            timing.in_turn(number, ways)
    found = {
        "programs": flags.programs,
        "workers": WORKERS,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "processor": platform.processor() or platform.machine(),
        "versions": {"python": platform.python_version(), "pluralign": metadata.version("pluralign")},
        "per_second": {
            name: {key: flags.programs / value for key, value in seconds.items()}
            for name, seconds in timing.seconds().items()
        },
        "times_as_fast_as_subprocess": {
            name: {key: timing.ratio("subprocess", name)[key] for key in ("median", "min", "max")}
            for name in ways
            if name != "subprocess"
        },
    }
    for summary in found["per_second"].values():  # the shortest time is the highest rate
        summary["min"], summary["max"] = summary["max"], summary["min"]
    TARGET.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2), TARGET, sep="\n")


def levels(count: int) -> dict[str, Callable[[], Any]]:
    """A reward for each level that this machine has."""
    ways: dict[str, Callable[[], Any]] = {}
    for level in reversed(LEVELS):
        try:
            sandbox = find_sandbox(level, level)
        except SandboxError as error:
            print(error)
            continue
        reward_module.find_sandbox = lambda _minimum, found=sandbox: found
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ways[level] = rewarded(ProgramReward(workers=WORKERS, cache_size=0), count)
    return ways


def rewarded(reward: ProgramReward, count: int) -> Callable[[], Any]:
    rows = {
        "completion": [f"def f(x): return x + {i}" for i in range(count)],
        "tests": [[f"assert f(1) == {i + 1}"] for i in range(count)],
    }

    def work() -> None:
        if reward(rows) != [1.0] * count:
            sys.exit(f"{reward.sandbox}: a program did not pass")

    return work


def plain(count: int) -> Callable[[], Any]:
    python = os.path.realpath(sys.executable)

    def one(i: int) -> int:
        code = f"def f(x): return x + {i}\nassert f(1) == {i + 1}"
        return subprocess.run([python, "-c", code], check=True, capture_output=True).returncode

    def work() -> None:
        with ThreadPoolExecutor(WORKERS) as threads:
            list(threads.map(one, range(count)))

    return work


if __name__ == "__main__":
    main()
