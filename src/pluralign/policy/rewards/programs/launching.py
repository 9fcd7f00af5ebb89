"""Processes that are confined before they run foreign code.

In: a sandbox, limits and a role. Out: a `Confined` process. Under bubblewrap each process is new; at
other levels a fork server, one per `Launcher`, forks it from a Python that has started already.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from typing import Any

from pluralign.errors import SandboxError
from pluralign.policy.rewards.programs import plain, wire
from pluralign.policy.rewards.programs.confined import (
    START_SECONDS,
    Confined,
    Forked,
    Started,
)
from pluralign.policy.rewards.programs.leftovers import remove_files
from pluralign.policy.rewards.programs.limits import ProgramLimits
from pluralign.policy.rewards.programs.python_files import compiled_files, python_command, python_folders
from pluralign.policy.rewards.programs.sandbox import Sandbox
from pluralign.policy.rewards.programs.surroundings import bubblewrap, environment, process_limit, unused_uid
from pluralign.policy.rewards.programs.system_calls import call_filter

__all__ = ["Launcher"]

_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


class Launcher:
    """Starts processes, one program at a time beside judges.

    Args:
        sandbox: the level.
        slot: of its programs' user ids; no other launcher of this process has it.
        packages: modules that its processes can import (`packages.modules_of`).
    """

    def __init__(
        self, sandbox: Sandbox, slot: int, packages: Mapping[str, tuple[bool, bytes]] | None = None
    ) -> None:
        self._sandbox = sandbox
        self._packages = dict(packages or {})
        self._slot = slot
        self._server: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    def close(self) -> None:
        """Ends the fork server."""
        server, self._server = self._server, None
        if server is not None:
            server[1].close()
            try:
                server[0].wait(10)
            except subprocess.TimeoutExpired:
                server[0].kill()
                server[0].wait()

    def start(self, role: str, limits: ProgramLimits, *, piped: bool = False) -> Confined:
        """A process that has confined itself and now waits for what its role needs.

        Args:
            role: "program", "script", "judge" or "probe".
            limits: of the process.
            piped: whether its input, output and errors are pipes; nothing is behind them otherwise.

        Raises:
            SandboxError: it could not be confined.
        """
        uid = unused_uid(2 * self._slot + (role == "judge")) if self._sandbox.own_uids else None
        bare = self._sandbox.level in ("separate_user", "rlimits")
        folder = tempfile.mkdtemp(prefix=f"pluralign-program-{os.getpid()}-") if bare else ""
        if folder and uid is not None:
            os.chown(folder, uid, uid)
        config = self._config(role, limits, uid, folder or "/tmp")
        try:
            if self._sandbox.level == "bubblewrap" or role in ("judge", "probe"):
                started = self._start_anew(role, limits, config, uid, folder, piped)
            else:
                started = self._fork(config, uid, folder, piped)
        except BaseException:
            if folder:
                remove_files(folder, uid)
            raise
        started.confirm()
        return started

    def ask(self, verb: str, argument: Any, seconds: float) -> Any:
        """The response of the fork server; a server that has ended is replaced at the next start."""
        if self._server is None:
            return -9
        connection = self._server[1]
        try:
            connection.settimeout(seconds)
            plain.send(connection, (verb, argument))
            return plain.receive(connection)
        except (wire.Closed, wire.Broken, OSError):
            self._server[0].kill()  # its children end with it
            self.close()
            return -9

    def _config(self, role: str, limits: ProgramLimits, uid: int | None, folder: str) -> dict[str, Any]:
        return {
            "role": role,
            "level": self._sandbox.level,
            "user_namespace": self._sandbox.user_namespace,
            "environment": environment(folder),
            "uid": uid,
            "binds": [*python_folders(), *filter(os.path.exists, _DEVICES)],
            "processes": process_limit(self._sandbox, limits.processes),
            "cpu_seconds": None if role == "judge" else limits.cpu_seconds,
            "memory": limits.memory_mib << 20,
            "files": limits.open_files,
            "file_bytes": limits.disk_mib << 20,
            "tmp_bytes": limits.disk_mib << 20,
            "folder": folder,
            "hidden": role == "judge",
            "packages": self._packages,
            "call_filter": call_filter() if self._sandbox.calls_filtered else b"",
        }

    def _start_anew(
        self,
        role: str,
        limits: ProgramLimits,
        config: dict[str, Any],
        uid: int | None,
        folder: str,
        piped: bool,
    ) -> Confined:
        ours, theirs = socket.socketpair()
        before: tuple[str, ...] = ()
        passed = [theirs.fileno()]
        if self._sandbox.level == "bubblewrap":
            before = bubblewrap(shutil.which("bwrap"), self._sandbox.own_uids, limits)
            if config["call_filter"]:
                passed.append(_readable(config["call_filter"]))
                before = (before[0], "--seccomp", str(passed[1]), *before[1:])
        quiet = subprocess.PIPE if piped else subprocess.DEVNULL
        try:
            popen = subprocess.Popen(
                [*before, *python_command(), str(theirs.fileno())],
                stdin=quiet,
                stdout=quiet,
                stderr=subprocess.PIPE if role == "probe" else quiet,
                pass_fds=passed,
                env=config["environment"],
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            ours.close()
            raise SandboxError(f"a process could not be started: {error}") from None
        finally:
            theirs.close()
            for descriptor in passed[1:]:
                os.close(descriptor)
        streams = tuple(stream for stream in (popen.stdin, popen.stdout, popen.stderr) if stream is not None)
        namespace = self._sandbox.level in ("namespaces", "bubblewrap")
        started = Started(popen, ours, streams if piped else (), (folder, uid), uid=uid, namespace=namespace)
        with contextlib.suppress(OSError):  # it has ended already, and `confirm` will see
            ours.sendall(compiled_files(role) + plain.framed(config))
        return started

    def _fork(self, config: dict[str, Any], uid: int | None, folder: str, piped: bool) -> Confined:
        connection = self._fork_server()
        ours, theirs = socket.socketpair()
        pipes = [os.pipe() for _ in range(3)] if piped else []
        if piped:
            inner = [pipes[0][0], pipes[1][1], pipes[2][1]]
            outer = [pipes[0][1], pipes[1][0], pipes[2][0]]
        else:
            inner, outer = [os.open(os.devnull, os.O_RDWR)] * 3, []
        try:
            connection.settimeout(START_SECONDS)
            plain.send(connection, ("start", config))
            socket.send_fds(connection, [b"f"], [theirs.fileno(), *inner])
            wire.receive(connection)
        except (wire.Closed, OSError) as error:
            ours.close()
            for descriptor in outer:
                os.close(descriptor)
            self._server[0].kill() if self._server else None
            self.close()
            raise SandboxError(f"a process could not be forked: {type(error).__name__}") from None
        finally:
            theirs.close()
            for descriptor in dict.fromkeys(inner):
                os.close(descriptor)
        streams = tuple(
            os.fdopen(descriptor, mode, buffering=0)
            for descriptor, mode in zip(outer, ("wb", "rb", "rb"), strict=False)
        )
        return Forked(self.ask, ours, streams, (folder, uid), uid=uid)

    def _fork_server(self) -> socket.socket:
        if self._server is None:
            ours, theirs = socket.socketpair()
            popen = subprocess.Popen(
                [*python_command(), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=environment("/tmp"),
                cwd="/",
                start_new_session=True,
            )
            theirs.close()
            ours.sendall(compiled_files("forks") + plain.framed({"role": "forks"}))
            self._server = popen, ours
        return self._server[1]


def _readable(content: bytes) -> int:
    """A descriptor from which the few bytes can be read."""
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return reading
