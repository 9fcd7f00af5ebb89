"""Short limits, one program at a time, every level of protection, and what a run may not leave behind."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from pluralign.errors import SandboxError, SandboxWarning
from pluralign.policy.rewards.programs import reward as reward_module
from pluralign.policy.rewards.programs import surroundings
from pluralign.policy.rewards.programs.limits import ProgramLimits
from pluralign.policy.rewards.programs.probing import find_sandbox
from pluralign.policy.rewards.programs.reward import ProgramReward
from pluralign.policy.rewards.programs.sandbox import LEVELS

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


def levels():
    found = []
    for level in LEVELS:
        try:
            find_sandbox(level, level)
        except SandboxError:
            continue
        found.append(level)
    return found


def at_level(monkeypatch, level, limits=SHORT, **options):
    monkeypatch.setattr(reward_module, "find_sandbox", lambda _minimum: find_sandbox(level, level))
    weak = level in ("rlimits", "separate_user")
    with pytest.warns(SandboxWarning, match="network open") if weak else contextlib.nullcontext():
        return ProgramReward(limits, cache_size=0, **options)
