"""Closes connections that send the headers of a request, or read its answer, too slowly; uvicorn itself waits
for ever.

A timer runs while a new connection has sent no whole request, and from the first byte of each later request
until its headers are complete; another while an answer waits to be read. Bodies have a timer of their own
(`limits.body`), idle connections uvicorn's.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["connection_class", "raise_open_files"]

_LEAST_READ = (
    65_536  # bytes of an answer, in the time of a timer; what the system's buffers hold counts as read
)


def connection_class(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol class with timeouts.

    Args:
        seconds: within which the headers of a request have to arrive, and more of an answer has to be read.
    """

    class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        """One connection."""

        _clock: asyncio.TimerHandle | None = None
        _reading: asyncio.TimerHandle | None = None
        _unread = 0  # bytes of an answer, when its timer was started

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.access_log = False  # paths are of other people's making

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._start()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if not self._between():
                self._stop()
            elif self._clock is None:
                self._start()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            self._stop_reading()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stop_reading()
            self._start_reading()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stop_reading()

        def _between(self) -> bool:
            """Whether no request is under way."""
            cycle = getattr(self, "cycle", None)
            return cycle is None or cycle.response_complete

        def _start(self) -> None:
            self._clock = asyncio.get_running_loop().call_later(seconds, self._late)

        def _stop(self) -> None:
            if self._clock is not None:
                self._clock.cancel()
                self._clock = None

        def _late(self) -> None:
            self._clock = None
            if self._between():
                self.transport.abort()

        def _start_reading(self) -> None:
            self._unread = self.transport.get_write_buffer_size()
            self._reading = asyncio.get_running_loop().call_later(seconds, self._slow)

        def _stop_reading(self) -> None:
            if self._reading is not None:
                self._reading.cancel()
                self._reading = None

        def _slow(self) -> None:
            if self._unread - self.transport.get_write_buffer_size() < _LEAST_READ:
                self.transport.abort()
            else:
                self._start_reading()

    return Connection


def raise_open_files() -> None:
    """Lets this process have as many connections as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 65_536, hard))
