"""Processes that are confined before they run anything foreign, and their end.

In: a sandbox, limits and a role. Out: a `Confined` process with a socket to it; after `end` nothing of it
runs and nothing of it lies on disk. Under bubblewrap each process starts anew; at other levels a fork server,
one per `Launcher`, forks it from a Python that has started already.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

from pluralign.errors import SandboxError
from pluralign.policy.rewards.programs import wire
from pluralign.policy.rewards.programs.leftovers import end_all_of, init_of, remove_files
from pluralign.policy.rewards.programs.limits import ProgramLimits
from pluralign.policy.rewards.programs.python_files import compiled_files, python_command, python_folders
from pluralign.policy.rewards.programs.sandbox import Sandbox

__all__ = ["Confined", "Launcher", "plain_only"]

_FIRST_UID = 1_500_000_000
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_START_SECONDS = 30.0


class Confined:
    """A process in the sandbox; `connection` is a socket to it, the streams are pipes of a script."""

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
        """Sends a plain value; a process that has ended gets nothing, and its end tells."""
        with contextlib.suppress(OSError):
            self.connection.sendall(_framed(value))

    def confirm(self) -> None:
        """Waits until it has confined itself.

        Raises:
            SandboxError: it could not.
        """
        self.connection.settimeout(_START_SECONDS)
        try:
            answer = wire.decode(wire.receive(self.connection), *plain_only())
        except (wire.Closed, wire.Broken, OSError) as error:
            answer = ("refused", f"no answer ({type(error).__name__})")
        if answer[0] != "confined":
            said = self.complaint()
            self.end()
            raise SandboxError(f"a process could not be confined: {said or answer[1]}")
        self.connection.settimeout(None)  # it is a property of the descriptor, which may be handed on

    def complaint(self) -> str:
        """The last line that it wrote as an error, where that is read."""
        return ""

    def wait(self, seconds: float) -> int | None:
        """Its exit code as `subprocess` has it; None where it still runs."""
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


class _Started(Confined):
    """A process that was started anew."""

    def __init__(self, popen: subprocess.Popen[bytes], *rest: Any, uid: int | None, namespace: bool) -> None:
        super().__init__(*rest)
        self.popen = popen
        self._uid = uid
        self._namespace = namespace

    def complaint(self) -> str:
        if self.popen.stderr is None:
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(1)
        self.popen.kill()
        said = self.popen.stderr.read().decode("utf-8", "replace").strip().splitlines()
        return said[-1][:200] if said else ""

    def wait(self, seconds: float) -> int | None:
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


class _Forked(Confined):
    """A process of a fork server."""

    def __init__(self, launcher: Launcher, *rest: Any, uid: int | None) -> None:
        super().__init__(*rest)
        self._launcher = launcher
        self._uid = uid
        self._code: int | None = None

    def wait(self, seconds: float) -> int | None:
        if self._code is None:
            self._code = self._launcher.ask("wait", float(seconds), seconds + _START_SECONDS)
        return self._code

    def _end(self) -> int:
        return int(self._launcher.ask("end", self._uid, _START_SECONDS))


class Launcher:
    """Starts processes, one program at a time beside judges.

    Args:
        sandbox: the level.
        slot: of its programs' user ids; no other launcher of this process has it.
    """

    def __init__(self, sandbox: Sandbox, slot: int) -> None:
        self._sandbox = sandbox
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
        uid = _uid(2 * self._slot + (role == "judge")) if self._sandbox.own_uids else None
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
        """What the fork server answers; a server that is gone is replaced at the next start."""
        if self._server is None:
            return -9
        connection = self._server[1]
        try:
            connection.settimeout(seconds)
            wire.send(connection, wire.encode((verb, argument), {}, _refuse))
            return wire.decode(wire.receive(connection), *plain_only())
        except (wire.Closed, wire.Broken, OSError):
            self._server[0].kill()  # its children end with it
            self.close()
            return -9

    def _config(self, role: str, limits: ProgramLimits, uid: int | None, folder: str) -> dict[str, Any]:
        return {
            "role": role,
            "level": self._sandbox.level,
            "user_namespace": self._sandbox.user_namespace,
            "environment": _environment(folder),
            "uid": uid,
            "binds": [*python_folders(), *filter(os.path.exists, _DEVICES)],
            "processes": _process_limit(self._sandbox, limits.processes),
            "cpu_seconds": None if role == "judge" else limits.cpu_seconds,
            "memory": limits.memory_mib << 20,
            "files": limits.open_files,
            "file_bytes": limits.disk_mib << 20,
            "tmp_bytes": limits.disk_mib << 20,
            "folder": folder,
            "hidden": role == "judge",
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
        before = (
            _bubblewrap(shutil.which("bwrap"), self._sandbox.own_uids, limits)
            if self._sandbox.level == "bubblewrap"
            else ()
        )
        quiet = subprocess.PIPE if piped else subprocess.DEVNULL
        try:
            popen = subprocess.Popen(
                [*before, *python_command(), str(theirs.fileno())],
                stdin=quiet,
                stdout=quiet,
                stderr=subprocess.PIPE if role == "probe" else quiet,
                pass_fds=(theirs.fileno(),),
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
        streams = tuple(stream for stream in (popen.stdin, popen.stdout, popen.stderr) if stream is not None)
        namespace = self._sandbox.level in ("namespaces", "bubblewrap")
        started = _Started(popen, ours, streams if piped else (), (folder, uid), uid=uid, namespace=namespace)
        with contextlib.suppress(OSError):  # it has ended already, and `confirm` will see
            ours.sendall(compiled_files(role) + _framed(config))
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
            connection.settimeout(_START_SECONDS)
            wire.send(connection, wire.encode(("start", config), {}, _refuse))
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
        return _Forked(self, ours, streams, (folder, uid), uid=uid)

    def _fork_server(self) -> socket.socket:
        if self._server is None:
            ours, theirs = socket.socketpair()
            popen = subprocess.Popen(
                [*python_command(), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=_environment("/tmp"),
                cwd="/",
                start_new_session=True,
            )
            theirs.close()
            ours.sendall(compiled_files("forks") + _framed({"role": "forks"}))
            self._server = popen, ours
        return self._server[1]


def plain_only() -> tuple[Any, Any, Any]:
    """Arguments of `wire.decode` where nothing but plain values may come."""

    def refuse(*_: object) -> None:
        raise wire.Broken("only plain values are expected here")

    return refuse, refuse, refuse


def _framed(config: dict[str, Any]) -> bytes:
    frame = wire.encode(config, {}, _refuse)
    return len(frame).to_bytes(4, "big") + frame


def _refuse(value: object) -> tuple[int, str]:
    raise TypeError(f"{type(value).__name__} is not plain")


def _environment(folder: str) -> dict[str, str]:
    """All that a program finds in its environment."""
    return {
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PATH": "/usr/bin:/bin",
        "HOME": folder,
        "TMPDIR": folder,
    }


def _uid(number: int) -> int:
    """A user id that nobody else has: of this process and this number; lower ones where few are mapped."""
    top = _mapped_uids()
    if top > _FIRST_UID + (1 << 29):
        return _FIRST_UID + (os.getpid() % (1 << 22)) * 128 + number % 128
    return top - 1 - (os.getpid() * 16 + number) % 4096


@functools.cache
def _mapped_uids() -> int:
    """User ids that exist here: 2^32 - 1, fewer in a user namespace."""
    try:
        lines = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
        return max(int(line.split()[0]) + int(line.split()[2]) for line in lines)
    except (OSError, ValueError):
        return 65_535


def _process_limit(sandbox: Sandbox, processes: int) -> int | None:
    """For RLIMIT_NPROC, which counts all processes of a user, in a user namespace those in it."""
    if not sandbox.processes_limited:
        return None
    if sandbox.own_uids or sandbox.level in ("namespaces", "bubblewrap"):
        return processes
    own, running = os.getuid(), 0
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == own:
                running += len(os.listdir(f"/proc/{entry.name}/task"))
    return running + processes


@functools.lru_cache(maxsize=8)
def _bubblewrap(executable: str | None, own_uids: bool, limits: ProgramLimits) -> tuple[str, ...]:
    """The command before Python's."""
    command = [executable or "bwrap", "--die-with-parent"]
    command += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if own_uids:
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user", "--uid", "1000", "--gid", "1000"]
    command += ["--perms", "1777", "--size", str(limits.disk_mib << 20), "--tmpfs", "/tmp"]
    made = {"/tmp"}
    for place in python_folders():
        for parent in reversed(Path(place).parents[:-1]):
            if str(parent) not in made and not os.path.islink(parent):
                command += ["--perms", "0755", "--dir", str(parent)]
                made.add(str(parent))
        if os.path.islink(place):
            command += ["--symlink", os.readlink(place), place]
        else:
            command += ["--ro-bind", place, place]
            made.add(place)
    command += ["--dev", "/dev", "--remount-ro", "/dev", "--remount-ro", "/"]
    return (*command, "--chdir", "/tmp", "--")
