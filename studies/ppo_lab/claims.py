"""What sentences of `findings.md`, and of pages that quote the study, say of the records."""

from __future__ import annotations

from statistics import mean
from typing import Any

from studies import records
from studies.ppo_lab.curves import mean_at, values_at

_HEADS = ("nominal", "robust:0.8", "robust:0.6", "robust:0.4", "robust:0.2", "worst_case")

BySeed = dict[int, dict[str, Any]]


def _runs(arm: str, **settings: Any) -> BySeed:
    """Results by seed, of these settings and no others."""
    return {
        record["settings"]["seed"]: record["results"]
        for record in records.read("ppo_lab", arm, **settings)
        if record["settings"].keys() - {"seed"} == settings.keys()
    }


def _golds(runs: BySeed) -> dict[int, float]:
    return {seed: run["outcome"]["gold"] for seed, run in runs.items()}


def _above(one: BySeed, other: BySeed, key: str = "gold") -> bool:
    """In every seed that has both; False where there is none."""
    common = one.keys() & other.keys()
    return bool(common) and all(one[s]["outcome"][key] > other[s]["outcome"][key] for s in common)


def _pressed(reward: str, risk: str, **more: str) -> BySeed:
    return _runs("pressure", reward=reward, risk=risk, **more)


def _mean_gold(runs: BySeed) -> str:
    return f"{mean(_golds(runs).values()):.2f}"


def _method(name: str) -> BySeed:
    return _runs("samples", method=name)


def gae_rises() -> bool:
    """In every seed above the language model."""
    return _above(_method("gae"), _runs("before"))


def before() -> str:
    seeds = _method("gae").keys()
    return _mean_gold({seed: run for seed, run in _runs("before").items() if seed in seeds})


def gae() -> str:
    return _mean_gold(_method("gae"))


def gae_above_all() -> bool:
    """In every seed that has both."""
    return all(_above(_method("gae"), _method(name)) for name in ("rloo", "grpo", "qrpo", "dpo", "rebel"))


def groups_go_farther() -> bool:
    """KL in every seed."""
    return all(_above(_method(name), _method("gae"), "kl_k3") for name in ("rloo", "grpo"))


def offline_stays_nearer() -> bool:
    return all(_above(_method("gae"), _method(name), "kl_k3") for name in ("qrpo", "dpo", "rebel"))


def _paths(runs: BySeed) -> list[list[dict[str, float]]]:
    return [[point for point in run["path"] if "gold" in point] for run in runs.values()]


def one_reward_is_exploited() -> bool:
    """The reward rises from evaluation to evaluation, and gold ends below where it began, in every seed."""
    paths = _paths(_pressed("bradley_terry", "mean"))
    rewards = [[point["reward"] for point in path] for path in paths]
    falls = [path[-1]["gold"] < path[0]["gold"] - 0.3 for path in paths]
    return bool(paths) and all(falls) and all(sorted(one) == one for one in rewards)


def all_means_end_below_the_language_model() -> bool:
    return all(
        _above(_runs("before"), _pressed(family, "mean"))
        for family in ("bradley_terry", "gaussian_ensemble", "quantile")
    )


def bradley_terry_pressed() -> str:
    return _mean_gold(_pressed("bradley_terry", "mean"))


def minimum_pressed() -> str:
    return _mean_gold(_pressed("gaussian_ensemble", "robust:0"))


def surest_pressed() -> str:
    return _mean_gold(_pressed("gaussian_ensemble", "robust:1"))


def _either_way(one: BySeed, other: BySeed) -> bool:
    """Gold of one is above that of the other in some seeds, and below in others."""
    signs = {_golds(one)[seed] > _golds(other)[seed] for seed in one.keys() & other.keys()}
    return signs == {True, False}


def w_cannot_be_told() -> bool:
    return _either_way(_pressed("gaussian_ensemble", "robust:0"), _pressed("gaussian_ensemble", "robust:1"))


def nearest_and_farthest() -> str:
    """KL of the runs of both, in nats, smallest and largest."""
    runs = [
        run for weight in ("0", "1") for run in _pressed("gaussian_ensemble", f"robust:{weight}").values()
    ]
    found = [run["outcome"]["kl_k3"] for run in runs]
    return f"{min(found):.0f} to {max(found):.0f}"


def minimum_is_no_rescue() -> bool:
    """It ends below the language model too, in every seed."""
    return _above(_runs("before"), _pressed("gaussian_ensemble", "robust:0"))


def exponential_one_pressed() -> str:
    return _mean_gold(_pressed("quantile", "exponential:1"))


def quantile_mean_pressed() -> str:
    return _mean_gold(_pressed("quantile", "mean"))


def exponential_one_above_mean_and_nearer() -> bool:
    one, other = _pressed("quantile", "exponential:1"), _pressed("quantile", "mean")
    return _above(one, other) and _above(other, one, "kl_k3")


def disagreement_pressed() -> str:
    return _mean_gold(_pressed("gaussian_ensemble", "robust:1", robust_weight="disagreement"))


