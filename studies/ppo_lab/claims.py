"""What sentences of `findings.md`, and of pages that quote the study, say of the records."""

from __future__ import annotations

from studies.ppo_lab.curves import mean_at, values_at

_HEADS = ("nominal", "robust:0.8", "robust:0.6", "robust:0.4", "robust:0.2", "worst_case")


def _ensemble(measure: str, kl: float) -> float:
    return mean_at(f"gaussian_ensemble/{measure}", kl)


def surest_head_is_exploited() -> bool:
    """In every seed, from .5 to 2 nats."""
    near, far = (values_at("gaussian_ensemble/nominal", kl) for kl in (0.5, 2.0))
    return all(one > other for one, other in zip(near, far, strict=True)) and mean_at(
        "gaussian_ensemble/nominal", 2.0
    ) < mean_at("gaussian_ensemble/nominal", 0.25)


def each_step_of_w_holds_longer() -> bool:
    """At 2 nats and at 1: the smaller w, the more gold."""
    found = [[_ensemble(measure, kl) for measure in _HEADS] for kl in (1.0, 2.0)]
    return all(values == sorted(values) for values in found)


def nominal_near() -> str:
    return f"{_ensemble('nominal', 0.5):.2f}"


def nominal_far() -> str:
    return f"{_ensemble('nominal', 2.0):.2f}"


def robust_far() -> str:
    return f"{_ensemble('robust:0.6', 2.0):.2f}"


def worst_case_far() -> str:
    return f"{_ensemble('worst_case', 2.0):.2f}"


def neutral_far() -> str:
    return f"{mean_at('quantile/mean', 2.0):.2f}"


def cvar_far() -> str:
    return f"{mean_at('quantile/cvar:0.1', 2.0):.2f}"


def averse_measures_help_those_who_like_it_least() -> bool:
    """At 1 nat and at 2, for the worst 5 % of people."""
    return all(
        mean_at(f"quantile/{measure}", kl, "tail") > mean_at("quantile/mean", kl, "tail") + 0.05
        for measure in ("cvar:0.1", "cvar:0.25")
        for kl in (1.0, 2.0)
    )


def steep_utilities_hardly_move() -> bool:
    """No beta of the study takes `exponential:3` or `exponential:10` a quarter of a nat."""
    return not any(values_at(f"quantile/exponential:{rate}", 0.25) for rate in (3, 10))
