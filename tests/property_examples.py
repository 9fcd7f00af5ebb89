"""How many examples a property test draws: a third of its number, and all of them in `make test-all`.

Examples are the same every time, so that a third finds tomorrow what it finds today.
"""

from __future__ import annotations

import os

_ALL = bool(os.environ.get("ALL_EXAMPLES"))
_FEWEST = 10


def examples(number: int) -> int:
    """What `max_examples` is in this run."""
    return number if _ALL else min(number, max(_FEWEST, number // 3))
