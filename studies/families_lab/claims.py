"""What the sentences of `findings.md` say of the records of all families in the lab."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean
from typing import Any

from studies.cells import Value, apart, of
from studies.records import results

Runs = list[dict[str, Any]]

_BOTH = ("minilm", "traits")
_GAUSSIANS = ("gaussian", "gaussian_ensemble")
_CATEGORIES = ("cross_entropy", "rps", "transport")
_DISTRIBUTIONS = ("quantile", *_GAUSSIANS, "cross_entropy", "rps")  # the families but transport
_COUNTS = (3, 6, 12, 24, 48)  # of categories
_MANY = 30_000


def _mean(runs: Runs, *path: str) -> float:
    return mean(of(*path)(run) for run in runs)


# -- recovery ----------------------------------------------------------------------------------------


def _recovery(features: str, ratings: int, raters: int = 1) -> Runs:
    return results("families_lab", "recovery", features=features, ratings=ratings, raters=raters)


def _w1(features: str, ratings: int, family: str, raters: int = 1) -> float:
    return _mean(_recovery(features, ratings, raters), family, "w1")


def _bound(aim: str) -> float:
    return _mean(results("families_lab", "bounds"), aim, "w1")


def entropy_and_rps_nearest_with_many() -> bool:
    return all(
        max(_w1(f, n, "rps"), _w1(f, n, "cross_entropy"))
        < _w1(f, n, "quantile")
        < min(_w1(f, n, g) for g in _GAUSSIANS)
        for f in _BOTH
        for n in (10_000, _MANY)
    )


def quantiles_level_on_the_ratings_with_traits() -> bool:
    return not any(_on_ratings("traits", loss).excludes(0.0) for loss in ("rps", "cross_entropy"))


def quantiles_behind_on_the_ratings_with_minilm() -> bool:
    return all((_on_ratings("minilm", loss).low or 0.0) > 0 for loss in ("rps", "cross_entropy"))


def _on_ratings(features: str, loss: str) -> Any:
    runs = _recovery(features, _MANY)
    return apart(runs, of("quantile", "on_categories"), of(loss, "on_categories"))


def residual_w1() -> str:
    return f"{_w1('traits', _MANY, 'gaussian'):.3f}"


def residual_bound() -> str:
    return f"{_bound('gaussian'):.3f}"


def ensemble_w1() -> str:
    return f"{_w1('traits', _MANY, 'gaussian_ensemble'):.3f}"


def ensemble_bound() -> str:
    return f"{_bound('gaussian_ensemble'):.3f}"


def nothing_learned_from_100() -> bool:
    runs = _recovery("minilm", 100)
    return all(abs(apart(runs, of(f, "w1"), of("constant", "w1")).estimate) < 0.015 for f in _DISTRIBUTIONS)


def transport_behind_with_100() -> bool:
    return _w1("minilm", 100, "transport") > 1.2 * _w1("minilm", 100, "constant")


def categories_behind_quantiles_with_300() -> bool:
    runs = _recovery("traits", 300)
    return all((apart(runs, of(f, "w1"), of("quantile", "w1")).low or 0.0) > 0 for f in _CATEGORIES)


def _transport_ahead(features: str) -> list[Any]:
    """Transport minus the average distribution at every number of ratings."""
    sizes = (100, 300, 1000, 3000, 10_000, _MANY)
    return [apart(_recovery(features, n), of("transport", "w1"), of("constant", "w1")) for n in sizes]


def transport_behind_on_minilm() -> bool:
    return all(one.low > 0 for one in _transport_ahead("minilm"))


def transport_hardly_ahead_with_traits() -> bool:
    return all(one.estimate > -0.04 for one in _transport_ahead("traits"))


def transport_too_sure() -> bool:
    runs = [_recovery(f, _MANY) for f in _BOTH]
    return all(_mean(r, "transport", "std") < 0.34 * _mean(r, "transport", "true_std") for r in runs)


def five_raters_help() -> bool:
    return all(_w1(f, n, "transport", 5) < _w1(f, n, "transport") for f in _BOTH for n in (1000, 10_000))


def five_raters_not_enough() -> bool:
    return _bound("transport, 5 raters") > max(_bound(g) for g in _GAUSSIANS)


def order_not_behind_bradley_terry() -> bool:
    runs = [_recovery(f, _MANY) for f in _BOTH]
    return all(
        _mean(r, distribution, "order") >= _mean(r, "bradley_terry", "order")
        for r in runs
        for distribution in _DISTRIBUTIONS
    )


def features_matter_more_than_families() -> bool:
    minilm, traits = ([_w1(f, _MANY, distribution) for distribution in _DISTRIBUTIONS] for f in _BOTH)
    lost = min(a - b for a, b in zip(minilm, traits, strict=True))
    return lost > max(max(minilm) - min(minilm), max(traits) - min(traits))


# -- categories --------------------------------------------------------------------------------------


def _binned(responses: int) -> Runs:
    return results("families_lab", "categories", features="traits", responses=responses)


def _best(run: dict[str, Any], loss: str, count: int) -> dict[str, Any]:
    found: dict[str, Any] = min(run[f"{loss}, {count}"]["path"].values(), key=lambda one: one["w1"])
    return found


def _best_w1(responses: int, loss: str, count: int) -> float:
    return mean(_best(run, loss, count)["w1"] for run in _binned(responses))


def _share_of_binning(responses: int, loss: str, count: int) -> float:
    return mean(
        _best(run, loss, count)["binning"] / _best(run, loss, count)["w1"] for run in _binned(responses)
    )


def binning_is_nearly_all_with_3() -> bool:
    return all(_share_of_binning(n, loss, 3) > 0.9 for n in (1000, 10_000) for loss in _CATEGORIES)


def learning_is_most_from_24() -> bool:
    cases = [(n, loss, c) for n in (1000, 10_000) for loss in _CATEGORIES for c in (24, 48)]
    return all(_share_of_binning(*case) < 0.5 for case in cases)


def ordered_losses_gain_to_24() -> bool:
    cases = [(n, loss) for n in (1000, 10_000) for loss in ("rps", "transport")]
    return all(
        _best_w1(n, loss, 24) < _best_w1(n, loss, 12) < _best_w1(n, loss, 6) < _best_w1(n, loss, 3)
        for n, loss in cases
    )


def ordered_losses_level_after_24() -> bool:
    cases = [(n, loss) for n in (1000, 10_000) for loss in ("rps", "transport")]
    return all(abs(_best_w1(n, loss, 48) - _best_w1(n, loss, 24)) <= 0.012 for n, loss in cases)


def entropy_wants_more_penalty_at_48() -> bool:
    chosen = [[run[f"cross_entropy, {c}"]["chosen"]["l2"] for c in _COUNTS] for run in _binned(1000)]
    return all(last > max(others) for *others, last in chosen)


def entropy_farthest_at_48() -> bool:
    at = {loss: _mean(_binned(1000), f"{loss}, 48", "chosen", "w1") for loss in _CATEGORIES}
    return max(at, key=at.__getitem__) == "cross_entropy"


def entropy_nearest_at_its_best_penalty() -> bool:
    return all(
        _best_w1(n, "cross_entropy", 48) < min(_best_w1(n, loss, 48) for loss in ("rps", "transport"))
        for n in (1000, 10_000)
    )


def quantiles_nearer_than_any_categories() -> bool:
    return all(
        _mean(_binned(n), "quantile", "w1")
        < min(_best_w1(n, loss, c) for loss in _CATEGORIES for c in _COUNTS)
        for n in (1000, 10_000)
    )


# -- costs and tables --------------------------------------------------------------------------------

_FLOOR = "transport, rewards, floor 0.5"
_NO_FLOOR = "transport, rewards, floor 0"
_TWO_AXES = tuple(f"transport, two axes, floor {floor}" for floor in ("0", "0.1", "0.5"))
_ABOVE = (*_TWO_AXES, "transport, 0 or 1")  # costs beside that of rewards
_TABLES = ("paper", "equal steps", "harm counts double")


def _votes(features: str) -> Runs:
    return results("families_lab", "tables", features=features)


def _fits() -> list[str]:
    """With the paper's table, whatever the cost."""
    return [n for n in _votes("traits")[0] if n.split(", ")[-1] not in _TABLES[1:] and n != "constant"]


