"""Short limits, one program at a time, and what a run may not leave behind."""

from __future__ import annotations

import os
from pathlib import Path

from pluralign.policy.rewards.programs import surroundings
from pluralign.policy.rewards.programs.limits import ProgramLimits

SHORT = ProgramLimits(test_seconds=2.0, total_seconds=8.0, cpu_seconds=4, memory_mib=256, processes=8)


def processes():
    """Ids of all processes that are alive."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if (
                    Path(f"/proc/{name}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0]
                    != "Z"
                ):
                    found.add(int(name))
            except OSError:
                continue
    return found


def of_programs():
    """Processes of user ids that only programs of this process have, judges aside: (id, command)."""
    found = []
    first = surroundings.unused_uid(0)
    for pid in processes():
        try:
            uid = os.stat(f"/proc/{pid}").st_uid
            if uid >= 1_500_000_000 and first <= uid < first + 128 and uid % 2 == 0:
                found.append((pid, Path(f"/proc/{pid}/cmdline").read_bytes()[:80]))
        except OSError:
            continue
    return found


def one(reward, program, tests, **columns):
    """The result of one program."""
    rows = {"completion": [program], "tests": [tests]} | {name: [value] for name, value in columns.items()}
    return reward.results(rows)[0]


def reasons(reward, program, tests, **columns):
    return [test.reason for test in one(reward, program, tests, **columns).tests]
