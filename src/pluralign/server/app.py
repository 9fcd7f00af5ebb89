"""The application: routes, refusals, start and stop, and its OpenAPI description."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from pluralign._version import __version__
from pluralign.server.compatible import TextReader, compatible_routes
from pluralign.server.config import ServerConfig
from pluralign.server.explorer import explorer_routes
from pluralign.server.limits import Guard
from pluralign.server.metrics import Metrics
from pluralign.server.native import native_routes
from pluralign.server.openapi import described
from pluralign.server.refusals import Refusal, of_exception, where
from pluralign.server.service import Personas, Service
from pluralign.server.vote_routes import VoteDesk, vote_routes

__all__ = ["build"]

_log = logging.getLogger(__name__)


def build(
    scorer: Any,
    config: ServerConfig,
    *,
    token: str | None = None,
    policy_tokenizer: Callable[[], Any] | None = None,
    desk: VoteDesk | None = None,
    personas: Personas = lambda scorer: {},
    folder: str | None = None,
) -> FastAPI:
    """The application over a scorer; `app.state.service` is what it asks.

    Args:
        scorer: it, or a function that loads it.
        config: limits and the default measure.
        token: that clients have to send; None for none.
        policy_tokenizer: returns the tokenizer whose template wrote the texts of other software, or None
            where their prompts are plain text; None where nothing is known, so that such texts are refused.
        desk: where votes are taken; None where they are not.
        personas: loads the models of groups of people, given the scorer.
        folder: the model's, as the commands that the explorer shows name it; None where there is none.
    """
    metrics = Metrics()
    readers: list[TextReader] = []

    def prepare() -> None:
        if policy_tokenizer is not None:
            readers.append(TextReader(policy_tokenizer()))

    service = Service(scorer, config, metrics, prepare, personas)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()
        if desk is not None:
            desk.close()

    app = FastAPI(
        title="pluralign",
        version=__version__,
        description="A reward model that predicts the whole distribution of human reward, over HTTP.",
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    routes = [
        *native_routes(service),
        *compatible_routes(service, lambda: readers[0] if readers else None),
        *vote_routes(service, desk),
    ]
    for route in routes:
        app.add_api_route(
            route.path, _guarded(route.answer), methods=[route.method], response_model=None, name=route.path
        )
    app.add_exception_handler(HTTPException, _unknown)
    pages = explorer_routes(service, folder, needs_token=token is not None) if config.explorer else []
    for page in pages:
        app.add_route(page.path, page.answer, methods=[page.method], include_in_schema=False)
    app.add_middleware(
        Guard,
        token=token,
        hosts=frozenset(host.lower() for host in config.known_hosts),
        metrics=metrics,
        paths=frozenset([route.path for route in routes] + [page.path for page in pages]),
        with_own_tokens=frozenset({"/v1/votes"}),
        open_paths=frozenset(page.path for page in pages if page.is_open),
    )
    app.openapi = lambda: described(app, routes, secured=token is not None)  # type: ignore[method-assign]
    return app


def _guarded(answer: Any) -> Any:
    """The endpoint with refusals as answers; what nobody expected is logged by its kind alone."""

    async def endpoint(request: Request) -> Response:
        try:
            found: Response = await answer(request)
        except Exception as error:
            refusal = of_exception(error)
            if refusal is None:
                _log.error("%s: unexpected %s", request.url.path, where(error))
                refusal = Refusal(500, f"{type(error).__name__} in the server; its log says where")
            found = refusal.response()
        return found

    endpoint.__doc__ = answer.__doc__
    return endpoint


async def _unknown(request: Request, error: Any) -> Response:
    """404, 405 and the like."""
    paths = (getattr(route, "path", "") for route in request.app.routes)
    known = sorted(path for path in paths if path and not path.startswith("/explorer/"))
    message = {404: "there is no such path", 405: "this path takes another method"}.get(
        error.status_code, str(error.detail)
    )
    allowed = known if error.status_code == 404 else []
    return Refusal(error.status_code, message, allowed=allowed, headers=error.headers).response()
