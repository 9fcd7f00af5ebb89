"""The strongest protection that this machine offers: each level is tested before it is used.

In: the weakest acceptable level. Out: a `Sandbox`, or an error with the reason and what to install.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import sys
from dataclasses import replace

from pluralign.errors import ArgumentError, SandboxError
from pluralign.policy.rewards.programs.launching import Launcher
from pluralign.policy.rewards.programs.limits import ProgramLimits
from pluralign.policy.rewards.programs.sandbox import LEVELS, Sandbox
from pluralign.policy.rewards.programs.system_calls import call_filter

__all__ = ["find_sandbox"]

_PROBE_SLOT = 63


def find_sandbox(minimum: str = "separate_user", at_most: str = "bubblewrap") -> Sandbox:
    """The strongest level that works here; each is tested once per process.

    Args:
        minimum: the weakest acceptable level; `rlimits` is consent to programs that can change your files.
        at_most: stronger ones are not used; for comparisons.

    Raises:
        ArgumentError: no such level. SandboxError: this machine offers none that is strong enough; the
        message says why and what to install.
    """
    for name, level in (("minimum", minimum), ("at_most", at_most)):
        if level not in LEVELS:
            raise ArgumentError(f"{name} is {level!r}; allowed: {', '.join(LEVELS)}")
    if LEVELS.index(at_most) < LEVELS.index(minimum):
        raise ArgumentError(f"at_most {at_most!r} is weaker than minimum {minimum!r}")
    refused: list[tuple[str, str]] = []
    for level in reversed(LEVELS[LEVELS.index(minimum) : LEVELS.index(at_most) + 1]):
        found, why = _try_level(level, os.getuid(), os.environ.get("PATH", ""))
        if found is not None:
            return replace(found, refused=tuple(refused))
        refused.append((level, why))
    reasons = "; ".join(f"{level}: {why}" for level, why in refused)
    raise SandboxError(
        f"programs need a sandbox of at least {minimum!r}, and this machine offers none ({reasons}). Install "
        "bubblewrap (`apt-get install bubblewrap`), or run where user namespaces are allowed or as root; "
        "minimum='rlimits' (--sandbox rlimits) consents to programs that can touch your files, processes and "
        "network"
    )


@functools.cache
def _try_level(level: str, uid: int, path: str) -> tuple[Sandbox | None, str]:
    """The level, or why not; once per user and search path."""
    if sys.platform != "linux":
        return None, "it needs Linux"
    if level == "bubblewrap" and shutil.which("bwrap", path=path) is None:
        return None, "bwrap is not installed"
    root = uid == 0
    if level == "rlimits":
        tries = [(False, False)]
    elif level == "separate_user":
        tries = [(True, False)] if root else []
    else:
        tries = [(True, False), (False, True)] if root else [(False, True)]
    why = "only root can change to another user id"
    filters = (True, False) if call_filter() else (False,)
    # Root in a user namespace stays root, whom no limit on processes binds.
    for (own_uids, user_namespace), filtered in itertools.product(tries, filters):
        found = Sandbox(level, own_uids or not root, own_uids, user_namespace, filtered)
        try:
            _probe(found)
        except SandboxError as error:
            why = str(error)
        else:
            return found, ""
    return None, why


def _probe(sandbox: Sandbox) -> None:
    """Raises SandboxError if no process can be confined at this level."""
    Launcher(sandbox, _PROBE_SLOT).start("probe", ProgramLimits()).end()
