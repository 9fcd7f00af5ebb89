"""What sentences of `findings.md`, and of pages that quote the study, say of the records."""

from __future__ import annotations

from collections.abc import Iterable

from studies.records import results
from studies.suites.evaluated import LAMBDAS


def _estimate(family: str, data: str, rule: str = "mean") -> float:
    (run,) = results("suites", "families", family=family, seed=0)
    return float(run["sets"][data]["scores"][rule]["interval"]["estimate"])


_FAMILIES = ("bradley_terry", "categorical", "gaussian_ensemble", "quantile", "regression")


def _range(values: Iterable[float]) -> str:
    found = list(values)
    return f"{min(found):.2f} to {max(found):.2f}"


def llmbar() -> str:
    return _range(_estimate(family, "llmbar") for family in _FAMILIES)


def rm_bench() -> str:
    return _range(_estimate(family, "rm_bench") for family in _FAMILIES)


def suites_are_near_chance() -> bool:
    """On sets that nobody trains on, no family is more than six points from one half."""
    return all(abs(_estimate(f, data) - 0.5) < 0.06 for f in _FAMILIES for data in ("llmbar", "rm_bench"))


def best_on_harmless() -> str:
    return f"{max(_estimate(family, 'hh_rlhf_harmless') for family in _FAMILIES):.2f}"


def sums_of_votes_do_best_on_one_set_and_worst_on_another() -> bool:
    """Quantile and regression against the other three: above on hh_rlhf_harmless, below on ukpconvarg."""
    sums, others = _FAMILIES[3:], _FAMILIES[:3]
    return all(
        _estimate(one, "hh_rlhf_harmless") > _estimate(other, "hh_rlhf_harmless")
        and _estimate(one, "ukpconvarg") < _estimate(other, "ukpconvarg")
        for one in sums
        for other in others
    )


def length_wins() -> str:
    return f"{_estimate('quantile', 'ukpconvarg', 'length'):.2f}"


def length_is_above_all() -> bool:
    """The longer response, on pandalm and ukpconvarg."""
    return all(
        _estimate(family, data) < _estimate(family, data, "length")
        for family in _FAMILIES
        for data in ("pandalm", "ukpconvarg")
    )


def caution_at_most() -> str:
    """The largest change of accuracy between the mean and any lambda, of families with a spread."""
    sets = ("hh_rlhf_harmless", "qa_feedback", "pandalm", "ukpconvarg", "llmbar", "rm_bench")
    found = [
        abs(_estimate(family, data, f"entropic:{rate:g}") - _estimate(family, data))
        for family in ("gaussian_ensemble", "quantile")
        for data in sets
        for rate in LAMBDAS
    ]
    return f"{max(found):.2f}"


def caution_has_no_direction() -> bool:
    """lambda = 10 against the mean, of both families: higher on some sets and lower on others."""
    sets = ("hh_rlhf_harmless", "qa_feedback", "pandalm", "ukpconvarg", "llmbar", "rm_bench")
    signs = {
        _estimate(family, data, "entropic:10") > _estimate(family, data)
        for family in ("gaussian_ensemble", "quantile")
        for data in sets
    }
    return signs == {True, False}
