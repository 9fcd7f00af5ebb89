"""The first code in a new process of the sandbox: limits, then the program's side or the judge.

In: a descriptor of a socket on which the configuration comes. It is loaded by `BOOTSTRAP`, as compiled code with
the few files it needs, since a process in the sandbox sees no package.
"""

from __future__ import annotations

import os
import socket
import sys

from pluralign.policy.rewards.programs import wire
from pluralign.policy.rewards.programs.confine import confine

__all__ = ["main"]


def main(descriptor: int) -> None:
    """Reads the configuration, confines this process and does what it was started for."""
    connection = socket.socket(fileno=descriptor)
    config = _read(connection)
    try:
        confine(config)
    except OSError as error:
        wire.send(connection, wire.encode(("refused", f"{error.strerror}"), {}, _nothing))
        os._exit(1)
    sys.setrecursionlimit(10_000 if config["role"] == "probe" else 3_000)
    if config["role"] == "judge":
        from pluralign.policy.rewards.programs.judge import serve_jobs

        wire.send(connection, wire.encode(("confined", os.getuid()), {}, _nothing))
        serve_jobs(connection)
    elif config["role"] == "probe":
        wire.send(connection, wire.encode(("confined", os.getuid()), {}, _nothing))
    else:
        from pluralign.policy.rewards.programs.agent import run_script, serve

        job = _read(connection)
        if config["role"] == "script":
            connection.close()
            run_script(job)
        else:
            serve(connection, job)


def _read(connection: socket.socket) -> dict[str, object]:
    found = wire.decode(wire.receive(connection, 64 << 20), _none, _none, _none)
    assert isinstance(found, dict)
    return found


def _none(*_: object) -> None:
    raise wire.Broken("a configuration is plain")


def _nothing(value: object) -> tuple[int, str]:
    raise TypeError(f"{type(value).__name__} is not plain")
