"""Ctrl-C at a time when the state of a run is consistent.

While weights change, the first Ctrl-C is deferred until the step is done, and a second one is not. At all
other times Ctrl-C works as usual.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Interrupts"]

_log = logging.getLogger("pluralign.policy")


class Interrupts:
    """A context in which Ctrl-C can be deferred; outside the main thread it changes nothing."""

    def __init__(self) -> None:
        self._deferring = False
        self._pending = False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._arrived)
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Ctrl-C inside the context is raised at its end.

        Raises:
            KeyboardInterrupt: it came inside.
        """
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._deferring and not self._pending:
            self._pending = True
            _log.warning("interrupted; this step is finished and saved first (again Ctrl-C: now, unsaved)")
            return
        raise KeyboardInterrupt
