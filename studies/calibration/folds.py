"""Five folds of groups, of which two calibrate, one is evaluated and two are fitted on, in turn.

In: a table. Out: triples of tables without a group in common; over the five, each row is evaluated once.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

FOLDS = 5


def rotations(table: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Tables to fit on, to calibrate on and to evaluate, five times."""
    groups = sorted(set(table["group"]), key=_digest)
    fold = {group: place % FOLDS for place, group in enumerate(groups)}
    of_row = [fold[group] for group in table["group"]]
    for turn in range(FOLDS):
        parts: dict[str, list[int]] = {"fit": [], "calibrate": [], "test": []}
        for row, own in enumerate(of_row):
            place = (own - turn) % FOLDS
            parts["test" if place == 0 else "calibrate" if place < 3 else "fit"].append(row)
        yield table.select(parts["fit"]), table.select(parts["calibrate"]), table.select(parts["test"])


def thinned(table: Any, most: int) -> Any:
    """At most so many texts of each group, by hash; all rows of these."""
    texts = {(group, text) for group, text in zip(table["group"], table["response"], strict=True)}
    seen: Counter[str] = Counter()
    kept = set()
    for group, text in sorted(texts, key=lambda one: _digest(one[1])):
        if seen[group] < most:
            seen[group] += 1
            kept.add((group, text))
    rows = zip(table["group"], table["response"], strict=True)
    return table.select([place for place, one in enumerate(rows) if one in kept])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
