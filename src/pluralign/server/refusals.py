"""Refusals: every error of a request as `{"error": {"message", "allowed"?}}` with its status.

In: an exception. Out: status, body, headers. Messages go to whoever sent the request; none of them is logged,
since they may quote it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from starlette.responses import Response

from pluralign.errors import ArgumentError, DataError, PluralignError

__all__ = ["Refusal", "json_response", "of_exception", "of_validation", "where"]


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        message: what was received, what is allowed, what to do.
        allowed: the values that would be valid, where they are few.
        retry_after: seconds after which to try again.
        headers: more headers.
        limit: the field of `ServerConfig` that the request goes beyond, if it does.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        allowed: Iterable[str] = (),
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        limit: str = "",
    ) -> None:
        super().__init__(message)
        self.limit = limit
        self.status, self.message, self.allowed = status, message, list(allowed)
        self.headers = dict(headers or {}) | (
            {} if retry_after is None else {"Retry-After": str(retry_after)}
        )

    def response(self) -> Response:
        """As an answer."""
        problem: dict[str, Any] = {"message": self.message}
        if self.allowed:
            problem["allowed"] = self.allowed
        return json_response({"error": problem}, self.status, self.headers)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer; the value holds finite numbers only."""
    body = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Response(
        body.encode("utf-8", "replace"), status, dict(headers or {}), media_type="application/json"
    )


def of_exception(error: Exception) -> Refusal | None:
    """The refusal of an error that the request caused; None where it did not."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ArgumentError):
        return Refusal(422, str(error), allowed=error.allowed)
    if isinstance(error, DataError):  # a conversation that the scorer cannot look up
        return Refusal(422, str(error))
    if isinstance(error, PluralignError):
        return Refusal(500, f"{type(error).__name__}: {error}")
    return None


def of_validation(error: ValidationError) -> Refusal:
    """What is wrong with a body, without repeating the body."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    first = problems[0]
    if first["type"] == "json_invalid":
        return Refusal(400, f"the body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    words = [f"{_place(one['loc'])}: {one['msg']}" for one in problems[:3]]
    more = f"; and {len(problems) - 3} more problems" if len(problems) > 3 else ""
    return Refusal(422, "; ".join(words) + more)


def _place(parts: tuple[int | str, ...]) -> str:
    """conversations[3][0].role"""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{str(part)[:60]}" for part in parts)
    return text.removeprefix(".") or "the body"


def where(error: BaseException) -> str:
    """The kind of an error and its place in the code, without its message, which may quote a user."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__}{place}"
