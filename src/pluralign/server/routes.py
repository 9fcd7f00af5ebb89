"""A route with its schemas, and how a body becomes a checked request.

Bodies are read under limits and parsed once, by pydantic, from bytes; FastAPI's own reading has no limits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from pluralign.server.config import ServerConfig
from pluralign.server.limits import body
from pluralign.server.refusals import of_validation

__all__ = ["Route", "parsed"]

Body = TypeVar("Body", bound=BaseModel)


class Route(NamedTuple):
    """One path.

    Attributes:
        method: of HTTP.
        path: of the URL.
        answer: the endpoint; its docstring is its description in OpenAPI.
        body: schema of the request's body; None for none.
        response: schema of the answer; None for text.
        refusals: other statuses that it answers with.
        parameters: of the query, as OpenAPI describes them.
    """

    method: str
    path: str
    answer: Callable[[Request], Awaitable[Response]]
    body: type[BaseModel] | None
    response: type[BaseModel] | None
    refusals: tuple[int, ...]
    parameters: tuple[dict[str, Any], ...] = ()


async def parsed(request: Request, kind: type[Body], config: ServerConfig) -> Body:
    """The body as an object.

    Raises:
        Refusal: it is too large, no JSON, or not of this kind.
    """
    given = await body(request, config)
    try:
        return kind.model_validate_json(given)
    except ValidationError as error:
        raise of_validation(error) from None
