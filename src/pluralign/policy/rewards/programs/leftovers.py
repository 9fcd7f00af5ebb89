"""What a program may leave behind: processes and files, found and ended.

In: the id of the process that was started, its user id and its folder. Out: nothing is left of them. In a
process namespace the kernel does this; elsewhere all processes of a user id of its own are ended at once, and
those of a shared user id by their group, their parents and the folder that they started in.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["end_processes", "processes_of", "remove_files"]

_SHARED_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock")


def processes_of(pid: int) -> list[int]:
    """Children of a process, as far as the kernel tells."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except (OSError, ValueError):
        return []


def end_processes(pid: int, uid: int | None = None, folder: str | None = None) -> None:
    """Ends a process, and with a user id or a folder all that belong to them.

    Args:
        pid: the one that was started.
        uid: a user id that is nobody else's.
        folder: the folder in whose name processes were started, where there is no such user id.
    """
    if uid is not None:
        _end_all_of(uid)
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    if folder is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for _ in range(50):  # a process may fork while it is looked for
        found = _started_in(folder)
        if not found:
            return
        for each in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(each, signal.SIGKILL)
        time.sleep(0.005)


def _end_all_of(uid: int) -> None:
    """As that user, a signal to every process that it may signal: atomic, so no fork escapes."""
    code = (
        f"import os;os.setgroups([]);os.setresgid({uid},{uid},{uid});os.setresuid({uid},{uid},{uid})\n"
        "try: os.kill(-1,9)\nexcept ProcessLookupError: pass"
    )
    if not _any_of(uid):
        return
    for _ in range(50):
        subprocess.run([sys.executable, "-I", "-S", "-c", code], check=False, stderr=subprocess.DEVNULL)
        if not _any_of(uid):
            return
        time.sleep(0.005)


def _any_of(uid: int) -> bool:
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == uid and _alive(entry.name):
                return True
    return False


def _alive(pid: str) -> bool:
    with contextlib.suppress(OSError):
        return (
            Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] not in "ZX"
        )
    return False


def _started_in(folder: str) -> list[int]:
    """Processes whose first environment names the folder."""
    mark, own = f"TMPDIR={folder}\0".encode(), os.getpid()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != own:
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{name}/environ").read_bytes() and _alive(name):
                    found.append(int(name))
    return found


def remove_files(folder: str, uid: int | None) -> None:
    """Removes the folder, and what a user id of its own has left in folders that all can write to."""
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.isdir(folder):  # folders without permissions in it
        for place, names, _ in os.walk(folder):
            for name in names:
                with contextlib.suppress(OSError):
                    os.chmod(os.path.join(place, name), 0o700, follow_symlinks=False)
        shutil.rmtree(folder, ignore_errors=True)
    if uid is None:
        return
    for shared in _SHARED_FOLDERS:
        with contextlib.suppress(OSError):
            for entry in list(os.scandir(shared)):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid == uid:
                        if entry.is_dir(follow_symlinks=False):
                            shutil.rmtree(entry.path, ignore_errors=True)
                        else:
                            os.unlink(entry.path)
