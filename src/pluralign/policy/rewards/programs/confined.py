"""A confined process: communication with it, its end, and what is removed afterwards.

In: a process that was started, or forked by a server, and a socket to it. Out: its exit code; after `end`
nothing of it runs and nothing of it lies on disk. How it is started is `launching`'s.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable
from typing import IO, Any

from pluralign.errors import SandboxError
from pluralign.policy.rewards.programs import plain, wire
from pluralign.policy.rewards.programs.leftovers import end_all_of, init_of, remove_files

__all__ = ["START_SECONDS", "Confined", "Forked", "Started"]

START_SECONDS = 30.0
"""How long a process may take to confine itself, or a server to answer."""


class Confined:
    """A process in the sandbox.

    Args:
        connection: a socket to it.
        streams: pipes to its input, output and errors, or none.
        cleaned: its folder, "" where it has none, and the user whose files go with it.
    """

    def __init__(
        self, connection: socket.socket, streams: tuple[IO[bytes], ...], cleaned: tuple[str, int | None]
    ):
        self.connection = connection
        whole = streams or (None, None, None)
        self.stdin: IO[bytes] | None = whole[0]
        self.stdout: IO[bytes] | None = whole[1]
        self.stderr: IO[bytes] | None = whole[2]
        self._streams = streams
        self._cleaned = cleaned

    def hand(self, value: dict[str, Any]) -> None:
        """Sends a plain value; if the process has ended, nothing is sent, and its end is noticed later."""
        with contextlib.suppress(OSError):
            self.connection.sendall(plain.framed(value))

    def confirm(self) -> None:
        """Waits until it has confined itself.

        Raises:
            SandboxError: it could not.
        """
        self.connection.settimeout(START_SECONDS)
        try:
            answer = plain.receive(self.connection)
        except (wire.Closed, wire.Broken, OSError) as error:
            answer = ("refused", f"no answer ({type(error).__name__})")
        if answer[0] != "confined":
            said = self.complaint()
            self.end()
            raise SandboxError(f"a process could not be confined: {said or answer[1]}")
        self.connection.settimeout(None)  # it is a property of the descriptor, which may be handed on

    def complaint(self) -> str:
        """The last line of its standard error, if that is read."""
        return ""

    def wait(self, seconds: float) -> int | None:
        """Its exit code as in `subprocess`; None if it is still running."""
        raise NotImplementedError

    def end(self) -> int:
        """Ends it and all that it started, removes its files, and returns its exit code."""
        self.connection.close()
        code = self._end()
        folder, uid = self._cleaned
        if folder:
            remove_files(folder, uid)
        for stream in self._streams:
            with contextlib.suppress(OSError):
                stream.close()
        return code

    def _end(self) -> int:
        raise NotImplementedError


class Started(Confined):
    """A newly started process.

    Args:
        popen: the process.
        rest: as of `Confined`.
        uid: its user; None for ours.
        namespace: whether it has processes of its own, which end with the first of them.
    """

    def __init__(self, popen: subprocess.Popen[bytes], *rest: Any, uid: int | None, namespace: bool) -> None:
        super().__init__(*rest)
        self.popen = popen
        self._uid = uid
        self._namespace = namespace

    def complaint(self) -> str:
        """The last line of its standard error; ends the process, whose output is not needed."""
        if self.popen.stderr is None:
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(1)
        self.popen.kill()
        said = self.popen.stderr.read().decode("utf-8", "replace").strip().splitlines()
        return said[-1][:200] if said else ""

    def wait(self, seconds: float) -> int | None:
        """Its exit code; None if it is still running."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(seconds) if seconds else self.popen.poll()
        return self.popen.returncode

    def _end(self) -> int:
        code = self.popen.poll()
        if code is None:
            # The init of its namespace has ended when all others in it have; of the outer this is not so.
            inner = init_of(self.popen.pid) if self._namespace else None
            if inner is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(inner, 9)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.popen.wait(5)
            self.popen.kill()
            self.popen.wait()
        if self._uid is not None and not self._namespace:
            end_all_of(self._uid)
        return int(self.popen.returncode if code is None else code)


class Forked(Confined):
    """A process of a fork server.

    Args:
        ask: sends a request to the server: verb, argument, and its maximum number of seconds.
        rest: as of `Confined`.
        uid: its user; None for ours.
    """

    def __init__(self, ask: Callable[[str, Any, float], Any], *rest: Any, uid: int | None) -> None:
        super().__init__(*rest)
        self._ask = ask
        self._uid = uid
        self._code: int | None = None

    def wait(self, seconds: float) -> int | None:
        """Its exit code as in `subprocess`, for which the server waits; None if it is still running."""
        if self._code is None:
            self._code = self._ask("wait", float(seconds), seconds + START_SECONDS)
        return self._code

    def _end(self) -> int:
        return int(self._ask("end", self._uid, START_SECONDS))
