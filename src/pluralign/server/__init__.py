"""A reward model behind HTTP: one process scores for many trainers.

    connections ──► limits ──► routes ──► batches across connections ──► the model, in a thread of its own
                                                                               │
    answers     ◄─────────────────────────────────────────────────────────────┘

`pluralign serve` runs it under a parent that holds the listening socket; `create_app` is the application
alone, for a program that has a server of its own. Needs `pip install 'pluralign[server]'`, and imports
nothing of it before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pluralign.errors import MissingDependencyError
from pluralign.server.config import ServerConfig

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["ServerConfig", "create_app"]


def create_app(
    scorer: Any,
    config: ServerConfig | None = None,
    *,
    token: str | None = None,
    policy_tokenizer: Any = None,
    personas: Mapping[str, Any] | None = None,
) -> FastAPI:
    """The ASGI application that scores with a model.

    Args:
        scorer: a `RewardModel`, a combination, anything with `distribution(conversations)`; or a function
            without arguments that returns one, which is called after the start, while `/health` answers 503.
        config: None for the defaults.
        token: that clients have to send; None for none.
        policy_tokenizer: of the policy whose texts OpenRLHF, LLaMA-Factory and clients of vLLM send; `none`
            where their prompts are plain text; None to refuse such texts.
        personas: reward models of groups of people, by name; the explorer at `/` says which of them object.

    Raises:
        MissingDependencyError: the extra `server` is not installed.
        RiskError: the configured measure does not exist.
    """
    require_packages()
    from pluralign.server.app import build

    plain = policy_tokenizer == "none"
    reads = None if policy_tokenizer is None else lambda: None if plain else policy_tokenizer
    people = dict(personas or {})
    return build(
        scorer,
        config or ServerConfig(),
        token=token,
        policy_tokenizer=reads,
        personas=lambda scorer: people,
    )


def require_packages() -> None:
    """Checks that the packages of the extra are there.

    Raises:
        MissingDependencyError: one is not.
    """
    try:
        import fastapi
        import jinja2
        import prometheus_client
        import uvicorn
    except ImportError as error:
        raise MissingDependencyError(
            f"serving needs the package {error.name}; run: pip install 'pluralign[server]'"
        ) from error
    del fastapi, jinja2, prometheus_client, uvicorn