def mean_weight() -> str:
    runs = _pressed("gaussian_ensemble", "robust:1", robust_weight="disagreement").values()
    found = [point["robust_weight"] for run in runs for point in run["path"] if "robust_weight" in point]
    return f"{mean(found):.2f}"


def disagreement_cannot_be_told() -> bool:
    automatic = _pressed("gaussian_ensemble", "robust:1", robust_weight="disagreement")
    return _either_way(automatic, _pressed("gaussian_ensemble", "robust:1"))


def _rates(key: str, side: str) -> list[float]:
    runs = list(_runs("people").values())
    return [mean(run[key][side][place] for run in runs) for place in range(6)]


def every_persona_prefers_aligned() -> bool:
    """Both policies win more than they lose against the language model, in the mean over seeds."""
    return all(
        won > lost
        for key in ("against_vanilla", "rival_against_vanilla")
        for won, lost in zip(_rates(key, "won"), _rates(key, "lost"), strict=True)
    )


def categorical_won() -> str:
    return f"{100 * mean(_rates('against_vanilla', 'won')):.0f}"


def categorical_lost() -> str:
    return f"{100 * mean(_rates('against_vanilla', 'lost')):.0f}"


def rival_won() -> str:
    return f"{100 * mean(_rates('rival_against_vanilla', 'won')):.0f}"


def rival_lost() -> str:
    return f"{100 * mean(_rates('rival_against_vanilla', 'lost')):.0f}"


def critics_are_alike() -> bool:
    """Gold of no quantile critic is above that of the single value in every seed."""
    scalar = _runs("critic", critic_quantiles=1)
    quantiles = (
        _runs("critic", critic_quantiles=16),
        _runs("critic", critic_quantiles=16, critic_baseline="cvar:0.25"),
    )
    return bool(scalar) and not any(_above(one, scalar) for one in quantiles)


def _ensemble(measure: str, kl: float) -> float:
    return mean_at(f"gaussian_ensemble/{measure}", kl)


def surest_head_is_exploited() -> bool:
    """Its gold falls from .5 to 2 nats in the mean and in most seeds; in at least one it does not."""
    near, far = (values_at("gaussian_ensemble/nominal", kl) for kl in (0.5, 2.0))
    falls = [one > other for one, other in zip(near, far, strict=True)]
    return mean(near) > mean(far) and len(falls) / 2 < sum(falls) < len(falls)


def each_step_of_w_holds_longer() -> bool:
    """At 1 nat and at 2, in the mean over seeds: the smaller w, the more gold."""
    found = [[_ensemble(m, kl) for m in _HEADS] for kl in (1.0, 2.0)]
    return all(values == sorted(values) for values in found)


def minimum_above_surest_everywhere() -> bool:
    """At .5, 1 and 2 nats, in every seed."""
    both = (
        zip(*(values_at(f"gaussian_ensemble/{m}", kl) for m in ("worst_case", "nominal")), strict=True)
        for kl in (0.5, 1.0, 2.0)
    )
    return all(one > other for pairs in both for one, other in pairs)


def nominal_near() -> str:
    return f"{_ensemble('nominal', 0.5):.2f}"


def nominal_far() -> str:
    return f"{_ensemble('nominal', 2.0):.2f}"


def robust_far() -> str:
    return f"{_ensemble('robust:0.6', 2.0):.2f}"


def worst_case_far() -> str:
    return f"{_ensemble('worst_case', 2.0):.2f}"


def neutral_at_one() -> str:
    return f"{mean_at('quantile/mean', 1.0):.2f}"


def cvar_at_one() -> str:
    return f"{mean_at('quantile/cvar:0.1', 1.0):.2f}"


def averse_measure_helps_those_who_like_it_least() -> bool:
    """cvar:0.1 at 1 nat, the worst 5 % of people: in the mean, and not in every seed."""
    one, other = (values_at(f"quantile/{m}", 1.0, "tail") for m in ("cvar:0.1", "mean"))
    return mean(one) > mean(other) and not all(a > b for a, b in zip(one, other, strict=True))


def steep_utilities_hardly_move() -> bool:
    """No beta of the study takes `exponential:3` or `exponential:10` half a nat, in some seed."""
    return not any(values_at(f"quantile/exponential:{rate}", 0.5) for rate in (3, 10))


def _biased(kind: str, step: str, measure: str) -> list[float]:
    found = [run[kind][step][measure] for run in records.results("ppo_lab", "biases")]
    return [] if None in found else found


def minimum_ignores_two_heads() -> bool:
    """Mean gold of the minimum: one or two of five too high change it by at most .03; each more costs."""
    kept = [mean(_biased("over", str(k), "worst_case")) for k in range(5)]
    return all(abs(one - kept[0]) <= 0.03 for one in kept[1:3]) and kept[2] > kept[3] > kept[4]


def minimum_above_mean_of_heads() -> bool:
    """Whatever k, in every seed."""
    return all(
        one > other
        for k in range(6)
        for one, other in zip(
            _biased("over", str(k), "worst_case"), _biased("over", str(k), "mean"), strict=True
        )
    )


