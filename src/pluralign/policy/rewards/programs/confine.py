"""The limits that a process sets for itself before it runs a policy's program; they cannot be undone.

In: the level, a uid and the limits. Out: a process that can do no more than they say. It runs inside the new
process, before anything foreign does, with the standard library alone.

At the level `namespaces` the process forks twice: the first child is the init of a process namespace of its
own (when it ends the kernel ends all others in it) and builds a root folder in memory that holds Python,
read-only, and a small /tmp; its child gives up every privilege and returns from here.
"""

from __future__ import annotations

import os
import resource
import sys

TYPE_CHECKING = False  # as in `typing`; for what this process imports see `wire`
if TYPE_CHECKING:
    from typing import Any

__all__ = ["adopt_orphans", "confine"]

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = (
    1,
    2,
    4,
    32,
    4096,
    16384,
    1 << 18,
)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_SET_CHILD_SUBREAPER = 1, 4, 38, 36
_PR_SET_SECCOMP = 22
_MNT_DETACH = 2
_SIGKILL = 9  # `signal` imports `enum`


def confine(config: dict[str, Any]) -> None:
    """Applies the level and the limits to this process.

    Args:
        config: level, user_namespace, uid (None: stays as it is), binds (folders to see), processes (None:
            not limited), cpu_seconds, memory, files, file_bytes, tmp_bytes, folder (where to work), hidden
            (whether others of the same user may read the memory of the process), call_filter (of
            `system_calls`; empty for none).

    Raises:
        OSError: the kernel refuses a step; nothing foreign must run then.
    """
    level = config["level"]
    if level == "namespaces":
        _enter_namespaces(config)
    elif level != "bubblewrap":
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    os.chdir("/tmp" if level in ("namespaces", "bubblewrap") else config["folder"])
    os.umask(0o077)
    if config["uid"] is not None:
        if level == "separate_user":
            _keep_library()
        os.setgroups([])
        os.setresgid(config["uid"], config["uid"], config["uid"])
        os.setresuid(config["uid"], config["uid"], config["uid"])
    if level not in ("namespaces", "bubblewrap"):
        _prctl(_PR_SET_PDEATHSIG, _SIGKILL)  # a change of uid has cleared any earlier one
        _prctl(_PR_SET_DUMPABLE, 0 if config["hidden"] else 1)
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_AS: config["memory"],
        resource.RLIMIT_NOFILE: config["files"],
        resource.RLIMIT_FSIZE: config["file_bytes"],
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    if config["cpu_seconds"] is not None:
        limits[resource.RLIMIT_CPU] = config["cpu_seconds"]
    if config["processes"] is not None:
        limits[resource.RLIMIT_NPROC] = config["processes"]
    for which, most in limits.items():
        _, hard = resource.getrlimit(which)
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (value, value))
    if config["call_filter"] and level != "bubblewrap":  # which has set it itself
        _filter_calls(config["call_filter"])


