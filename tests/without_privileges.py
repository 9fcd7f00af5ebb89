"""A process without the right to write anywhere, also where the tests run as root."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def forbidden_to_write(folder: Path) -> Iterator[Path]:
    """A copy of a folder that the current user may read and not write, while the block runs."""
    place = Path(tempfile.mkdtemp())  # outside pytest's own, which is its user's alone
    copy = place / folder.name
    shutil.copytree(folder, copy)
    for path in (place, copy, *copy.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if user == 0:  # may write anywhere
        os.seteuid(65534)
    try:
        yield copy
    finally:
        os.seteuid(user)
        for path in (place, copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        shutil.rmtree(place)
