"""Warning signs in the log of a run: each is logged once, when it is first seen.

In: measured numbers by name. Out: warnings of the logger. It measures nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pluralign.warning_signs import SIGNS, is_seen, sentence

__all__ = ["Watch"]

_log = logging.getLogger("pluralign.policy")

_PREFIX = "signs/"


class Watch:
    """Reads the metrics of a run as they are made.

    Args:
        logs: whether this process logs.
    """

    def __init__(self, logs: bool = True) -> None:
        self._seen: set[str] = set()
        self._logs = logs

    def read(self, metrics: Mapping[str, float]) -> None:
        """Warns of signs that are seen for the first time.

        Args:
            metrics: any; `signs/NAME` are the numbers of signs, whatever stands before.
        """
        for key, value in metrics.items():
            _, found, name = key.rpartition(_PREFIX)
            if found and name in SIGNS and name not in self._seen and is_seen(name, value):
                self._seen.add(name)
                if self._logs:
                    _log.warning(sentence(name, value))
