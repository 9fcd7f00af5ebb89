"""What the sentences of `findings.md` say of the records."""

from __future__ import annotations

from typing import Any

from studies.records import read

_NOISE = 0.01  # of a coverage over 4,000 draws, three standard errors


def _means(**wanted: Any) -> list[dict[str, Any]]:
    found = [r for r in read("intervals", "means") if all(r["settings"][k] == v for k, v in wanted.items())]
    assert found
    return [record["results"] for record in found]


def _skewed() -> list[dict[str, Any]]:
    return _means(effects="lognormal") + _means(effects="bare lognormal")


def normal_effects_are_covered() -> bool:
    return all(found["covered"]["ours"] >= 0.93 for found in _means(effects="normal") + _means(effects="t3"))


def skewed_effects_are_covered() -> bool:
    return all(found["covered"]["ours"] >= 0.90 - _NOISE for found in _skewed() if found["effective"] >= 10)


def lowest_skewed() -> str:
    return f"{min(f['covered']['ours'] for f in _skewed() if f['effective'] >= 10):.3f}"[1:]


def lowest_skewed_with_few() -> str:
    return f"{min(f['covered']['ours'] for f in _skewed() if f['effective'] < 10):.3f}"[1:]


def others_fail() -> bool:
    """Each of the others is under .90 somewhere with 10 effective groups or more."""
    names = ("CR2", "Student", "jackknife", "bootstrap", "wild bootstrap")
    return all(min(f["covered"][name] for f in _skewed() if f["effective"] >= 10) < 0.90 for name in names)


def student_on_emobank() -> str:
    (found,) = _means(effects="lognormal", sizes="emobank", groups=80)
    return f"{found['covered']['Student']:.2f}"[1:]


def width_at_five() -> str:
    (found,) = _means(effects="normal", sizes="equal", groups=5)
    return f"{100 * (found['width']['ours'] - 1):.0f}"


def width_at_eighty() -> str:
    (found,) = _means(effects="normal", sizes="equal", groups=80)
    return f"{100 * (found['width']['ours'] - 1):.0f}"


def statistics_are_covered() -> bool:
    return all(record["results"]["covered"]["ours"] >= 0.93 for record in read("intervals", "statistics"))
