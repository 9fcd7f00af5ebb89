"""Which protection this machine offers, and processes that run behind it.

In: limits and what to run. Out: a process that is confined before it runs anything foreign, with a socket to it,
and its end, after which nothing of it runs and nothing of it lies on disk.

    bubblewrap     no network, own process ids, Python and libraries read-only, a small /tmp, empty environment
    namespaces     the same by system calls, where bubblewrap is not installed
    separate_user  rlimits under a user id of its own: your files are safe, the network is open
    rlimits        rlimits alone: the program can do to your files and processes what you can

Where this process may change user ids each program gets one of its own, because a limit on processes does not bind root.
"""

from __future__ import annotations

import contextlib
import functools
import marshal
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

from pluralign.errors import ArgumentError, SandboxError
from pluralign.policy.rewards.programs import wire
from pluralign.policy.rewards.programs.leftovers import end_processes, processes_of, remove_files
from pluralign.policy.rewards.programs.limits import ProgramLimits

__all__ = ["LEVELS", "Confined", "Sandbox", "find_sandbox", "launch", "plain_only"]

LEVELS = ("rlimits", "separate_user", "namespaces", "bubblewrap")  # weakest first

_PACKAGE = "pluralign.policy.rewards.programs"
_FIRST_UID = 1_500_000_000
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
# Reads compiled modules from the socket, and runs `entry`.
_BOOTSTRAP = (
    "import sys,os,marshal,types\n"
    "n=int(sys.argv[1])\n"
    "def r(k):\n b=b''\n while len(b)<k:\n  p=os.read(n,k-len(b))\n  if not p: os._exit(1)\n  b+=p\n return b\n"
    "for name,code in marshal.loads(r(int.from_bytes(r(8),'big'))):\n"
    " m=types.ModuleType(name);sys.modules[name]=m;exec(code,m.__dict__)\n"
    " parent,_,last=name.rpartition('.');p=sys.modules.setdefault(parent,types.ModuleType(parent));setattr(p,last,m)\n"
    "m.main(n)\n"
)


@dataclass(frozen=True)
class Sandbox:
    """A level that was tried on this machine and works.

    Attributes:
        level: one of `LEVELS`.
        processes_limited: whether a program's processes can be limited in number.
        own_uids: whether each program runs under a user id of its own.
        user_namespace: whether the namespaces are those of an ordinary user.
        refused: stronger levels, and why this machine does not offer them.
    """

    level: str
    processes_limited: bool
    own_uids: bool
    user_namespace: bool
    refused: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        parts = [self.level]
        if not self.processes_limited:
            parts.append("processes unlimited")
        if self.level in ("separate_user", "rlimits"):
            parts.append("network open")
        if self.level == "rlimits":
            parts.append("your files and processes unprotected")
        return ", ".join(parts)


