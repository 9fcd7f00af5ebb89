"""How each test of a program ended, and the share passed."""

from __future__ import annotations

import signal
from collections import Counter
from dataclasses import dataclass
from typing import Any

__all__ = ["REASONS", "ProgramResult", "TestResult", "ended"]

REASONS = (
    "passed",
    "wrong answer",
    "error",
    "timeout",
    "memory",
    "output",
    "exited",
    "killed",
    "syntax error",
    "no code",
)


@dataclass(frozen=True)
class TestResult:
    """One test.

    Attributes:
        reason: one of `REASONS`.
        detail: details if there are any: the exception, the signal, the output; always valid Unicode.
    """

    reason: str
    detail: str = ""

    __test__ = False  # pytest, this is not a class of tests

    def __post_init__(self) -> None:
        detail = self.detail.encode("utf-8", "backslashreplace").decode("utf-8")
        object.__setattr__(self, "detail", detail)


@dataclass(frozen=True)
class ProgramResult:
    """One program.

    Attributes:
        tests: in the order of the tests.
    """

    tests: tuple[TestResult, ...]

    @property
    def share(self) -> float:
        """The share of tests passed, in [0, 1]."""
        return sum(test.reason == "passed" for test in self.tests) / len(self.tests)

    @property
    def passed(self) -> bool:
        """Whether all tests were."""
        return all(test.reason == "passed" for test in self.tests)

    @property
    def reasons(self) -> dict[str, int]:
        """How often each reason occurs."""
        return dict(Counter(test.reason for test in self.tests))

    def describe(self) -> dict[str, Any]:
        """The share and the reasons, JSON-able."""
        return {"share": self.share, "reasons": self.reasons}


def same(count: int, reason: str, detail: str = "") -> ProgramResult:
    """The result if all tests ended in the same way."""
    return ProgramResult((TestResult(reason, detail),) * count)


def ended(code: int) -> tuple[str, str]:
    """Reason and detail of a process that ended by itself, from its exit code."""
    number = -code if code < 0 else code - 128
    if code < 0 or 0 < number < 65:
        if number in (signal.SIGXCPU, signal.SIGALRM):
            return "timeout", "it used up its processor time"
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return "killed", name
    return "exited", f"exit code {code}"