def entropy_best_in_every_column_with_traits() -> bool:
    runs = _votes("traits")
    errors: list[Callable[[str], float]] = [
        lambda fit: _mean(runs, fit, "total_variation"),
        lambda fit: _mean(runs, fit, "harm_error"),
        lambda fit: abs(_mean(runs, fit, "harm_said") - _mean(runs, fit, "harm")),
        lambda fit: _mean(runs, fit, "paper", "w1"),
        lambda fit: _mean(runs, fit, "paper", "mean_error"),
        lambda fit: -_mean(runs, fit, "paper", "spearman"),
    ]
    return all(min(_fits(), key=error) == "cross_entropy" for error in errors)


def entropy_halves_the_error_of_harm() -> bool:
    runs = _votes("traits")
    others = [_mean(runs, fit, "harm_error") for fit in _fits() if fit.startswith("transport")]
    own = _mean(runs, "cross_entropy", "harm_error")
    return all(0.45 < own / other < 0.55 for other in others)


def floor_nearer_on_minilm() -> bool:
    runs = _votes("minilm")
    w1 = apart(runs, of(_FLOOR, "paper", "w1"), of("cross_entropy", "paper", "w1"))
    total = apart(runs, of(_FLOOR, "total_variation"), of("cross_entropy", "total_variation"))
    return w1.estimate < 0 and not total.excludes(0.0)


