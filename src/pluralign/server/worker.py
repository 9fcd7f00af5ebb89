"""The process that scores: `python -m pluralign.server.worker`, started by the supervisor.

In: one line of JSON on stdin, a listening socket, and a pipe to say "ready" through. stdin stays open as long
as the supervisor lives: at its end the worker stops, so that none is left over.

Exit status: 0 stopped as asked; 1 the model cannot be served; 3 its folder is not the one that was served
before.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any

import uvicorn

from pluralign.errors import ArtifactError, PluralignError
from pluralign.server.app import build
from pluralign.server.config import ServerConfig
from pluralign.server.connections import connection_class, raise_open_files
from pluralign.server.loading import (
    folder_digest,
    load_personas,
    load_policy_tokenizer,
    load_programs,
    load_scorer,
    tables_digest,
)
from pluralign.server.service import Service
from pluralign.server.vote_routes import VoteDesk
from pluralign.server.votes import VoteStore

__all__ = ["OTHER_FOLDER", "main"]

OTHER_FOLDER = 3
_KEEP_ALIVE = 75  # seconds; clients that reuse connections mostly give them up earlier
_REFUSING = 2.0  # seconds before the end of the grace, to send refusals in


class _OtherFolder(ArtifactError):
    """The folder changed while it was served."""


class _Server(uvicorn.Server):
    """uvicorn's, which tells the service when it begins to stop."""

    service: Service
    grace: float

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.service.end(max(0.0, self.grace - _REFUSING))
        await super().shutdown(sockets)


def main() -> None:
    """Serves until it is told to stop."""
    given = json.loads(sys.stdin.buffer.readline())
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(True)
    logging.getLogger("pluralign.backbones").setLevel(logging.ERROR)  # a line per batch, which may name roles
    raise_open_files()
    try:
        status = _serve(given)
    except PluralignError as error:
        print(f"pluralign: {error}", file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # the model's thread may still load


def _serve(given: Mapping[str, Any]) -> int:
    config = ServerConfig(**given["config"])
    digest = _digest(given)
    named = given["policy_tokenizer"]
    desk = _desk(given)
    app = build(
        lambda: _loaded(given, digest),
        config,
        token=given["token"],
        policy_tokenizer=None if named is None else lambda: load_policy_tokenizer(named),
        desk=desk,
        personas=lambda scorer: load_personas(
            given["personas"], scorer, device=given["device"], cache=given["cache"]
        ),
        folder=given["model"],
    )
    service: Service = app.state.service
    service.metrics.restarts.set(given["restarts"])
    server = _Server(
        uvicorn.Config(
            app,
            http=connection_class(config.read_timeout),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=max(1, round(given["grace"])),
        )
    )
    server.service, server.grace = service, given["grace"]

    def ready() -> None:
        os.write(given["ready"], (json.dumps({"digest": digest}) + "\n").encode())

    def failed(error: BaseException) -> None:
        print(f"pluralign: {_words(error)}", file=sys.stderr)
        server.should_exit = True

    service.on_ready, service.on_failure = ready, failed

    def orphaned() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=orphaned, daemon=True).start()
    server.run(sockets=[socket.socket(fileno=given["listen"])])
    if isinstance(service.failure, _OtherFolder):
        return OTHER_FOLDER
    return 1 if service.failure else 0


def _desk(given: Mapping[str, Any]) -> VoteDesk | None:
    """Where votes are taken, if they are."""
    if given["votes"] is None:
        return None
    store = VoteStore(given["votes"], **given["vote_options"])
    return VoteDesk(store, given["token"], given["voters"])


def _digest(given: Mapping[str, Any]) -> str:
    """Of all folders, or of the tables of tests."""
    if given["model"] is None:
        return tables_digest(given["programs"]["tables"])
    return "+".join(map(folder_digest, (given["model"], *given["personas"].values())))


def _loaded(given: Mapping[str, Any], digest: str) -> Any:
    what = given["model"] or " ".join(given["programs"]["tables"])
    if given["digest"] not in (None, digest):
        raise _OtherFolder(
            f"{what} changed since this server began to serve it, so its scores would differ; start the "
            "server again to serve the new one"
        )
    if given["model"] is None:
        scorer = load_programs(given["programs"])
    else:
        scorer = load_scorer(given["model"], device=given["device"], cache=given["cache"])
    if _digest(given) != digest:
        raise ArtifactError(f"{what} changed while it was loaded; start the server when it is complete")
    return scorer


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, PluralignError) else f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
