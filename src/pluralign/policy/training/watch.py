"""Warning signs in the log of a run: each is told once, when it is first seen.

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
    """Looks at the metrics of a run.

    Args:
        speaks: whether this process is the one that tells.
    """

    def __init__(self, speaks: bool = True) -> None:
        self._told: set[str] = set()
        self._speaks = speaks

    def look(self, metrics: Mapping[str, float]) -> None:
        """Warns of signs that are seen for the first time.

        Args:
            metrics: any; `signs/NAME` are the numbers of signs, whatever stands before.
        """
        for key, value in metrics.items():
            before, found, name = key.rpartition(_PREFIX)
            del before
            if found and name in SIGNS and name not in self._told and is_seen(name, value):
                self._told.add(name)
                if self._speaks:
                    _log.warning(sentence(name, value))