def floor_lowers_total_variation_by_a_fifth() -> bool:
    totals = [[_mean(_votes(f), cost, "total_variation") for cost in (_FLOOR, _NO_FLOOR)] for f in _BOTH]
    return all(0.77 < with_floor / without < 0.83 for with_floor, without in totals)


def floor_costs_no_reward() -> bool:
    found = [apart(_votes(f), of(_FLOOR, "paper", "w1"), of(_NO_FLOOR, "paper", "w1")) for f in _BOTH]
    return all((one.low or 0.0) <= 0 for one in found)


def costs_alike() -> bool:
    def gap(features: str, cost: str, *path: str) -> float:
        return abs(_mean(_votes(features), cost, *path) - _mean(_votes(features), _FLOOR, *path))

    cases = [(f, cost) for f in _BOTH for cost in _ABOVE]
    return all(gap(*one, "paper", "w1") < 0.003 and gap(*one, "total_variation") < 0.01 for one in cases)


def transport_says_too_little_harm() -> bool:
    cases = [(_votes(f), cost) for f in _BOTH for cost in (*_ABOVE, _FLOOR)]
    return all(_mean(runs, cost, "harm_said") < _mean(runs, cost, "harm") for runs, cost in cases)


def rps_says_too_much_harm_with_the_tie() -> bool:
    said, true = of("rps, paper", "harm_said"), of("rps, paper", "harm")
    return all((apart(_votes(f), said, true).low or 0.0) > 0 for f in _BOTH)


def rps_says_less_harm_without_the_tie() -> bool:
    said = [[_mean(_votes(f), f"rps, {t}", "harm_said") for t in ("equal steps", "paper")] for f in _BOTH]
    return all(equal < paper for equal, paper in said)


def _lost(features: str, loss: str, known: str, other: str) -> Any:
    """W1 of a fit with one table under another, minus that of a fit with that other."""

    def of_fit(table: str) -> Value:
        paper = _NO_FLOOR if loss == "transport" else "rps, paper"
        return of(paper if table == "paper" else f"{loss}, {table}", other, "w1")

    return apart(_votes(features), of_fit(known), of_fit(other))


def rps_loses_under_other_tables() -> bool:
    return all(_lost(f, "rps", "paper", other).low > 0 for f in _BOTH for other in _TABLES[1:])