def _filter_calls(code: bytes) -> None:
    import ctypes

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))

    steps = ctypes.create_string_buffer(code, len(code))
    program = Program(len(code) // 8, ctypes.addressof(steps))
    _check(_libc().prctl(_PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0), "seccomp")


def _keep_library() -> None:
    """Python's own library stays readable where it lies in a folder that other users may not enter.

    From there the program can go up, as far as folders let anyone in: within a closed home it reaches what
    lies around Python and is readable for all.
    """
    held: dict[str, str] = {}
    for place in sys.path:
        path, closed = place, False
        while path not in ("", "/"):
            path = os.path.dirname(path)
            closed = closed or not os.stat(path or "/").st_mode & 1
        if closed and os.path.isdir(place):
            held[place] = f"/proc/self/fd/{os.open(place, os.O_PATH | os.O_DIRECTORY)}"
    if not held:
        return
    sys.path[:] = [held.get(place, place) for place in sys.path]
    sys.path_importer_cache.clear()
    for module in list(sys.modules.values()):
        for place in getattr(module, "__path__", None) or ():
            for old, new in held.items():
                if place.startswith(old + "/") and isinstance(module.__path__, list):
                    module.__path__ = [new + place[len(old) :]]


def adopt_orphans() -> None:
    """This process becomes the parent of orphans below it, and ends with the thread that started it."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)


def _exit_like(status: int) -> None:
    """Ends this process as a child with that wait status ended; 128 + signal, as shells say it."""
    os._exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


def _enter_namespaces(config: dict[str, Any]) -> None:
    libc = _libc()
    outer_uid, outer_gid = os.getuid(), os.getgid()
    flags = _NEWNS | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET
    _check(libc.unshare(flags | (_NEWUSER if config["user_namespace"] else 0)), "unshare")
    if config["user_namespace"]:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"1000 {outer_uid} 1"),
            ("gid_map", f"1000 {outer_gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    first = os.fork()
    if first:
        _wait_for(first)
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    _build_root(libc, config)
    program = os.fork()
    if program:
        _wait_for(program)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if config["user_namespace"]:
        import struct

        _check(libc.capset(struct.pack("Ii", 0x20080522, 0), bytes(24)), "capset")


def _wait_for(child: int) -> None:
    """Holds nothing, reaps what is orphaned, and ends as the child ends."""
    os.closerange(0, 1024)
    while True:
        pid, status = os.wait()
        if pid == child:
            _exit_like(status)


def _build_root(libc: Any, config: dict[str, Any]) -> None:
    """A root in memory with Python and its libraries, read-only, and an empty /tmp of limited size."""
    os.umask(0o022)
    root = "/tmp"  # hidden below the new root, which is mounted on it
    _check(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "private mounts")
    links = {path: os.readlink(path) for path in config["binds"] if os.path.islink(path)}
    folders = {path for path in config["binds"] if os.path.isdir(path)}
    held = {path: os.open(path, os.O_PATH) for path in config["binds"] if path not in links}
    flags = {path: _MS_BIND | _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _mount_flags(path) for path in held}
    _mount_tmpfs(libc, root, "size=64k,nr_inodes=512,mode=755")  # what was there is only held by now
    os.mkdir(root + "/tmp")
    _mount_tmpfs(libc, root + "/tmp", f"size={config['tmp_bytes']},nr_inodes=4096,mode=1777")
    for path, content in links.items():
        os.makedirs(os.path.dirname(root + path), mode=0o755, exist_ok=True)
        os.symlink(content, root + path)
    for path, descriptor in held.items():
        target = root + path
        os.makedirs(target if path in folders else os.path.dirname(target), mode=0o755, exist_ok=True)
        if path not in folders:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        source = f"/proc/self/fd/{descriptor}".encode()
        _check(libc.mount(source, target.encode(), None, _MS_BIND | _MS_REC, None), f"bind {path}")
        if not path.startswith("/dev/"):
            _check(libc.mount(None, target.encode(), None, flags[path], None), f"read-only {path}")
        os.close(descriptor)
    os.chdir(root)
    _check(libc.pivot_root(b".", b"."), "pivot_root")
    _check(libc.umount2(b".", _MNT_DETACH), "umount")
    os.chdir("/")
    last = _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV
    _check(libc.mount(None, b"/", None, last, None), "read-only root")


def _mount_tmpfs(libc: Any, target: str, options: str) -> None:
    flags = _MS_NOSUID | _MS_NODEV
    _check(libc.mount(b"tmpfs", target.encode(), b"tmpfs", flags, options.encode()), f"tmpfs {target}")


def _mount_flags(path: str) -> int:
    """Flags of the file system that a user namespace must not drop."""
    found = os.statvfs(path).f_flag
    return (_MS_NODEV if found & os.ST_NODEV else 0) | (8 if found & os.ST_NOEXEC else 0)


def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    _check(_libc().prctl(option, value, 0, 0, 0), f"prctl {option}")


def _check(result: int, what: str) -> None:
    if result != 0:
        import ctypes

        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
