"""Whether an LMDB file has all pages that it uses, checked before any of them is read.

In: an open environment. Out: nothing, or a `CutOffError` with the sizes.

LMDB maps its file into memory, and a process that touches a mapped page which the file does not have is
killed by SIGBUS. A copy that broke off, or a file system that lost a file's end, leaves such a file. The
database says which page is its last; a file that ends before it is either cut off, or sound and its last
pages were given up before they were ever written. Which of the two, a process of its own finds out by reading
everything: if it dies, the file is cut off.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["DATA_FILE", "CutOffError", "check_whole"]

DATA_FILE = "data.mdb"  # LMDB's own name
_META_PAGES = 2  # they describe all others; opening reads them from the file, not from the map

# Values are copied as they are read, and a compact copy also walks the list of free pages.
_READ_ALL = """
import os, sys, lmdb
environment = lmdb.open(sys.argv[1], readonly=True, lock=sys.argv[2] == "lock", readahead=False)
with environment.begin() as transaction:
    for _ in transaction.cursor():
        pass
with open(os.devnull, "wb") as nothing:
    environment.copyfd(nothing.fileno(), compact=True)
"""

_sound: dict[str, tuple[int, int]] = {}  # size and last page of short files that were read to their end


class CutOffError(Exception):
    """The file ends before the last page that it uses."""


def check_whole(environment: Any, folder: Path, page_bytes: int) -> None:
    """Holds the size of the file against the pages that the database uses.

    Args:
        environment: the open database.
        folder: where it lies.
        page_bytes: size of its pages, as read when it was opened.

    Raises:
        CutOffError: the file lacks pages.
    """
    file = folder / DATA_FILE
    needed = _META_PAGES * page_bytes
    try:
        size = file.stat().st_size
        if size >= needed:
            last = int(environment.info()["last_pgno"])
            needed = (last + 1) * page_bytes
            size = file.stat().st_size  # again: pages are added before they are named
            if size >= needed or _sound.get(str(file)) == (size, last):
                return
            if _can_be_read(folder, locked=bool(environment.flags()["lock"])):
                _sound[str(file)] = (size, last)
                return
    except FileNotFoundError:  # removed while it is open, which leaves it whole
        return
    raise CutOffError(f"{DATA_FILE} was cut off: it has {size:,} of {needed:,} bytes")


def _can_be_read(folder: Path, *, locked: bool) -> bool:
    """Whether a process of its own comes to the end of it."""
    command = [sys.executable, "-c", _READ_ALL, os.fspath(folder), "lock" if locked else ""]
    return bool(sys.executable) and subprocess.run(command, capture_output=True, check=False).returncode == 0
