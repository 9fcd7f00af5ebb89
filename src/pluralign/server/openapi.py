"""The OpenAPI description of the routes: their schemas with examples, and every refusal."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from pluralign.server.routes import Route
from pluralign.server.schemas import ErrorResponse

__all__ = ["described"]

_REF = "#/components/schemas/{model}"


def described(app: FastAPI, routes: Sequence[Route], *, secured: bool) -> dict[str, Any]:
    """The description; made once.

    Args:
        app: whose title and version it has.
        routes: what it has paths for.
        secured: whether a token is needed.
    """
    if app.openapi_schema:
        return app.openapi_schema
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas, secured)
    components: dict[str, Any] = {"schemas": schemas}
    if secured:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "basic": {"type": "http", "scheme": "basic"},
        }
    app.openapi_schema = {
        "openapi": "3.1.0",
        "info": {"title": app.title, "version": app.version, "description": app.description},
        "paths": paths,
        "components": components,
    }
    return app.openapi_schema


def _operation(route: Route, schemas: dict[str, Any], secured: bool) -> dict[str, Any]:
    first, _, rest = inspect.cleandoc(route.answer.__doc__ or "").partition("\n")
    found: dict[str, Any] = {
        "summary": first,
        "operationId": f"{route.method.lower()}{route.path.replace('/', '_')}",
        "responses": {"200": _answer(HTTPStatus.OK, route.response, schemas)},
    }
    if rest.strip():
        found["description"] = rest.strip()
    if route.parameters:
        found["parameters"] = list(route.parameters)
    if route.body is not None:
        found["requestBody"] = {"required": True, "content": _json(route.body, schemas)}
    for status in route.refusals:
        kind: type[BaseModel] | None = ErrorResponse
        if route.path == "/health":
            kind = route.response
        found["responses"][str(status)] = _answer(HTTPStatus(status), kind, schemas)
    if secured and route.path != "/health":
        found["security"] = [{"bearer": []}, {"basic": []}]
    return found


def _answer(status: HTTPStatus, kind: type[BaseModel] | None, schemas: dict[str, Any]) -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}}} if kind is None else _json(kind, schemas)
    return {"description": status.phrase, "content": content}


def _json(kind: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    """A reference to the schema of a model, which is added with all that it refers to."""
    schema = kind.model_json_schema(ref_template=_REF)
    schemas.update(schema.pop("$defs", {}))
    schemas[kind.__name__] = schema
    content: dict[str, Any] = {"schema": {"$ref": _REF.format(model=kind.__name__)}}
    if examples := schema.get("examples"):
        content["examples"] = {f"example {i + 1}": {"value": one} for i, one in enumerate(examples)}
    return {"application/json": content}
