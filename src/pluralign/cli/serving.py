"""What `serve` and `explore` share: checks of folders, a listening socket, a process that keeps a worker.

In: where the model is and how it is served. Out: nothing, until it is stopped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pluralign.cli.parsing import UsageError
from pluralign.server.config import ServerConfig

__all__ = ["Place", "serve"]


@dataclass(frozen=True)
class Place:
    """What is served where.

    Attributes:
        model: a model folder, the run folder of a fit, or the folder of a combination; None for programs.
        host: address to listen on.
        port: 0 for any that is free.
        personas: folders of models of groups of people, by name.
        device: cpu, cuda, ...; None for a GPU if there is one.
        cache: a folder for embeddings; None for the default one, `none` for none.
        programs: what runs programs and their tests (`server.loading.load_programs`), instead of a model.
    """

    model: str | None
    host: str
    port: int
    personas: Mapping[str, str]
    device: str | None
    cache: str | None
    programs: Mapping[str, Any] | None = None


def serve(
    place: Place,
    config: ServerConfig,
    settings: Mapping[str, Any],
    *,
    report: Callable[[str], None],
    on_listening: Callable[[str], None],
    on_ready: Callable[[str], None],
) -> None:
    """Serves until it is stopped.

    Args:
        place: what is served where.
        config: limits and the default measure.
        settings: further settings of the worker: token, votes, grace ...
        report: called with a line for people.
        on_listening: called with the address once it accepts connections.
        on_ready: called with the address once the model scores.

    Raises:
        UsageError: a folder has no model, or the port is out of range.
        MissingDependencyError: the extra `server` is not installed.
        SystemExit: the model could not be served.
    """
    from pluralign.server import require_packages
    from pluralign.server.loading import folder_digest
    from pluralign.server.supervisor import Supervisor, listen

    if not 0 <= place.port <= 65_535:
        raise UsageError(f"--port: received {place.port}; allowed: 0 to 65535, where 0 picks a free one")
    require_packages()
    if place.model is not None:
        _check_folder(place.model, place.model)
    for name, folder in place.personas.items():
        _check_folder(folder, f"--personas.{name} {folder}")
    for folder in filter(None, (place.model, *place.personas.values())):
        folder_digest(folder)
    with listen(place.host, place.port) as listening:
        host, port = listening.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        on_listening(url)
        all_settings = dict(settings) | {
            "model": place.model,
            "programs": place.programs,
            "personas": dict(place.personas),
            "device": place.device,
            "cache": place.cache,
            "config": dataclasses.asdict(config),
        }
        status = Supervisor(listening, all_settings, report=report, on_ready=lambda: on_ready(url)).run()
    if status:
        raise SystemExit(status)


def _check_folder(folder: str, named: str) -> None:
    if not Path(folder).is_dir():
        raise UsageError(f"{named} is not a folder; name the folder of a reward model")
    if (Path(folder) / "run.json").is_file() and not (Path(folder) / "model").is_dir():
        raise UsageError(f"{named} is a run folder without a finished model: run its command again")