def minimum_with_three() -> str:
    return f"{mean(_biased('over', '3', 'worst_case')):.2f}"


def minimum_clean() -> str:
    return f"{mean(_biased('over', '0', 'worst_case')):.2f}"


def minimum_with_four() -> str:
    return f"{mean(_biased('over', '4', 'worst_case')):.2f}"


def too_low_costs_nothing() -> bool:
    """Whatever k: the mean gold of each of these measures changes by at most .04."""
    measures = ("mean", "worst_case", "robust:0.4", "uwo:1")
    return all(
        abs(mean(_biased("under", str(k), m)) - mean(_biased("under", "0", m))) <= 0.04
        for k in range(6)
        for m in measures
        if _biased("under", str(k), m)
    )


def maximum() -> str:
    return f"{mean(_biased('over', '0', 'best_case')):.2f}"


def maximum_is_low() -> bool:
    """In every seed below these measures, with unbiased heads."""
    others = ("mean", "worst_case", "robust:0.4", "uwo:1")
    lowest = _biased("over", "0", "best_case")
    return bool(lowest) and all(
        all(a < b for a, b in zip(lowest, _biased("over", "0", m), strict=True)) for m in others
    )


def heads_apart_help_the_minimum() -> bool:
    """The less heads correlate, the more gold the minimum has, in every seed."""
    steps = [_biased("apart", factor, "worst_case") for factor in ("0.25", "1", "4")]
    return all(list(values) == sorted(values) for values in zip(*steps, strict=True))


def heads_apart_hurt_the_surest() -> bool:
    near, far = (mean(_biased("apart", factor, "robust:1")) for factor in ("0.25", "4"))
    return far < near


def _new_gold(reward: str) -> list[float]:
    """Gold of the new crowd, by seed."""
    return [run["gold"][reward] for run in records.results("ppo_lab", "shift")]


def _all_above(one: list[float], other: list[float]) -> bool:
    return bool(one) and all(a > b for a, b in zip(one, other, strict=True))


def stale_gold() -> str:
    return f"{mean(_new_gold('old')):.2f}"


def updated_gold() -> str:
    return f"{mean(_new_gold('updated')):.2f}"


def true_shares_gold() -> str:
    return f"{mean(_new_gold('new')):.2f}"


def updating_helps() -> bool:
    """In every seed."""
    return _all_above(_new_gold("updated"), _new_gold("old"))


def updating_is_nearly_as_good_as_knowing() -> bool:
    """In the mean over seeds, the updated shares reach at least four fifths of what the true ones gain."""
    old, updated, new = (mean(_new_gold(name)) for name in ("old", "updated", "new"))
    return updated - old >= 0.8 * (new - old)


def updated_won() -> str:
    runs = records.results("ppo_lab", "shift")
    return f"{100 * mean(run['against_old']['updated']['won'] for run in runs):.0f}"


def updated_lost() -> str:
    runs = records.results("ppo_lab", "shift")
    return f"{100 * mean(run['against_old']['updated']['lost'] for run in runs):.0f}"


def _gain(tasks: str) -> list[float]:
    runs = records.results("ppo_lab", "unseen")
    return [run[tasks]["after"] - run[tasks]["before"] for run in runs]


def seen_gain() -> str:
    return f"{mean(_gain('seen')):.2f}"


def left_out_gain() -> str:
    return f"{mean(_gain('left_out')):.2f}"


def left_out_tasks_gain_too() -> bool:
    """In every seed, and in the mean over seeds at least two thirds of what seen tasks gain."""
    return min(_gain("left_out")) > 0 and mean(_gain("left_out")) > 2 / 3 * mean(_gain("seen"))


def _steered(risk: str, key: str) -> list[float]:
    return [run["measures"][risk][key] for run in records.results("ppo_lab", "steering")]


def steered_tail() -> str:
    return f"{mean(_steered('exponential:1', 'worst 5 %')):.2f}"


def unsteered_tail() -> str:
    return f"{mean(_steered('mean', 'worst 5 %')):.2f}"


def steered_gold() -> str:
    return f"{mean(_steered('exponential:1', 'gold')):.2f}"


def unsteered_gold() -> str:
    return f"{mean(_steered('mean', 'gold')):.2f}"


def caution_helps_the_worst_off() -> bool:
    """`exponential:1` against the mean: the worst 5 % of people, in every seed."""
    return _all_above(_steered("exponential:1", "worst 5 %"), _steered("mean", "worst 5 %"))


def steep_accuracy() -> str:
    return f"{100 * mean(_steered('exponential:10', 'accuracy')):.1f}"


def mean_accuracy() -> str:
    return f"{100 * mean(_steered('mean', 'accuracy')):.1f}"


def steepest_costs_accuracy_and_gold() -> bool:
    """`exponential:10` against the mean, in every seed."""
    return all(
        _all_above(_steered("mean", key), _steered("exponential:10", key)) for key in ("accuracy", "gold")
    )
