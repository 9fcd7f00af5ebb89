"""What the sentence of `findings.md` says of the records."""

from __future__ import annotations

from studies import records


def nothing_was_measured() -> bool:
    """There are no records; the first one makes this sentence, and pages that name it, an error."""
    return not records.read("gpu")
