"""The fork server: a small process that forks a new one for each program, with Python already started.

In: a configuration and descriptors (socket, input, output, errors) per program. Out: the process, its exit
code, and its end with all processes that it started. It runs outside the sandbox, serves one program at a
time, keeps none of its state, and reaps every orphan, so that what a program leaves behind becomes its child
and is ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from pluralign.policy.rewards.programs import plain, wire
from pluralign.policy.rewards.programs.confine import adopt_orphans

__all__ = ["serve_forks"]


def serve_forks(descriptor: int, play: Callable[[wire.Stream, dict[str, Any]], None]) -> None:
    """Takes requests until the socket closes.

    Args:
        descriptor: of a socket to who asks.
        play: what a forked process does with its socket and its configuration.
    """
    adopt_orphans()
    connection = socket.socket(fileno=descriptor)
    server = _Server(connection)
    while True:
        try:
            request = plain.receive(connection)
        except wire.Closed:
            server.end(None)
            os._exit(0)
        verb, argument = request
        if verb == "start":
            descriptors = socket.recv_fds(connection, 1, 4)[1]
            answer: int | None = server.start(argument, descriptors, play)
        else:
            answer = server.wait(argument) if verb == "wait" else server.end(argument)
        plain.send(connection, answer)


class _Server:
    """At most one program."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.pid = -1
        self.status: int | None = None

    def start(self, config: dict[str, Any], descriptors: list[int], play: Any) -> int:
        self.status = None
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            self.connection.close()
            for number, descriptor in enumerate(descriptors[1:]):
                os.dup2(descriptor, number)
                os.close(descriptor)
            os.environ.clear()
            os.environ.update(config["environment"])
            play(wire.Stream(descriptors[0]), config)
            sys.exit(0)  # as any Python ends: threads are awaited, output is flushed, errors are printed
        for descriptor in descriptors:
            os.close(descriptor)
        return self.pid

    def wait(self, seconds: float) -> int | None:
        """The exit code as `subprocess` has it; None where it still runs."""
        until = time.monotonic() + seconds
        while self.status is None:
            with contextlib.suppress(ChildProcessError):
                while True:  # orphans too
                    pid, status = os.waitpid(-1, os.WNOHANG)
                    if pid == 0:
                        break
                    if pid == self.pid:
                        self.status = os.waitstatus_to_exitcode(status)
            if self.status is not None or time.monotonic() >= until:
                break
            time.sleep(0.001)
        return self.status

    def end(self, uid: int | None) -> int:
        """Ends the program and every process that came of it; its exit code, -9 where it ran until now."""
        code = self.wait(0)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            children = _children()
            if not children:
                break
            for child in children:  # what they leave behind is ours at the next turn
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(child, signal.SIGKILL)
            if uid is not None:
                _end_all_of(uid)
            self.wait(0)
            time.sleep(0.0005)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
        return -int(signal.SIGKILL) if code is None else code


def _children() -> list[int]:
    own = os.getpid()
    try:
        with open(f"/proc/self/task/{own}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without that file
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent(name) == own]


def _parent(pid: str) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])
    return 0


def _end_all_of(uid: int) -> None:
    """As that user, one signal to every process that it may signal, so that no fork escapes."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
        os._exit(0)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)
