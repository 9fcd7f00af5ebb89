"""What sentences of `findings.md`, and of pages that quote the study, say of the records."""

from __future__ import annotations

from studies.tuning.section import gain


def _gain(data: str, tune: str) -> float:
    found = gain(data, "quantile", tune)
    assert found is not None
    return found


def emobank_frozen() -> str:
    return f"{100 * _gain('emobank', 'none'):.1f} %"
