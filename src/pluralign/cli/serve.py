"""`pluralign serve`: a reward model, or the tests of programs, behind HTTP, until it is stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pluralign.cli.console import Console
from pluralign.cli.parsing import UsageError, parse
from pluralign.cli.program_flags import (
    ProgramFlags,
    check_programs,
    check_sandbox,
    named_tables,
    program_settings,
)
from pluralign.cli.serving import Place, serve
from pluralign.server.config import ServerConfig

__all__ = ["run"]

_TOKEN = "PLURALIGN_TOKEN"
_DAY = 86_400.0


@dataclass(frozen=True)
class ServeFlags:
    """Serve a reward model over HTTP, to trainers and to people.

    It answers /v1/score and /v1/distribution, the endpoints of OpenRLHF, vLLM and LLaMA-Factory, and has a
    page for people at /. With --programs and no model the score is the share of tests that a program passes.

    Attributes:
        model: Model folder, the run folder of a fit, or the folder of a combination.
        programs: Instead of a model: tables with prompts and tests; the score is the share of tests that the
            program in a response passes.
        host: Address to listen on; one that other machines can reach needs a token.
        port: Port to listen on; 0 for any that is free.
        token: What clients have to send as Authorization: Bearer TOKEN, or in the URL,
            http://any:TOKEN@host:port/; null for that of the environment, PLURALIGN_TOKEN, which other users
            of this machine cannot read.
        policy_tokenizer: Folder or hub id of the policy's tokenizer, whose chat template wrote the texts that
            OpenRLHF, LLaMA-Factory and clients of vLLM send; none where their prompts are plain text.
        votes: SQLite file of votes for a categorical model's categories, created if missing; adds /v1/votes.
        personas: Models of groups of people, whose objections the page at / shows, e.g. --personas.scientist
            runs/scientist.
        voters: JSON file with the name and the token of each person who may vote, {"ann": "token"}; null
            where votes come from a program that sends the server's token and names the voter.
        vote_half_life: Days in which a vote's weight halves; null to forget nothing.
        vote_strength: Weight of the model's own prediction, in votes.
        fade_prior: Whether the model's prediction is forgotten like the votes.
        device: cpu, cuda, ...; null for a GPU if there is one.
        cache: Embedding cache; none for no cache, null for the default one, or a folder.
        grace: Seconds after a stop within which accepted requests are still answered.
        json: Print the address as JSON.
    """

    model: str | None = None
    programs: tuple[str, ...] | str = ()
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    policy_tokenizer: str | None = None
    votes: str | None = None
    personas: dict[str, str] | None = None
    voters: str | None = None
    vote_half_life: float | None = None
    vote_strength: float = 5.0
    fade_prior: bool = True
    device: str | None = None
    cache: str | None = "none"
    grace: float = 30.0
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments and serves."""
    kinds = (ServeFlags, ProgramFlags, ServerConfig)
    flags, programs, config = parse("serve", ServeFlags.__doc__ or "", arguments, *kinds, positional="model")
    run_programs = _programs(flags, programs)
    name = flags.model or " ".join(named_tables(flags.programs).values())
    if not 0 < flags.grace < 86_400:
        raise UsageError(
            f"--grace: received {flags.grace:g}; allowed: seconds, more than 0 and less than a day"
        )
    if flags.votes is None:
        for flag in ("vote_half_life", "vote_strength", "fade_prior"):
            if getattr(flags, flag) != getattr(ServeFlags, flag):
                raise UsageError(f"--{flag} is about votes, so it needs --votes, the file of them")
    token = _token(flags)
    voters = _voters(flags, token)
    console = Console(flags.json)

    def listening(url: str) -> None:
        console.say(f"{name}: loading; {url} accepts connections, {url}/health says when it scores")

    def ready(url: str) -> None:
        page = f"; {url}/ is a page to try it on" if config.explorer else ""
        console.say(f"scores with {config.risk}{page}; stop it with Ctrl-C")
        console.result({"url": url, "model": name, "risk": config.risk}, url)

    settings = {
        "policy_tokenizer": flags.policy_tokenizer,
        "votes": flags.votes,
        "voters": voters,
        "vote_options": {
            "half_life": None if flags.vote_half_life is None else flags.vote_half_life * _DAY,
            "strength": flags.vote_strength,
            "fade_prior": flags.fade_prior,
        },
        "token": token,
        "grace": flags.grace,
    }
    place = Place(
        flags.model, flags.host, flags.port, flags.personas or {}, flags.device, flags.cache, run_programs
    )
    serve(place, config, settings, report=console.say, on_listening=listening, on_ready=ready)


def _programs(flags: ServeFlags, programs: ProgramFlags) -> dict[str, Any] | None:
    """What a worker needs to run programs; None where a model is served."""
    check_programs(flags.programs, programs)
    if bool(flags.model) == bool(flags.programs):
        received = f"both {flags.model} and --programs" if flags.model else "neither"
        raise UsageError(f"received {received}; needed: the folder of a model, or --programs TABLE")
    if not flags.programs:
        return None
    for flag in ("votes", "personas"):
        if getattr(flags, flag) is not None:
            raise UsageError(f"--{flag} applies to a reward model; with --programs there is none")
    check_sandbox(programs)
    return program_settings(flags.programs, programs)


def _token(flags: ServeFlags) -> str | None:
    """The token, which is needed where other machines can connect."""
    from pluralign.hosts import is_loopback

    token = flags.token if flags.token is not None else os.environ.get(_TOKEN)
    if token is not None and not _is_token(token):
        raise UsageError("--token: allowed: printable ASCII characters without spaces, at least one")
    if token is None and not is_loopback(flags.host):
        raise UsageError(
            f"--host {flags.host} can be reached from other machines, so a token is needed: pass --token, or "
            f"set {_TOKEN}"
        )
    return token


def _voters(flags: ServeFlags, token: str | None) -> dict[str, str] | None:
    """Tokens of voters, by name.

    Args:
        flags: of the command.
        token: the server's.
    """
    if flags.voters is None:
        return None
    if flags.votes is None:
        raise UsageError("--voters says who may vote, so it needs --votes, the file of the votes")
    try:
        found = json.loads(Path(flags.voters).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--voters {flags.voters} cannot be read as JSON: {error}") from None
    if (
        not isinstance(found, dict)
        or not found
        or not all(name and _is_token(t) for name, t in found.items())
    ):
        raise UsageError(
            f'--voters {flags.voters}: allowed: an object of names and tokens, {{"ann": "token"}}'
        )
    if len(set(found.values())) < len(found):
        raise UsageError(
            f"--voters {flags.voters}: two people have the same token, so it does not say who votes"
        )
    if token in found.values():
        raise UsageError(
            f"--voters {flags.voters}: a voter has the server's own token, which may vote for everybody"
        )
    return found


def _is_token(value: object) -> bool:
    return (
        isinstance(value, str)
        and value.isascii()
        and value.isprintable()
        and value != ""
        and " " not in value
    )
