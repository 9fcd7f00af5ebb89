"""How each test of a program ended, and the share passed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

__all__ = ["REASONS", "ProgramResult", "TestResult"]

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
        detail: more words where there are any: the exception, the signal, what was printed.
    """

    reason: str
    detail: str = ""

    __test__ = False  # pytest, this is not a class of tests


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
    """All tests ended alike."""
    return ProgramResult((TestResult(reason, detail),) * count)
