"""What the sentences of `findings.md` say of the records."""

from __future__ import annotations

from statistics import mean

from pluralign.evaluation import Interval, difference_interval
from pluralign.losses.partition import optimum_kl
from studies.lab_policy.section import Record, difference, measure, runs_by_arm

BySeed = dict[int, Record]


def _arm(arm: str) -> dict[str, BySeed]:
    return runs_by_arm()[0][arm]


def _before() -> BySeed:
    return runs_by_arm()[1]


def _mean(runs: BySeed, name: str = "gold") -> float:
    return mean(measure(run, name) for run in runs.values())


def _gap(one: BySeed, other: BySeed, name: str = "gold") -> Interval:
    """Over the seeds that both have."""
    both = sorted(one.keys() & other.keys())
    return difference_interval(
        *([measure(side[seed], name) for seed in both] for side in (one, other)), method="t"
    )


def _is_zero(found: Interval) -> bool:
    return found.low is not None and not found.excludes(0.0)


def _is_above(found: Interval) -> bool:
    return found.excludes(0.0) and found.estimate > 0


# -- methods ---------------------------------------------------------------------------------------------


def before() -> str:
    return f"{_mean(_before()):.2f}"


def qrpo() -> str:
    return f"{_mean(_arm('methods')['qrpo']):.2f}"


def every_method_gains() -> bool:
    return all(_is_above(_gap(runs, _before())) for runs in _arm("methods").values())


def qrpo_above_dpo() -> str:
    return difference(_arm("methods")["qrpo"], _arm("methods")["dpo"])


def qrpo_above_rebel() -> str:
    return difference(_arm("methods")["qrpo"], _arm("methods")["rebel"])


def dpo_and_rebel_are_not_told_apart_from_qrpo() -> bool:
    found = _arm("methods")
    return all(_is_zero(_gap(found["qrpo"], found[name])) for name in ("dpo", "rebel"))


def simpo_is_below() -> bool:
    return _is_above(_gap(_arm("methods")["qrpo"], _arm("methods")["simpo"]))


def qrpo_is_nearer() -> bool:
    """Half the KL of REBEL, for the same gold, and less than DPO's."""
    found = {name: _mean(runs, "kl") for name, runs in _arm("methods").items()}
    return found["qrpo"] < 0.55 * found["rebel"] and found["qrpo"] < 0.75 * found["dpo"]


# -- distance --------------------------------------------------------------------------------------------


def kl_of_small_beta() -> str:
    return f"{_mean(_arm('beta')['qrpo-b0.03'], 'kl'):.1f}"


def optimum_of_small_beta() -> str:
    return f"{optimum_kl(0.03):.1f}"


def gold_of_small_beta() -> str:
    return f"{_mean(_arm('beta')['qrpo-b0.03']):.2f}"


def broken_of_small_beta() -> str:
    return f"{100 * _mean(_arm('beta')['qrpo-b0.03'], 'broken'):.0f}"


def ranks_in_differences() -> str:
    return difference(_arm("why")["rank-differences"], _arm("methods")["qrpo"])


def steep_levels_break() -> bool:
    """Levels of normal scores end below the language model, beyond 5 nats."""
    runs = _arm("why")["reward-levels"]
    return _is_above(_gap(_before(), runs)) and _mean(runs, "kl") > 5


# -- references ------------------------------------------------------------------------------------------


def left_out_of_three() -> str:
    return difference(_arm("references")["3-without-itself"], _arm("references")["3-with-itself"])


def no_difference_from_ten_on() -> bool:
    found = _arm("references")
    return all(_is_zero(_gap(found[f"{n}-without-itself"], found[f"{n}-with-itself"])) for n in (10, 30, 50))


def one_reference_teaches_nothing() -> bool:
    return _is_zero(_gap(_arm("references")["1-with-itself"], _before()))


# -- risk measures and data ------------------------------------------------------------------------------


def entropic_tail() -> str:
    return difference(_arm("risk")["entropic:1"], _arm("methods")["qrpo"], "tail")


def other_measures_are_not_told_apart() -> bool:
    usual = _arm("methods")["qrpo"]
    return all(_is_zero(_gap(_arm("risk")[name], usual, "tail")) for name in ("cvar:0.25", "quantile:0.1"))


def texts_of_others_serve_as_well() -> bool:
    found = _arm("methods")
    return all(_is_zero(_gap(runs, found[name])) for name, runs in _arm("offline").items())
