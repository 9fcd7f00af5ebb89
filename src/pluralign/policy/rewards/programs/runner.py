"""Runs a program against a suite: starts its process, passes its socket to the judge, collects results.

In: a program and its suite. Out: how each test ended. One `Runner` serves one program at a time; several
threads have one each. Its judge lives as long as it does and is replaced when tests have harmed it; each
program gets a process of its own, and another one where a test ended or blocked that.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import Any

from pluralign.errors import DataError
from pluralign.policy.rewards.programs import plain, wire
from pluralign.policy.rewards.programs.confined import Confined
from pluralign.policy.rewards.programs.launching import Launcher
from pluralign.policy.rewards.programs.limits import ProgramLimits
from pluralign.policy.rewards.programs.results import ProgramResult, TestResult, ended
from pluralign.policy.rewards.programs.sandbox import Sandbox
from pluralign.policy.rewards.programs.scripts import run_scripts
from pluralign.policy.rewards.programs.shapes import Suite

__all__ = ["Runner"]

_GRACE = 5.0  # seconds that the judge may be late
_TESTS_ENDED = "the tests ended the process that runs them"
_JUDGE = ProgramLimits(memory_mib=2048, processes=16)


class Runner:
    """One place where programs run, one after the other.

    Args:
        sandbox: the level.
        limits: of each program.
        slot: a number that no other runner of this process has.
        packages: modules that programs can import (`packages.modules_of`).
    """

    def __init__(
        self,
        sandbox: Sandbox,
        limits: ProgramLimits,
        slot: int,
        packages: Mapping[str, tuple[bool, bytes]] | None = None,
    ) -> None:
        self._launcher = Launcher(sandbox, slot, packages)
        self._limits = limits
        self.slot = slot
        self._judge: Confined | None = None

    def close(self) -> None:
        """Ends the judge and what starts programs; the next program starts others."""
        judge, self._judge = self._judge, None
        if judge is not None:
            judge.end()
        self._launcher.close()

    def run(self, source: str, suite: Suite) -> ProgramResult:
        """How each test of the suite ends for the program.

        Raises:
            DataError: the setup of the tests fails.
            SandboxError: no process can be confined.
        """
        if suite.scripts:
            return run_scripts(self._launcher, self._limits, source, suite)
        trial = _Trial(self, source, suite)
        try:
            return trial.run()
        except (wire.Broken, wire.Closed):
            self.close()
            return trial.result("error", _TESTS_ENDED)
        except TimeoutError:  # in one long step of the interpreter, which no signal interrupts
            self.close()
            return trial.result("timeout", "the time for all tests was used up")
        except BaseException:
            self.close()
            raise

    def judge(self) -> socket.socket:
        """The socket to the judge, which is started if necessary."""
        if self._judge is None:
            self._judge = self._launcher.start("judge", _JUDGE)
        return self._judge.connection

    def start(self, source: str, suite: Suite) -> Confined:
        """A new process of the program."""
        program = self._launcher.start("program", self._limits)
        program.hand({"setup": suite.setup, "source": source, "shared": list(suite.classes)})
        return program


class _Trial:
    """One program and its suite, with the judge."""

    def __init__(self, runner: Runner, source: str, suite: Suite) -> None:
        self._runner = runner
        self._source = source
        self._suite = suite
        self._program: Confined | None = None
        self._found: list[TestResult] = []

    def run(self) -> ProgramResult:
        limits, suite = self._runner._limits, self._suite
        judge = self._runner.judge()
        deadline = time.monotonic() + limits.total_seconds + _GRACE
        try:
            self._start(judge)
            job = {
                "setup": f"{suite.setup}\n{suite.judge_setup}",
                "tests": list(suite.tests),
                "names": list(suite.names),
                "candidate": suite.candidate,
                "together": suite.together,
                "classes": list(suite.classes),
                "test_seconds": float(limits.test_seconds),
                "total_seconds": float(limits.total_seconds),
            }
            plain.send(judge, job)
            while True:
                judge.settimeout(max(0.01, deadline - time.monotonic()))
                message = plain.receive(judge)
                if not self._handle(judge, message):
                    break
        finally:
            self._end()
        return self.result("error", _TESTS_ENDED)

    def result(self, reason: str, detail: str) -> ProgramResult:
        """What was found so far; all other tests ended as given."""
        lost = self._suite.count - len(self._found)
        return ProgramResult((*self._found, *[TestResult(reason, detail)] * lost))

    def _handle(self, judge: socket.socket, message: tuple[Any, ...]) -> bool:
        """Does what the judge asks; false after its last word."""
        verb, *rest = message
        if verb == "test":
            self._found.append(TestResult(*rest))
        elif verb == "ask":
            plain.send(judge, self._end(wait=1.0))
        elif verb == "renew":
            self._end()
            self._start(judge)
        elif verb == "broken":
            self._runner.close()
            raise DataError(f"tests: their setup fails: {rest[0]}")
        return bool(verb != "end")

    def _start(self, judge: socket.socket) -> None:
        self._program = self._runner.start(self._source, self._suite)
        socket.send_fds(judge, [b"p"], [self._program.connection.fileno()])
        self._program.connection.close()

    def _end(self, wait: float = 0.0) -> tuple[str, str]:
        """Ends the process; how it had ended, if it had."""
        program, self._program = self._program, None
        if program is None:
            return "killed", ""
        code = program.wait(wait)
        program.end()
        return ("exited", "it closed its socket") if code is None else ended(code)
