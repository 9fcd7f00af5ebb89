"""What the sentences of `findings.md` say of the records."""

from __future__ import annotations

from statistics import mean

from pluralign.evaluation import Interval
from studies.cells import PARTS, Value, apart, of
from studies.records import results
from studies.tables import difference_over_seeds

Runs = list[dict[str, object]]
_USUAL = {"shape": "small", "start": "constant", "temperature": 10.0}


def _both(*path: str) -> Value:
    """The mean over both kinds of unseen prompts."""
    return lambda run: mean(of(part, *path)(run) for part in PARTS)


def _recovery(features: str, ratings: int, who: str = "model") -> float:
    return mean(
        _both(who, "w1")(run) for run in results("qrm_lab", "recovery", features=features, ratings=ratings)
    )


def _below(found: Interval) -> bool:
    return found.excludes(0.0) and found.estimate < 0


# -- quantiles -------------------------------------------------------------------------------------------


def minilm_with_few() -> str:
    return f"{_recovery('minilm', 100):.2f}"


def minilm_with_many() -> str:
    return f"{_recovery('minilm', 30_000):.2f}"


def constant() -> str:
    return f"{_recovery('minilm', 30_000, 'constant'):.2f}"


def traits_with_many() -> str:
    return f"{_recovery('traits', 30_000):.2f}"


def few_ratings_are_the_constant_model() -> bool:
    """With 100 and 300 ratings on MiniLM no difference is found; from 1,000 on there is one."""
    found = {
        n: apart(
            results("qrm_lab", "recovery", features="minilm", ratings=n),
            _both("model", "w1"),
            _both("constant", "w1"),
        )
        for n in (100, 300, 1000)
    }
    return not found[100].excludes(0) and not found[300].excludes(0) and _below(found[1000])


def nineteen_levels_are_nearly_enough() -> bool:
    """39 gain less than a tenth of what 19 gain over 5, and cross more often."""

    def crps(run: dict[str, object], count: str) -> float:
        return mean(of(count, part, "crps")(run) for part in PARTS)

    def crossing(run: dict[str, object], count: str) -> float:
        return mean(of(count, part, "crossing")(run) for part in PARTS)

    for features in ("minilm", "traits"):
        runs = results("qrm_lab", "levels", features=features)
        gain = {n: mean(crps(run, "5") - crps(run, n) for run in runs) for n in ("19", "39")}
        crosses = {n: mean(crossing(run, n) for run in runs) for n in ("19", "39")}
        if gain["39"] - gain["19"] > 0.1 * gain["19"] or crosses["39"] < 2 * crosses["19"]:
            return False
    return True


def crossing_without_penalty() -> str:
    runs = results("qrm_lab", "penalties")
    return f"{100 * mean(of('0', part, 'crossing')(run) for run in runs for part in PARTS):.0f}"


def penalty_lowers_error_and_crossing() -> bool:
    """l1 = 0.001 against none, in every seed."""
    return all(
        of("0.001", part, key)(run) < of("0", part, key)(run)
        for run in results("qrm_lab", "penalties")
        for part in PARTS
        for key in ("w1", "crossing")
    )


# -- the gate --------------------------------------------------------------------------------------------


def _gate(features: str, part: str, pairs: int = 5000) -> Interval:
    """Loss of the gate minus that of one set of weights for all prompts."""
    runs = results("qrm_lab", "gate", features=features, pairs=pairs, **_USUAL)
    return apart(runs, of(part, "gate", "loss"), of(part, "one", "loss"))


def gate_finds_the_weights_in_traits() -> bool:
    """Below the best single set, and nearer to the best weights than to equal ones."""
    runs = results("qrm_lab", "gate", features="traits", pairs=5000, **_USUAL)
    near = mean(of("objects", "weights", "best", "tv")(run) for run in runs)
    far = mean(of("objects", "weights", "best", "tv_of_equal")(run) for run in runs)
    return all(_below(_gate("traits", part)) for part in PARTS) and near < 0.25 * far


def gate_of_minilm_generalises_to_objects_alone() -> bool:
    return _below(_gate("minilm", "objects")) and not _gate("minilm", "tasks").excludes(0.0)


def few_pairs_are_worse_than_no_gate() -> bool:
    """500 pairs on MiniLM: above the loss of the best single set."""
    found = [_gate("minilm", part, pairs=500) for part in PARTS]
    return all(one.excludes(0.0) and one.estimate > 0 for one in found)


# -- length ----------------------------------------------------------------------------------------------


def _length(bias: float, features: str, key: str) -> str:
    runs = results("qrm_lab", "length", bias=bias, features=features)
    way = "verbosity, shift"
    return difference_over_seeds([of(way, key)(r) for r in runs], [of("none", key)(r) for r in runs], 3)


def debiased_gold() -> str:
    return _length(0.05, "minilm", "gold")


def debiased_votes() -> str:
    return _length(0.05, "minilm", "voted")


def debiased_without_a_bias() -> str:
    return _length(0.0, "minilm", "gold")
