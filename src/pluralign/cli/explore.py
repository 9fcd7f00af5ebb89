"""`pluralign explore`: a page on which people try a reward model, on this machine, until it is stopped."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pluralign.cli.console import Console
from pluralign.cli.parsing import parse
from pluralign.cli.serving import Place, serve
from pluralign.server.config import ServerConfig

__all__ = ["run"]

_HOST = "127.0.0.1"
_GRACE = 5.0  # seconds for what a person waits for when they stop it


@dataclass(frozen=True)
class ExploreFlags:
    """Try a reward model on a page in the browser.

    Type a prompt and responses, see the distributions, change the risk measure and the weights. Only this
    machine can open the page; `pluralign serve` has it at / too.

    Attributes:
        model: Model folder, the run folder of a fit, or the folder of a combination.
        risk: Risk measure to begin with, e.g. mean, cvar:0.1, entropic:1.
        personas: Models of groups of people, to see which of them object, e.g. --personas.scientist
            runs/scientist.
        port: Port to listen on; 0 for any that is free.
        hosts: Host names under which browsers may open the page besides those of this machine, such as the
            name of a proxy, e.g. [models.lab]; '*' for any.
        no_browser: Only print the address.
        device: cpu, cuda, ...; null for a GPU if there is one.
        cache: Embedding cache; none for no cache, null for the default one, or a folder.
        json: Print the address as JSON.
    """

    model: str
    risk: str = "mean"
    personas: dict[str, str] | None = None
    port: int = 0
    hosts: tuple[str, ...] | str = ()
    no_browser: bool = False
    device: str | None = None
    cache: str | None = "none"
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments, serves and opens the browser."""
    (flags,) = parse("explore", ExploreFlags.__doc__ or "", arguments, ExploreFlags, positional="model")
    from pluralign import risk

    risk.parse(flags.risk)
    config = ServerConfig(risk=flags.risk, hosts=flags.hosts)
    console = Console(flags.json)

    def listening(url: str) -> None:
        console.result({"url": url, "model": flags.model, "risk": flags.risk}, url)
        sys.stdout.flush()
        console.say("the model is being loaded; stop with Ctrl-C")
        if not flags.no_browser and has_display(os.environ, sys.platform):
            webbrowser.open(url)

    settings: dict[str, Any] = {
        "policy_tokenizer": None,
        "votes": None,
        "voters": None,
        "vote_options": {},
        "token": None,
        "grace": _GRACE,
    }
    place = Place(flags.model, _HOST, flags.port, flags.personas or {}, flags.device, flags.cache)
    serve(
        place,
        config,
        settings,
        report=console.say,
        on_listening=listening,
        on_ready=lambda url: console.say("the model scores"),
    )


def has_display(environment: Mapping[str, str], platform: str) -> bool:
    """Whether a browser has somewhere to show a page.

    Args:
        environment: of this process.
        platform: as `sys.platform` names it.
    """
    if "SSH_CONNECTION" in environment:
        return False  # the browser would open where nobody looks
    if platform in ("darwin", "win32"):
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
