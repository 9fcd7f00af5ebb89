"""The judge: runs tests in a process without access for programs, and records how each ended.

In: jobs (tests as code, the names in them that the program defines) with a socket to the program. Out: one
pair (reason, detail) per test, "passed" among the reasons. It runs in a sandbox of its own, since tests too
come from elsewhere, and forks for each job, so that no job sees another's.

A test is ordinary Python with its own builtins and modules; only the names of the program stand for something
else (`remote`). A program can thus return anything, but takes no part in the comparison.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from pluralign.policy.rewards.programs import plain, wire
from pluralign.policy.rewards.programs.remote import Channel, Gone, Remote, in_place

__all__ = ["serve_jobs"]


class _TooLate(BaseException):
    """The time of a test is over."""


def serve_jobs(descriptor: int) -> None:
    """Takes jobs until the socket closes: a byte with the program's socket, then the job."""
    connection = socket.socket(fileno=descriptor)
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
        if not message or not descriptors:
            os._exit(0)
        try:
            job = plain.receive(connection, 256 << 20)
        except wire.Closed:
            os._exit(0)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _Job(connection, job, socket.socket(fileno=descriptors[0])).run()
                code = 0
            finally:
                os._exit(code)
        os.close(descriptors[0])
        _, status = os.waitpid(child, 0)
        plain.send(connection, ("end", status))


class _Job:
    """One program and its tests."""

    def __init__(self, connection: socket.socket, job: dict[str, Any], program: socket.socket) -> None:
        self.connection = connection
        self.job = job
        self.seconds: float = job["test_seconds"]
        self.deadline = time.monotonic() + job["total_seconds"]
        self.base: dict[str, Any] = {"__name__": "tests", "__in_place__": in_place}
        self.classes: dict[str, type] = {}
        self.channel = Channel(program, self.classes)
        self.late = False
        self.hopeless: tuple[str, str] | None = None  # how all tests that are left end

    def run(self) -> None:
        """Runs every test and reports how each ended, one message each."""
        signal.signal(signal.SIGALRM, self._alarm)
        cpu = int(self.job["total_seconds"]) + 5
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
        try:
            exec(compile(self.job["setup"], "<setup>", "exec", dont_inherit=True), self.base)
        except BaseException as error:
            plain.send(self.connection, ("broken", f"{type(error).__name__}: {error}"[:500]))
            return
        for name in self.job["classes"]:
            if isinstance(self.base.get(name), type):
                self.classes[name] = self.base[name]
        self._meet()
        space, bound = dict(self.base), False
        for source, counts in self.job["tests"]:
            if self.hopeless is None and self.channel.dead:
                self._renew()
                bound = False
            if self.hopeless is None:
                if not self.job["together"]:
                    space, bound = dict(self.base), False
                reason, detail = self._one(source, space, bound)
                bound = True
                if not counts and reason != "passed":  # as in Python, what follows is not reached
                    self.hopeless = (reason, detail)
            else:
                reason, detail = self.hopeless
            if counts:
                plain.send(self.connection, ("test", reason, detail))
        plain.send(self.connection, ("done",))

    def _one(self, source: str, space: dict[str, Any], bound: bool) -> tuple[str, str]:
        code = compile(source, "<test>", "exec", dont_inherit=True)

        def work() -> None:
            if not bound:
                self._bind(space)
            exec(code, space)

        return self._guarded(work)

    def _bind(self, space: dict[str, Any]) -> None:
        """Binds the program's names, and the function to check, in the namespace of the test."""
        found = self.channel.ask("names", self.job["names"])
        if type(found) is not dict:
            raise self.channel.lost("a malformed answer")
        for name in self.job["names"]:
            if name in found:
                space[name] = found[name]
                if type(found[name]) is Remote:
                    found[name]._name = name
        if self.job["candidate"]:
            parameter, entry = self.job["candidate"]
            space[parameter] = eval(compile(entry, "<entry point>", "eval"), space)

    def _meet(self) -> None:
        """Waits until a new program has run; if it fails, no test can pass."""
        found: list[BaseException | None] = []
        reason, detail = self._guarded(lambda: found.append(self.channel.ready()))
        if reason == "passed" and found[0] is not None:
            reason, detail = _reason_of(found[0])
        if reason != "passed":
            self.hopeless = (reason, detail)

    def _renew(self) -> None:
        """Starts a new process for the program, if the old one has ended, is stuck or sends invalid data."""
        self.channel.connection.close()
        if time.monotonic() > self.deadline:
            self.hopeless = ("timeout", "the time for all tests was used up")
            return
        plain.send(self.connection, ("renew",))
        message, descriptors, _, _ = socket.recv_fds(self.connection, 1, 1)
        if not message or not descriptors:
            os._exit(1)
        self.channel = Channel(socket.socket(fileno=descriptors[0]), self.classes)
        self._meet()

    def _alarm(self, _number: int, _frame: FrameType | None) -> None:
        self.late = self.channel.dead = True  # a frame may be half read
        raise _TooLate

    def _guarded(self, work: Callable[[], object]) -> tuple[str, str]:
        """How the work ended, within its time and whatever it catches."""
        left = min(self.seconds, self.deadline - time.monotonic())
        if left <= 0:
            return "timeout", "the time for all tests was used up"
        self.late = False
        reason = ("passed", "")
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, left, 0.05)  # again, where a test catches everything
                work()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except (_TooLate, Gone):
            pass
        except BaseException as error:
            reason = _reason_of(error)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self.late:
            return "timeout", f"no answer within {left:.3g} seconds"
        if not self.channel.dead:
            return reason
        if self.channel.nonsense:
            return "error", f"broke the protocol: {self.channel.nonsense}"
        plain.send(self.connection, ("ask",))  # it ended; who started it knows how
        answer = plain.receive(self.connection)
        return str(answer[0]), str(answer[1])


def _reason_of(error: BaseException) -> tuple[str, str]:
    """Reason and detail of an exception in a test, or in the program."""
    text = " ".join(str(error).split())[:300]
    of_program = getattr(error, "of_program", None)
    if of_program is None:
        if isinstance(error, AssertionError):
            return "wrong answer", text
        return "error", f"{type(error).__name__}: {text}"
    kind, own = of_program
    if kind == "MemoryError":
        return "memory", text or "MemoryError"
    if kind in ("SystemExit", "KeyboardInterrupt"):
        return "exited", f"{own}: {text}"
    if own in ("SyntaxError", "IndentationError", "TabError"):
        return "syntax error", text
    return "error", f"{own}: {text}"
