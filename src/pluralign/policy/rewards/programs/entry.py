"""The first code in a new process: a fork server, or limits and then the program's side or the judge.

In: a descriptor of a socket on which the configuration comes. It is loaded as compiled code with the few
files that it needs (`python_files`), since a process in the sandbox sees no package.
"""

from __future__ import annotations

import os
import sys

from pluralign.policy.rewards.programs import plain, wire
from pluralign.policy.rewards.programs.confine import confine
from pluralign.policy.rewards.programs.importing import provide

TYPE_CHECKING = False  # as in `typing`; for what this process imports see `wire`
if TYPE_CHECKING:
    from typing import Any

__all__ = ["main"]


def main(descriptor: int) -> None:
    """Reads the configuration and does what this process was started for."""
    connection = wire.Stream(descriptor)
    config = _read(connection)
    if config["role"] == "forks":
        from pluralign.policy.rewards.programs.forking import serve_forks

        serve_forks(descriptor, _play)
    _play(connection, config)


def _play(connection: wire.Stream, config: dict[str, Any]) -> None:
    """Confines this process, says so, and plays its role."""
    try:
        confine(config)
    except OSError as error:
        plain.send(connection, ("refused", str(error)))
        os._exit(1)
    plain.send(connection, ("confined", os.getuid()))
    sys.setrecursionlimit(5_000)
    if config["packages"]:
        provide(config["packages"])
    if config["role"] == "judge":
        from pluralign.policy.rewards.programs.judge import serve_jobs

        serve_jobs(connection.descriptor)
    elif config["role"] == "script":
        from pluralign.policy.rewards.programs.agent import run_script

        job = _read(connection)
        connection.close()
        run_script(job)
    elif config["role"] == "program":
        from pluralign.policy.rewards.programs.agent import serve

        serve(connection, _read(connection))


def _read(connection: wire.Stream) -> dict[str, Any]:
    try:
        found = plain.receive(connection, 64 << 20)
    except wire.Closed:
        os._exit(0)
    assert isinstance(found, dict)
    return found
