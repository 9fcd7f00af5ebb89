"""The small parent process of a server: it holds the listening socket, and restarts the worker if it dies.

While there is no worker, connections wait in the socket's queue instead of failing. The parent imports no
model. On a signal to stop it ends the worker gracefully, and a worker whose parent was killed ends by itself.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from pluralign.errors import ArgumentError

__all__ = ["Supervisor", "listen"]

_BACKLOG = 2048
_POLL_SECONDS = 0.1  # between two checks of the worker
_LONGEST_PAUSE = 30.0
_OTHER_FOLDER = 3  # the exit status of a worker that found another model; see `worker`


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ArgumentError: the port is in use or not allowed, or there is no such host.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        reasons = {
            errno.EADDRINUSE: f"port {port} is in use; choose another port, or 0 for any",
            errno.EACCES: f"port {port} needs more rights; choose one above 1023",
            errno.EADDRNOTAVAIL: f"host {host!r} is not an address of this machine",
        }
        known = number is not None and not isinstance(error, socket.gaierror)
        words = reasons.get(number, str(error)) if known and number is not None else f"host {host!r}: {error}"
        raise ArgumentError(words) from error


class Supervisor:
    """Keeps one worker running.

    Args:
        listening: the socket that workers accept connections from.
        settings: what is sent to the worker: model, device, cache, token, config, grace ...
        report: called with a line for people.
        on_ready: called once, when the first worker scores.
    """

    def __init__(
        self,
        listening: socket.socket,
        settings: Mapping[str, Any],
        *,
        report: Callable[[str], None],
        on_ready: Callable[[], None],
    ) -> None:
        self._listening = listening
        self._settings = dict(settings)
        self._report = report
        self._on_ready = on_ready
        self._digest: str | None = None
        self._restarts = 0
        self._stop = False

    def run(self) -> int:
        """Runs until a signal stops it, or no worker can be had; returns the exit status."""
        before = {one: signal.signal(one, self._on_signal) for one in (signal.SIGTERM, signal.SIGINT)}
        failures = 0
        try:
            while True:
                was_ready, status = self._one_worker()
                if self._stopped():
                    return 0
                if self._digest is None or status == _OTHER_FOLDER:
                    return 1  # the worker said why
                failures = 0 if was_ready else failures + 1
                self._restarts += 1
                pause = 0.0 if was_ready else min(_LONGEST_PAUSE, 0.5 * 2**failures)
                self._report(
                    f"the worker ended ({_ending(status)}); a new one is started"
                    + f" in {pause:g} s" * (pause > 0)
                )
                self._wait(pause)
                if self._stopped():
                    return 0
        finally:
            self._listening.close()
            for one, handler in before.items():
                signal.signal(one, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._stop = True

    def _stopped(self) -> bool:
        return self._stop

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopped() and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)

    def _one_worker(self) -> tuple[bool, int]:
        """Whether the worker became ready, and its exit status."""
        receiver, sender = os.pipe()
        os.set_blocking(receiver, False)
        try:
            worker = self._started(sender)
        finally:
            os.close(sender)
        ready = False
        try:
            while worker.poll() is None and not self._stopped():
                ready = ready or self._is_ready(receiver)
                time.sleep(_POLL_SECONDS)
            ready = ready or self._is_ready(receiver)
            if worker.poll() is None:
                self._end(worker)
        finally:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
            os.close(receiver)
            if worker.stdin is not None:
                worker.stdin.close()
        return ready, worker.returncode

    def _started(self, sender: int) -> subprocess.Popen[bytes]:
        worker = subprocess.Popen(
            [sys.executable, "-m", "pluralign.server.worker"],
            stdin=subprocess.PIPE,
            pass_fds=(self._listening.fileno(), sender),
            process_group=0,  # Ctrl-C comes to the parent, which stops the worker gently
        )
        settings = self._settings | {
            "listen": self._listening.fileno(),
            "ready": sender,
            "digest": self._digest,
            "restarts": self._restarts,
        }
        assert worker.stdin is not None
        try:
            worker.stdin.write((json.dumps(settings) + "\n").encode())
            worker.stdin.flush()
        except BrokenPipeError:  # it died already; its status says so
            pass
        return worker

    def _is_ready(self, receiver: int) -> bool:
        try:
            line = os.read(receiver, 65_536)
        except BlockingIOError:
            return False
        if not line:
            return False
        first = self._digest is None
        self._digest = json.loads(line)["digest"]
        if first:
            self._on_ready()
        else:
            self._report("the new worker scores")
        return True

    def _end(self, worker: subprocess.Popen[bytes]) -> None:
        """Stops a worker gently; no new connection is accepted meanwhile."""
        self._listening.close()
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(self._settings["grace"] + 10)
        except subprocess.TimeoutExpired:
            worker.kill()


def _ending(status: int) -> str:
    return f"by signal {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
