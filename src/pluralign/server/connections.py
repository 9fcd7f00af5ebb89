"""Closes connections that send the headers of a request, or read its answer, too slowly; uvicorn itself waits
for ever.

A timer runs while a new connection has sent no whole request, and from the first byte of each later request
until its headers are complete; another while an answer waits to be read. Bodies have a timer of their own
(`limits.body`), idle connections uvicorn's.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["connection_class", "raise_open_files"]

# Bytes of an answer to be read within a timer's time; what the system's buffers hold counts as read.
_LEAST_READ = 65_536


class _Timer:
    """Calls a function once some time after the latest start, unless it is stopped before."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self._seconds, self._call = seconds, call
        self._handle: asyncio.TimerHandle | None = None

    @property
    def runs(self) -> bool:
        return self._handle is not None

    def start(self) -> None:
        self.stop()
        self._handle = asyncio.get_running_loop().call_later(self._seconds, self._end)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _end(self) -> None:
        self._handle = None
        self._call()


def connection_class(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol class with timeouts.

    Args:
        seconds: within which the headers of a request have to arrive, and more of an answer has to be read.
    """

    class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        """One connection."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.access_log = False  # paths are of other people's making
            self._head_timer, self._read_timer = _Timer(seconds, self._late), _Timer(seconds, self._slow)
            self._unread = 0  # bytes of an answer, when its timer was started

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._head_timer.start()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if not self._between():
                self._head_timer.stop()
            elif not self._head_timer.runs:
                self._head_timer.start()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_timer.stop()
            self._read_timer.stop()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._read_on()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._read_timer.stop()

        def _between(self) -> bool:
            """Whether no request is under way."""
            cycle = getattr(self, "cycle", None)
            return cycle is None or cycle.response_complete

        def _late(self) -> None:
            if self._between():
                self.transport.abort()

        def _read_on(self) -> None:
            self._unread = self.transport.get_write_buffer_size()
            self._read_timer.start()

        def _slow(self) -> None:
            if self._unread - self.transport.get_write_buffer_size() < _LEAST_READ:
                self.transport.abort()
            else:
                self._read_on()

    return Connection


def raise_open_files() -> None:
    """Lets this process have as many connections as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 65_536, hard))
