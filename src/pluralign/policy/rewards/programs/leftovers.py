"""Removal of what a program may leave behind: processes of its user id, files and shared memory.

In: user ids and folders. Out: nothing is left of them. In a process namespace the kernel does the first.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["end_all_of", "init_of", "remove_files"]

_SHARED_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock")


def init_of(pid: int) -> int | None:
    """The first child of the process outside a process namespace; None where the kernel does not show it."""
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None


def end_all_of(uid: int) -> None:
    """Ends all processes of a user id of its own: one signal as that user, so that no fork escapes."""
    code = (
        f"import os;os.setgroups([]);os.setresgid({uid},{uid},{uid});os.setresuid({uid},{uid},{uid})\n"
        "try: os.kill(-1,9)\nexcept ProcessLookupError: pass"
    )
    for _ in range(50):
        if not _any_of(uid):
            return
        subprocess.run([sys.executable, "-I", "-S", "-c", code], check=False, stderr=subprocess.DEVNULL)
        time.sleep(0.005)


def _any_of(uid: int) -> bool:
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError, IndexError):
            if entry.name.isdigit() and entry.stat().st_uid == uid:
                state = (
                    Path(f"/proc/{entry.name}/stat")
                    .read_text("ascii", "replace")
                    .rpartition(")")[2]
                    .split()[0]
                )
                if state not in "ZX":
                    return True
    return False


def remove_files(folder: str, uid: int | None) -> None:
    """Removes the folder, and what a user id of its own has left in folders that all can write to.

    Nothing of the program may run any more.
    """
    _remove_tree(folder)
    if uid is None:
        return
    for shared in _SHARED_FOLDERS:
        with contextlib.suppress(OSError):
            for entry in list(os.scandir(shared)):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid == uid:
                        if entry.is_dir(follow_symlinks=False):
                            _remove_tree(entry.path)
                        else:
                            os.unlink(entry.path)
    _remove_shared_memory(uid)


def _remove_tree(folder: str) -> None:
    """Removes a folder of any depth and with any permissions.

    Folders in it are moved up to it one by one, so neither the depth of calls, nor a path, nor the number of
    open folders grows with that of the tree, which a program may have made thousands deep.
    """
    with contextlib.suppress(OSError):
        os.chmod(folder, 0o700)
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            while sum(_removed(entry, top) for entry in list(os.scandir(top))):
                pass
        finally:
            os.close(top)
        os.rmdir(folder)


def _removed(entry: os.DirEntry[str], top: int) -> bool:
    """Whether an entry of the open folder `top` is gone; what it holds may be there now."""
    with contextlib.suppress(OSError):
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.name, dir_fd=top)
            return True
        os.chmod(entry.name, 0o700, dir_fd=top)
        inner = os.open(entry.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
        try:
            for one in list(os.scandir(inner)):
                if one.is_dir(follow_symlinks=False):
                    os.chmod(one.name, 0o700, dir_fd=inner)  # its owner may move it only so
                    os.rename(one.name, secrets.token_hex(8), src_dir_fd=inner, dst_dir_fd=top)
                else:
                    os.unlink(one.name, dir_fd=inner)
        finally:
            os.close(inner)
        os.rmdir(entry.name, dir_fd=top)
        return True
    return False


def _remove_shared_memory(uid: int) -> None:
    """Removes what System V's calls have made for a user; it outlives all processes."""
    import ctypes

    libc, remove = ctypes.CDLL(None), 0  # IPC_RMID
    for file, name, arguments in (("shm", "shmid", ()), ("msg", "msqid", ()), ("sem", "semid", (0,))):
        with contextlib.suppress(OSError):
            head, *lines = Path(f"/proc/sysvipc/{file}").read_text("ascii").splitlines()
            owner, number = head.split().index("uid"), head.split().index(name)
            for parts in map(str.split, lines):
                if int(parts[owner]) == uid:
                    getattr(libc, f"{file}ctl")(int(parts[number]), *arguments, remove, None)