def rps_loses_nothing_under_the_papers_table() -> bool:
    return all(_lost(f, "rps", known, "paper").low <= 0 for f in _BOTH for known in _TABLES[1:])


def transport_loses_on_minilm() -> bool:
    found = [_lost("minilm", "transport", "paper", other) for other in _TABLES[1:]]
    rivals = [_lost("minilm", "rps", "paper", other).estimate for other in _TABLES[1:]]
    return all(one.low > 0 and abs(one.estimate - r) < 0.005 for one, r in zip(found, rivals, strict=True))


def transport_loses_nothing_with_traits() -> bool:
    runs = _votes("traits")
    larger = _mean(runs, _NO_FLOOR, "paper", "w1") > _mean(runs, "rps, paper", "paper", "w1")
    return larger and not any(_lost("traits", "transport", "paper", j).excludes(0.0) for j in _TABLES[1:])


def entropy_needs_no_table() -> bool:
    runs = _votes("traits")
    fits = {"paper": (_NO_FLOOR, "rps, paper")} | {t: (f"transport, {t}", f"rps, {t}") for t in _TABLES[1:]}
    return all(
        _mean(runs, "cross_entropy", table, "w1") < min(_mean(runs, fit, table, "w1") for fit in names)
        for table, names in fits.items()
    )


# -- other people ------------------------------------------------------------------------------------

_TWO_OF_SIX = ("scientists and teachers", "teenagers and artists")


def _crowds(features: str) -> Runs:
    return [one["crowds"] for one in results("families_lab", "personas", features=features)]


def _farther(crowd: str) -> float:
    """How many times as far from everybody, with the traits and cross-entropy, as with everybody's votes."""
    runs = _crowds("traits")
    path = ("cross_entropy", "everybody", "paper", "w1")
    return _mean(runs, crowd, *path) / _mean(runs, "everybody", *path)


def two_personas_are_four_times_as_far() -> bool:
    return all(4 <= _farther(crowd) < 5 for crowd in _TWO_OF_SIX)


def distance_is_that_of_the_crowds() -> bool:
    runs = _crowds("traits")
    path = ("cross_entropy", "everybody", "paper", "w1")
    shares = [_mean(runs, crowd, "apart", "paper", "w1") / _mean(runs, crowd, *path) for crowd in _TWO_OF_SIX]
    return all(0.9 < share <= 1.1 for share in shares)


def order_suffers_most_by_teenagers_and_artists() -> bool:
    path = ("cross_entropy", "everybody", "paper", "spearman")
    return all(
        min(runs[0], key=lambda crowd, r=runs: _mean(r, crowd, *path)) == "teenagers and artists"
        for runs in map(_crowds, _BOTH)
    )


def shifted_shares_add_a_fifth() -> bool:
    return all(1.1 < _farther(crowd) < 1.3 for crowd in ("equal shares", "no teenagers"))


def half_of_one_persona_doubles() -> bool:
    return 1.8 < _farther("half of them teenagers") < 2.2


def panel_of_30_is_as_good() -> bool:
    path = ("cross_entropy", "everybody", "paper", "w1")
    found = [apart(_crowds(f), of("a panel of 30", *path), of("everybody", *path)) for f in _BOTH]
    return not any(one.excludes(0.0) for one in found)


def panel_of_3_is_twice_as_far() -> bool:
    path = ("a panel of 3", "cross_entropy", "everybody", "paper", "w1")
    values = [of(*path)(run) for run in _crowds("traits")]
    return 1.8 < _farther("a panel of 3") < 2.4 and max(values) > 1.5 * min(values)


def steady_people_differ_more() -> bool:
    """The average distribution is farther from them."""
    return all(_harder(runs, "constant", "paper", "w1") for runs in map(_crowds, _BOTH))


def steady_people_are_harder() -> bool:
    losses = ("cross_entropy", "transport")
    return all(_harder(runs, loss, "own", "paper", "w1") for runs in map(_crowds, _BOTH) for loss in losses)


def _harder(runs: Runs, *path: str) -> bool:
    return _mean(runs, "half the noise", *path) > _mean(runs, "everybody", *path)