class Confined:
    """A process in the sandbox.

    Attributes:
        connection: a socket to it; None once it was handed on.
        popen: the process that was started; inside a namespace it is the one outside.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        popen: subprocess.Popen[bytes],
        connection: socket.socket,
        uid: int | None,
        folder: str,
    ) -> None:
        self._sandbox = sandbox
        self._uid = uid
        self._folder = folder
        self.popen = popen
        self.connection = connection

    def hand(self, value: dict[str, Any]) -> None:
        """Sends a plain value; one that has ended already gets nothing, and its end tells."""
        with contextlib.suppress(OSError):
            self.connection.sendall(_framed(value))

    def end(self) -> int:
        """Ends it and all that it started, removes its files, and returns its exit code as `subprocess` has it."""
        self.connection.close()
        code = self.popen.poll()
        if code is None:
            inside = (
                processes_of(self.popen.pid) if self._sandbox.level in ("namespaces", "bubblewrap") else []
            )
            for pid in inside:  # the init of its namespace: the kernel ends the rest before the outer one
                end_processes(pid)
            if inside:
                try:
                    self.popen.wait(5)
                except subprocess.TimeoutExpired:
                    self.popen.kill()
            else:
                self.popen.kill()
            self.popen.wait()
        if self._sandbox.level in ("separate_user", "rlimits"):
            end_processes(self.popen.pid, self._uid, self._folder)
            remove_files(self._folder, self._uid)
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()
        return int(self.popen.returncode if code is None else code)


def launch(
    sandbox: Sandbox,
    role: str,
    limits: ProgramLimits,
    slot: int,
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
) -> Confined:
    """Starts a process that confines itself and then plays its role.

    Args:
        sandbox: the level.
        role: "program", "script", "judge" or "probe".
        limits: of the process.
        slot: no two processes that live at a time have the same one.
        stdin, stdout, stderr: as for `subprocess.Popen`.
    """
    import tempfile

    uid = _uid(slot) if sandbox.own_uids else None
    open_level = sandbox.level in ("separate_user", "rlimits")
    folder = tempfile.mkdtemp(prefix="pluralign-program-") if open_level else "/tmp"
    if open_level and uid is not None:
        os.chown(folder, uid, uid)
    ours, theirs = socket.socketpair()
    command = [*_python(), str(theirs.fileno())]
    if sandbox.level == "bubblewrap":
        command = [*_bubblewrap(sandbox.own_uids, limits), *command]
    environment = {
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PATH": "/usr/bin:/bin",
        "HOME": folder,
        "TMPDIR": folder,
    }
    try:
        popen = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(theirs.fileno(),),
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    except OSError:
        ours.close()
        if open_level:
            remove_files(folder, None)
        raise
    finally:
        theirs.close()
    confined = Confined(sandbox, popen, ours, uid, folder)
    judge = role == "judge"
    config = {
        "role": role,
        "level": sandbox.level,
        "user_namespace": sandbox.user_namespace,
        "uid": uid,
        "binds": list(_binds()) + list(_DEVICES),
        "processes": _process_limit(sandbox, limits.processes),
        "cpu_seconds": None if judge else limits.cpu_seconds,
        "memory": limits.memory_mib << 20,
        "files": limits.open_files,
        "file_bytes": limits.disk_mib << 20,
        "tmp_bytes": limits.disk_mib << 20,
        "folder": folder,
        "hidden": judge,
    }
    with contextlib.suppress(OSError):  # it has ended already; who reads from it will see
        ours.sendall(_modules(role) + _framed(config))
    return confined


def _framed(config: dict[str, Any]) -> bytes:
    frame = wire.encode(config, {}, _refuse)
    return len(frame).to_bytes(4, "big") + frame


def _refuse(value: object) -> tuple[int, str]:
    raise TypeError(f"{type(value).__name__} is not plain")


def _uid(slot: int) -> int:
    """A user id that nobody else has: of this process and this slot; lower ones where few are mapped."""
    low = _mapped_uids()
    if low > _FIRST_UID + (1 << 29):
        return _FIRST_UID + (os.getpid() % (1 << 22)) * 128 + slot % 128
    return low - 1 - (os.getpid() * 16 + slot) % 4096


@functools.cache
def _mapped_uids() -> int:
    """User ids that exist here: 2^32 - 1, fewer in a user namespace."""
    try:
        lines = Path("/proc/self/uid_map").read_text(encoding="ascii").split("\n")
        return max(int(line.split()[0]) + int(line.split()[2]) for line in lines if line.split())
    except (OSError, ValueError):
        return 65_535


def _process_limit(sandbox: Sandbox, processes: int) -> int | None:
    """For RLIMIT_NPROC, which counts all processes of a user, in a user namespace those in it."""
    if not sandbox.processes_limited:
        return None
    if sandbox.own_uids or sandbox.level in ("namespaces", "bubblewrap"):
        return processes
    own = os.getuid()
    running = 0
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and entry.stat().st_uid == own:
                running += len(os.listdir(f"/proc/{entry.name}/task"))
        except OSError:
            continue
    return running + processes


@functools.cache
def _python() -> tuple[str, ...]:
    """Python itself, not that of an environment, without site folders."""
    executable = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    return executable, "-s", "-S", "-P", "-B", "-c", _BOOTSTRAP


@functools.cache
def _binds() -> tuple[str, ...]:
    """Folders that Python and its libraries need, as they are named here."""
    places = [os.path.realpath(place) for place in (sys.base_prefix, sys.base_exec_prefix)]
    places += [os.path.dirname(_python()[0])]
    extra = dict.fromkeys(p for p in places if not any(p == s or p.startswith(s + "/") for s in _SYSTEM))
    kept = [p for p in extra if not any(p != other and p.startswith(other + "/") for other in extra)]
    if any(len(Path(place).parts) < 3 for place in kept):
        raise SandboxError(f"Python lives in {kept[0]}, which is too wide a folder to show to a program")
    return tuple(place for place in (*_SYSTEM, *kept) if os.path.exists(place))


@functools.lru_cache(maxsize=8)
def _bubblewrap(own_uids: bool, limits: ProgramLimits) -> tuple[str, ...]:
    command = [shutil.which("bwrap") or "bwrap", "--die-with-parent", "--clearenv"]
    command += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if own_uids:
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user", "--uid", "1000", "--gid", "1000"]
    for name, value in (
        ("PYTHONHASHSEED", "0"),
        ("PYTHONUTF8", "1"),
        ("LC_ALL", "C.UTF-8"),
        ("TZ", "UTC"),
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/tmp"),
        ("TMPDIR", "/tmp"),
    ):
        command += ["--setenv", name, value]
    made: set[str] = set()
    for place in _binds():
        for parent in reversed(Path(place).parents[:-1]):
            if str(parent) not in made and not os.path.islink(parent):
                command += ["--perms", "0755", "--dir", str(parent)]
                made.add(str(parent))
        if os.path.islink(place):
            command += ["--symlink", os.readlink(place), place]
        else:
            command += ["--ro-bind", place, place]
            made.add(place)
    command += ["--dev", "/dev", "--remount-ro", "/dev"]
    command += [
        "--perms",
        "1777",
        "--size",
        str(limits.disk_mib << 20),
        "--tmpfs",
        "/tmp",
        "--remount-ro",
        "/",
    ]
    return (*command, "--chdir", "/tmp", "--")


@functools.cache
def _modules(role: str) -> bytes:
    """The compiled files that a role needs, in the order of their imports."""
    names = {"judge": ["remote", "judge"], "probe": []}.get(role, ["agent"])
    codes = []
    for name in ("wire", "confine", *names, "entry"):
        spec = util.find_spec(f"{_PACKAGE}.{name}")
        assert spec is not None and spec.origin is not None
        source = Path(spec.origin).read_text(encoding="utf-8")
        codes.append((f"{_PACKAGE}.{name}", compile(source, f"<{name}>", "exec", dont_inherit=True)))
    raw = marshal.dumps(codes)
    return len(raw).to_bytes(8, "big") + raw


def find_sandbox(minimum: str = "separate_user", at_most: str = "bubblewrap") -> Sandbox:
    """The strongest level that works here, tried once per process.

    Args:
        minimum: the weakest level that will do; `rlimits` is consent to programs that can touch your files.
        at_most: stronger ones are not tried; for tests and comparisons.

    Raises:
        ArgumentError: no such level.
        SandboxError: this machine offers none that is strong enough; the message says why and what to install.
    """
    for name, level in (("minimum", minimum), ("at_most", at_most)):
        if level not in LEVELS:
            raise ArgumentError(f"{name} is {level!r}; allowed: {', '.join(LEVELS)}")
    if LEVELS.index(at_most) < LEVELS.index(minimum):
        raise ArgumentError(f"at_most {at_most!r} is weaker than minimum {minimum!r}")
    refused: list[tuple[str, str]] = []
    for level in reversed(LEVELS[: LEVELS.index(at_most) + 1]):
        found, why = _try_level(level, os.getuid())
        if found is not None and LEVELS.index(level) >= LEVELS.index(minimum):
            return Sandbox(
                found.level, found.processes_limited, found.own_uids, found.user_namespace, tuple(refused)
            )
        if found is None:
            refused.append((level, why))
    reasons = "; ".join(f"{level}: {why}" for level, why in refused)
    raise SandboxError(
        f"programs need a sandbox of at least {minimum!r}, and this machine offers none ({reasons}). Install bubblewrap "
        "(`apt-get install bubblewrap`), or run where user namespaces are allowed or as root; or pass "
        "minimum='rlimits', which lets programs touch your files, processes and network"
    )


@functools.cache
def _try_level(level: str, uid: int) -> tuple[Sandbox | None, str]:
    if sys.platform != "linux":
        return None, "it needs Linux"
    if level == "bubblewrap" and shutil.which("bwrap") is None:
        return None, "bwrap is not installed"
    root = uid == 0
    tries: list[tuple[bool, bool]] = [(root, False)]  # own uids, user namespace
    if level == "namespaces" or level == "bubblewrap":
        tries = [(True, False), (False, True)] if root else [(False, True)]
    elif level == "separate_user":
        tries = [(True, False)] if root else []
    elif root:
        tries = [(True, False), (False, False)]
    why = "only root can change to another user id"
    for own_uids, user_namespace in tries:
        limited = own_uids or not root
        sandbox = Sandbox(level, limited, own_uids, user_namespace)
        works, why = _probe(sandbox)
        if works:
            return sandbox, ""
    return None, why


def _probe(sandbox: Sandbox) -> tuple[bool, str]:
    """Whether a process can be confined so, with the first line of what was said against it."""
    try:
        started = launch(sandbox, "probe", ProgramLimits(), slot=127, stderr=subprocess.PIPE)
    except OSError as error:
        return False, str(error)
    try:
        started.connection.settimeout(20)
        answer = wire.decode(wire.receive(started.connection), *plain_only())
        return bool(answer[0] == "confined"), str(answer[1])
    except (wire.Broken, wire.Closed, OSError) as error:
        started.popen.kill()
        said = (
            (started.popen.stderr.read() if started.popen.stderr else b"").decode("utf-8", "replace").strip()
        )
        return False, said.splitlines()[-1][:200] if said else f"no answer ({type(error).__name__})"
    finally:
        started.end()


def plain_only() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Arguments of `wire.decode` where nothing but plain values may come."""

    def refuse(*_: object) -> None:
        raise wire.Broken("only plain values are expected here")

    return refuse, refuse, refuse
