"""Ctrl-C at a time when the state of a run is consistent.

While weights change, the first Ctrl-C is deferred until the step is done, and a second one is not. At all
other times Ctrl-C works as usual.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any

__all__ = ["Interrupts"]

_log = logging.getLogger("pluralign.policy")


class Interrupts:
    """A context in which Ctrl-C can be deferred; outside the main thread it changes nothing.

    Args:
        agree: takes whether there was a Ctrl-C in this process, and returns whether there was one in any;
            called by all processes at the end of what is deferred.
    """

    def __init__(self, agree: Callable[[bool], bool] = bool) -> None:
        self._agree = agree
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
        """Ctrl-C inside the context is raised at its end; inside another such context, at the end of that.

        Raises:
            KeyboardInterrupt: it came inside.
        """
        if self._deferring:
            yield
            return
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._agree(self._pending):
            self._pending = False
            raise KeyboardInterrupt

    def deferred_if(self, condition: bool) -> AbstractContextManager[None]:
        """`deferred` on a condition."""
        return self.deferred() if condition else nullcontext()

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._deferring and not self._pending:
            self._pending = True
            _log.warning("interrupted; this step is finished and saved first (again Ctrl-C: now, unsaved)")
            return
        raise KeyboardInterrupt
