"""What a confined process finds around it: its environment, its user, how many it may be, what it sees.

In: the sandbox and the limits. Out: values that `launching` starts a process with. It starts nothing.
"""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

from pluralign.policy.rewards.programs.limits import ProgramLimits
from pluralign.policy.rewards.programs.python_files import python_folders
from pluralign.policy.rewards.programs.sandbox import Sandbox

__all__ = ["bubblewrap", "environment", "process_limit", "unused_uid"]

_FIRST_UID = 1_500_000_000


def environment(folder: str) -> dict[str, str]:
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


def unused_uid(number: int) -> int:
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


def process_limit(sandbox: Sandbox, processes: int) -> int | None:
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
def bubblewrap(executable: str | None, own_uids: bool, limits: ProgramLimits) -> tuple[str, ...]:
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
