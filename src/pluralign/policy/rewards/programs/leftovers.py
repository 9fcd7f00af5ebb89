"""Removal of what a program may leave behind: processes of its user id, and files.

In: user ids and folders. Out: nothing is left of them. In a process namespace the kernel does the first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
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
    """Removes the folder, and what a user id of its own has left in folders that all can write to."""
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.isdir(folder):  # folders without permissions in it
        for place, names, _ in os.walk(folder):
            for name in names:
                with contextlib.suppress(OSError):
                    if not os.path.islink(os.path.join(place, name)):
                        os.chmod(os.path.join(place, name), 0o700)
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
