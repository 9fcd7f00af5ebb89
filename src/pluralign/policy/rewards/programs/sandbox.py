"""Levels of protection, and what one that was tried on this machine offers.

    bubblewrap     no network, own process ids, Python and libraries read-only, a small /tmp, no environment
    namespaces     the same by system calls, where bubblewrap is not installed
    separate_user  rlimits under a user id of its own: your files are safe, the network is open
    rlimits        rlimits alone: the program can do to your files and processes what you can

Where this process may change user ids each program gets one of its own, because a limit on processes does
not bind root.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LEVELS", "Sandbox"]

LEVELS = ("rlimits", "separate_user", "namespaces", "bubblewrap")  # weakest first


@dataclass(frozen=True)
class Sandbox:
    """A level that was tried on this machine and works.

    Attributes:
        level: one of `LEVELS`.
        processes_limited: whether a program's processes can be limited in number.
        own_uids: whether each program runs under a user id of its own.
        user_namespace: whether the namespaces are those of an ordinary user.
        calls_filtered: whether system calls that no program needs are refused (`system_calls`).
        refused: stronger levels, and why this machine does not offer them.
    """

    level: str
    processes_limited: bool
    own_uids: bool
    user_namespace: bool
    calls_filtered: bool = False
    refused: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        parts = [self.level]
        if not self.processes_limited:
            parts.append("processes unlimited")
        if not self.calls_filtered:
            parts.append("shared memory unlimited")
        if self.level in ("separate_user", "rlimits"):
            parts.append("network open")
        if self.level == "rlimits":
            parts.append("your files and processes unprotected")
        return ", ".join(parts)
