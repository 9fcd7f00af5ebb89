"""Policies that write programs in the lab: the part of docs/results.md."""

from __future__ import annotations

from typing import Any

from studies import findings, records
from studies.programs_lab.training import GRIDS, NUM_TESTS, REWARDS
from studies.programs_lab.world import COMPLETIONS, HELD_OUT, TRAINED
from studies.tables import Rows, over_seeds, table

NAMES = {
    "qrpo": "QRPO",
    "rebel": "REBEL",
    "dpo": "DPO",
    "simpo": "SimPO",
    "gae": "PPO",
    "rloo": "RLOO",
    "grpo": "GRPO",
}
_COLUMNS = (("right", 100, 1), ("passed", 100, 1), ("share", 100, 1), ("kl", 1, 2), ("solved", 100, 0))
_HEAD = ["right, %", "all tests passed, %", "tests passed, %", "KL, nats", "prompts solved, %"]


def section() -> str | None:
    """Methods, the finite Z, ties and the number of tests; None where nothing has been run."""
    before = records.results("programs_lab", "before")
    if not before or not records.results("programs_lab", "methods"):
        return None
    seeds = len(before)
    parts = [
        "## Programs in the lab\n\n"
        "A language model of 0.1 million weights, trained from scratch on instructions such as `plus 3 then at most 4 then flip` and "
        "programs of a behaviour policy that errs (it takes `at most` for `at least` in six of ten cases), learns from tests: "
        f"{TRAINED} instructions, {NUM_TESTS} tests each, 2,048 programs, the language model's own or, online, the policy's; evaluated on {COMPLETIONS} programs for each of "
        f"{HELD_OUT} other instructions (`python -m studies programs_lab`). `binary` rewards a program that passes all tests, `graded` the share. "
        "A program is right if it does what the instruction says on 41 inputs. beta and learning rate of each method are the best of a small grid, with the binary reward on a seed of "
        f"its own. {seeds} {'seed' if seeds == 1 else 'seeds'}; intervals are t intervals over seeds.",
        findings.section("programs_lab", "Methods"),
        table(["method, reward", *_HEAD], [["language model", *_cells(before)], *_methods()]),
        "**The partition function and tied prompts**\n\n" + findings.section("programs_lab", "Ties"),
        table(["QRPO: Z, tied prompts, reward", *_HEAD], _ties()),
    ]
    if rows := _tests():
        parts += [
            "**The number of tests**",
            findings.section("programs_lab", "Number of tests"),
            table(["method, tests, reward", *_HEAD], rows),
        ]
    return "\n\n".join(parts)


def _cells(runs: list[dict[str, Any]]) -> list[str]:
    return [over_seeds([factor * one[name] for one in runs], digits) for name, factor, digits in _COLUMNS]


def _methods() -> Rows:
    rows = []
    for method in GRIDS:
        for reward in REWARDS:
            runs = records.results("programs_lab", "methods", method=method, reward=reward)
            if runs:
                rows.append([f"{NAMES[method]}, {reward}", *_cells(runs)])
    return rows


def _ties() -> Rows:
    rows = []
    for reward in REWARDS:
        for partition in ("exact", "finite"):
            for tied in ("dropped", "kept"):
                runs = runs_of_ties(reward, partition, tied)
                if runs:
                    rows.append([f"{partition}, {tied}, {reward}", *_cells(runs)])
    return rows


def runs_of_ties(reward: str, partition: str, tied: str) -> list[dict[str, Any]]:
    """QRPO's runs; with the exact Z and tied prompts dropped they are among the methods."""
    if (partition, tied) == ("exact", "dropped"):
        return records.results("programs_lab", "methods", method="qrpo", reward=reward)
    return records.results("programs_lab", "ties", reward=reward, partition=partition, tied=tied)


def _tests() -> Rows:
    rows = []
    for method in ("qrpo", "grpo"):
        for count in (1, 2, NUM_TESTS, 16):
            for reward in REWARDS:
                runs = runs_of_tests(method, count, reward)
                if runs:
                    rows.append([f"{NAMES[method]}, {count}, {reward}", *_cells(runs)])
    return rows if len({row[0].split(", ")[1] for row in rows}) > 1 else []


def runs_of_tests(method: str, count: int, reward: str) -> list[dict[str, Any]]:
    """The runs with so many tests; eight are those of the methods."""
    if count == NUM_TESTS:
        return records.results("programs_lab", "methods", method=method, reward=reward)
    return records.results("programs_lab", "tests", method=method, num_tests=count, reward=reward)
