"""Our own endpoints: `/v1/score`, `/v1/distribution`, `/health`, `/metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pluralign.server.metrics import CONTENT_TYPE_LATEST
from pluralign.server.refusals import json_response
from pluralign.server.routes import Route, parsed
from pluralign.server.schemas import (
    DistributionRequest,
    DistributionResponse,
    HealthResponse,
    ScoreRequest,
    ScoreResponse,
)
from pluralign.server.scoring import Scored
from pluralign.server.service import Service

__all__ = ["native_routes"]


def native_routes(service: Service) -> list[Route]:
    """The routes over a service."""

    async def score(request: Request) -> Response:
        """The utility of each response: a risk measure of its reward distribution."""
        body = await parsed(request, ScoreRequest, service.config)
        predictor = await service.predictor()
        question = predictor.question(body.risk, body.weights, body.steer)
        found = await service.ask(body.conversations, question)
        return json_response({"scores": [one.utility for one in found]} | truncations(found))

    async def distribution(request: Request) -> Response:
        """The reward distribution of each response."""
        body = await parsed(request, DistributionRequest, service.config)
        predictor = await service.predictor()
        question = predictor.question(body.risk, body.weights, body.steer, body.levels, whole=True)
        found = await service.ask(body.conversations, question)
        written = [{"utility": one.utility} | (one.record or {}) for one in found]
        return json_response({"distributions": written} | truncations(found))

    async def health(request: Request) -> Response:
        """200 once the server can score, 503 before."""
        del request
        if not service.ready:
            return json_response({"status": "failed" if service.failure else "loading"}, 503)
        predictor = await service.predictor()
        return json_response(
            {"status": "ready", "risk": predictor.default_risk, "attributes": predictor.attributes}
        )

    async def metrics(request: Request) -> Response:
        """Counters for Prometheus."""
        del request
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return [
        Route("POST", "/v1/score", score, ScoreRequest, ScoreResponse, (400, 401, 408, 413, 422, 429, 503)),
        Route(
            "POST",
            "/v1/distribution",
            distribution,
            DistributionRequest,
            DistributionResponse,
            (400, 401, 408, 413, 422, 429, 503),
        ),
        Route("GET", "/health", health, None, HealthResponse, (503,)),
        Route("GET", "/metrics", metrics, None, None, (401,)),
    ]


def truncations(found: Sequence[Scored]) -> dict[str, Any]:
    """Which conversations were not read to their end, where there are any."""
    places = [place for place, one in enumerate(found) if one.truncated]
    return {"truncated": places} if places else {}
