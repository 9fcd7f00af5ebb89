"""Where cached files are stored, and whether memory-mapped databases may write to that disk.

In: the environment variable `PLURALIGN_CACHE` and the table of mounted file systems. Out: paths and
file system names.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder", "file_system", "is_network_file_system"]

_MOUNTS = Path("/proc/mounts")
_NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb", "smb3", "smbfs", "afs", "ncpfs", "9p"),
        *("lustre", "gpfs", "ceph", "glusterfs", "beegfs", "orangefs", "pvfs2", "panfs", "wekafs"),
    }
)


def cache_folder() -> Path:
    """`PLURALIGN_CACHE` if it is set, else `~/.cache/pluralign`. The folder need not exist yet."""
    stated = os.environ.get("PLURALIGN_CACHE")
    return Path(stated).expanduser() if stated else Path.home() / ".cache" / "pluralign"


def file_system(path: Path, mounts: str | None = None) -> str | None:
    """Type of the file system that holds `path` (`ext4`, `nfs4`, ...).

    Args:
        path: a file or folder; it need not exist.
        mounts: a table in the format of `/proc/mounts`; by default that of this machine.

    Returns:
        The type of the longest mount point above `path`; None if there is no such table (not Linux).
    """
    if mounts is None:
        if not _MOUNTS.exists():
            return None
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace")
    target = Path(os.path.realpath(path))
    best, found = -1, None
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " "))
        # A later mount on the same point hides the earlier one, hence >=.
        if target.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), fields[2]
    return found


def is_network_file_system(kind: str | None) -> bool:
    """Whether a file system type is, or may be (such as `fuse.sshfs`), shared over a network."""
    if kind is None:
        return False
    return kind in _NETWORK or (kind.startswith("fuse.") and kind != "fuse.fuse-overlayfs")
