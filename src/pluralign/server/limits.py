"""Checks before a request is parsed: its token, its size, the time that it takes to arrive; and the counters.

`Guard` wraps the application. `body` reads a body under limits of size and time. User text is never logged
here.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from starlette.requests import ClientDisconnect, Request

from pluralign.server.config import ServerConfig
from pluralign.server.hosts import names_known_hosts
from pluralign.server.metrics import Metrics
from pluralign.server.refusals import Refusal

__all__ = ["Guard", "body", "same_token", "token_of", "unauthorized"]

_OPEN = ("/health",)  # what needs no token: load balancers ask it
_UNREAD = (401, 403, 413)  # refused before the body was read to its end
_MOST_DISCARDED = 2**26  # bytes of a body that is not wanted
_DISCARDING = 5.0  # seconds for them
_CLOSE = {"Connection": "close"}  # the rest of a body that is not read
_OTHER_HOST = Refusal(
    403,
    "a server without a token answers neither pages of other web sites nor requests to other names than "
    "localhost or 127.0.0.1; use these, set a token, or name the host with --hosts",
    headers=_CLOSE,
)


class Guard:
    """Asks for the token, and counts requests.

    Args:
        app: what answers.
        token: what a client has to send, as `Authorization: Bearer TOKEN`, or as the password of Basic, which
            clients make of `http://any:TOKEN@host/`; None for nothing.
        metrics: where requests are counted.
        hosts: names by which clients without a token may call, besides those of this machine.
        paths: those that are counted by their name.
        with_own_tokens: paths that check tokens themselves.
        open_paths: paths that need none, since they say nothing about the model.
    """

    def __init__(
        self,
        app: Any,
        *,
        token: str | None,
        metrics: Metrics,
        hosts: frozenset[str],
        paths: frozenset[str],
        with_own_tokens: frozenset[str] = frozenset(),
        open_paths: frozenset[str] = frozenset(),
    ) -> None:
        self._app = app
        self._token = token
        self._metrics = metrics
        self._hosts = hosts
        self._paths = paths
        self._free = {*_OPEN, *with_own_tokens, *open_paths}

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        begun, status = time.perf_counter(), 500

        async def sent(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif status in _UNREAD and not message.get("more_body", False):
                await send(message | {"more_body": True})
                await _discard(receive, scope["headers"])
                message = {"type": "http.response.body"}
            await send(message)

        self._metrics.open.inc()
        try:
            refusal = self._refusal(scope)
            answer = self._app if refusal is None else refusal.response()
            await answer(scope, receive, sent)
        finally:
            self._metrics.open.dec()
            self._metrics.requests.labels(path, status).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - begun)

    def _refusal(self, scope: Any) -> Refusal | None:
        """The refusal of a request; None where it is to be answered."""
        if self._token is None:
            return None if names_known_hosts(scope, self._hosts) else _OTHER_HOST
        free = scope["path"] in self._free or same_token(token_of(scope), self._token)
        return None if free else unauthorized()


def unauthorized() -> Refusal:
    """No token, or a wrong one."""
    return Refusal(
        401,
        "this server needs its token: send the header Authorization: Bearer TOKEN, or use a URL of the form "
        "http://any:TOKEN@host:port/",
        headers={"WWW-Authenticate": "Bearer"} | _CLOSE,
    )


def token_of(scope: Any) -> bytes | None:
    """The token of a request: a Bearer's, or the password of Basic."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, given = value.partition(b" ")
            if kind.lower() == b"bearer":
                return bytes(given.strip())
            if kind.lower() == b"basic":
                try:
                    return base64.b64decode(given.strip(), validate=True).partition(b":")[2]
                except (binascii.Error, ValueError):
                    return None
    return None


def same_token(given: bytes | None, expected: str) -> bool:
    """Whether they are equal, in a time that does not tell how much of it is right."""
    return given is not None and hmac.compare_digest(given, expected.encode())


async def _discard(receive: Callable[[], Awaitable[Any]], headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Reads what is left of a body and forgets it, within limits, before the connection is closed: a client
    that is still sending then sees that it broke, and not the answer."""
    if any(name == b"expect" for name, _ in headers):
        return  # it waits before it sends
    left = _MOST_DISCARDED
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARDING):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return


async def body(request: Request, config: ServerConfig) -> bytes:
    """The body of a request.

    Raises:
        Refusal: it is larger than may be, or does not come in time.
    """
    limit = config.max_body
    too_large = Refusal(
        413, f"the body is larger than {limit:,} bytes; send fewer conversations per request", headers=_CLOSE
    )
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limit:
        raise too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(config.read_timeout):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise too_large
                parts.append(part)
    except TimeoutError:
        raise Refusal(
            408, f"the body did not arrive within {config.read_timeout:g} seconds", headers=_CLOSE
        ) from None
    except ClientDisconnect:
        raise Refusal(400, "the client went away", headers=_CLOSE) from None
    return b"".join(parts)
