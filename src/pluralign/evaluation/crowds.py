"""How far predicted distributions are from the people who rated, for all of them and for groups of them.

In: predictions and ratings of the rows of a table. Out: columns with one entry per row, and their summary.

Distances are between the ratings that people can give, so every family is measured in the same way: the
Wasserstein-1 distance to the raters of a row, which even the true distribution does not bring to 0 (the
floor), and the energy distance to their crowd, which is free of that bias. Groups of raters are the pools
that the table names (`subset`), and, where raters have names, the stricter and the more lenient half. Who is
lenient is found on the other half of the table's groups, so that no rating decides in which half it counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pluralign.data.table_columns import Ragged, arrow_column, column_values
from pluralign.distributions import RewardDistribution
from pluralign.evaluation import crowd
from pluralign.evaluation.columns import Floats, group_codes
from pluralign.evaluation.intervals import mean_interval
from pluralign.evaluation.raters import blocks, filled
from pluralign.evaluation.texts import Columns, Texts

if TYPE_CHECKING:
    import datasets

    from pluralign.model import RewardModel

__all__ = ["crowd_columns", "summarise_crowd"]

_MOST_CATEGORIES = 31
_ROWS_AT_ONCE = 8192
_KNOWN_BY = 5  # ratings of a person in the other half, from which on leniency is known
_FLOOR_DRAWS = 5000
_WHO = {"": "all", "strict_": "stricter half", "lenient_": "more lenient half"}


@torch.inference_mode()
def crowd_columns(model: RewardModel, ratings: datasets.Dataset, texts: Texts, observed: Ragged) -> Columns:
    """Distances of each row: `crowd_w1`, `crowd_energy`, the same of `constant_`, and of halves of raters.

    Args:
        model: any family; without attributes on a grid of ratings there are no columns.
        ratings: canonical ratings.
        texts: their responses.
        observed: their ratings.

    Returns:
        Columns [N], NaN where a row is too small: `crowd_w1`, `crowd_energy`, `crowd_split` (between halves
        of the raters), `crowd_counts` (people per category); of the model alone also
        `crowd_strict_...` and `crowd_lenient_...` where raters have names.
    """
    attribute = np.asarray(column_values(ratings, "attribute"), object)
    halves = _halves(ratings, observed, attribute)
    (item,) = texts.numbers
    heads = {"": model}
    if "constant" in model.baselines:
        heads["constant_"] = model.with_head(model.baselines["constant"])
    columns: Columns = {}
    for start, one in heads.items():
        predicted = one.predicted_attributes(texts.inputs.response, on_grid=True)
        for a in one.head.attributes:
            distribution, where = predicted[a.name], np.flatnonzero(attribute == a.name)
            masses = distribution.point_masses()
            if not len(where) or one.head.grid_step(a) is None or masses is None:
                continue
            atoms = masses[0][0].double().cpu()
            if len(atoms) > _MOST_CATEGORIES:
                continue
            for who, kept in {"": observed, **(halves if not start else {})}.items():
                found = _measured(distribution, item[where], kept[where], atoms, with_counts=not start)
                for key, values in found.items():
                    name = f"{start}crowd_{who}{key}"
                    empty: Any = (
                        np.full(len(ratings), None, object)
                        if key == "counts"
                        else np.full(len(ratings), np.nan)
                    )
                    columns.setdefault(name, empty)[where] = values
    return columns


def _measured(
    distribution: RewardDistribution, item: Tensor, ratings: Ragged, atoms: Tensor, with_counts: bool
) -> dict[str, Any]:
    """The distances of some rows; NaN for a row with too few ratings."""
    count = len(ratings.sizes)
    found: dict[str, Any] = {key: np.full(count, np.nan) for key in ("w1", "energy")}
    if with_counts:
        found |= {"split": np.full(count, np.nan), "counts": np.full(count, None, object)}
    rated = np.flatnonzero(ratings.sizes > 0)
    for block in blocks(ratings.sizes[rated], _ROWS_AT_ONCE):
        rows = rated[block]
        given = filled(ratings[rows])
        predicted = distribution[item[torch.from_numpy(rows)]].to("cpu", torch.float64)
        found["w1"][rows] = crowd.wasserstein_to_raters(predicted, given).numpy()
        found["energy"][rows] = crowd.energy_distance(predicted, given).numpy()
        if with_counts:
            found["split"][rows] = crowd.split_half_distance(given).numpy()
            found["counts"][rows] = np.fromiter(crowd.rater_counts(given, atoms).tolist(), object, len(rows))
    return found


def _halves(ratings: datasets.Dataset, observed: Ragged, attribute: Any) -> dict[str, Ragged]:
    """The ratings of the stricter and of the more lenient half of the people, where they have names."""
    if "rater_ids" not in ratings.column_names or arrow_column(ratings, "rater_ids").null_count:
        return {}
    names: list[str] = [str(name) for of in column_values(ratings, "rater_ids") for name in of]
    if len(names) != len(observed.values):
        return {}
    row = np.repeat(np.arange(len(observed.sizes)), observed.sizes)
    side = group_codes(column_values(ratings, "group"))[row] % 2
    means = np.bincount(row, observed.values, len(observed.sizes)) / np.maximum(observed.sizes, 1)
    apart = np.where(observed.sizes[row] > 1, observed.values - means[row], np.nan)
    spans = {name: float(np.nanstd(apart[attribute[row] == name]) or 1.0) for name in set(attribute.tolist())}
    apart = apart / np.array([spans[name] for name in attribute[row]])
    lenient = np.zeros(len(names))  # 1 lenient, -1 strict, 0 not known
    for half in (0, 1):
        known = _leniency(names, apart, np.flatnonzero((side != half) & ~np.isnan(apart)))
        if len(known) < 2:
            continue
        middle = float(np.median(list(known.values())))
        for place in np.flatnonzero(side == half).tolist():
            value = known.get(names[place])
            if value is not None and value != middle:
                lenient[place] = 1 if value > middle else -1
    if not lenient.any():
        return {}
    signs = {"strict_": -1, "lenient_": 1}
    return {who: _kept(observed, row, lenient == sign) for who, sign in signs.items()}


def _leniency(names: Sequence[str], apart: Floats, places: Iterable[int]) -> dict[str, float]:
    """The mean distance of each person's ratings from those of the others of the same row."""
    of: dict[str, list[float]] = defaultdict(list)
    for place in places:
        of[names[place]].append(float(apart[place]))
    return {name: sum(values) / len(values) for name, values in of.items() if len(values) >= _KNOWN_BY}


def _kept(observed: Ragged, row: Any, keep: Any) -> Ragged:
    return Ragged(observed.values[keep], np.bincount(row[keep], minlength=len(observed.sizes)))


def summarise_crowd(columns: Columns, *, seed: int = 0) -> dict[str, Any]:
    """Distances by attribute and group of raters, beside what predicts the same for all, and the floor.

    Returns:
        `{attribute: {group of raters: {...}}}`: `rows`; `w1` and `energy`, each with intervals of `model`
        and, for all raters, `constant`; `floor`, the w1 of the true distributions, estimated as if these came
        from a Dirichlet; `split_half`, the distance between halves of the raters, larger than the floor.
        Empty where nothing was measured.
    """
    if "crowd_w1" not in columns:
        return {}
    attribute, pools = (np.asarray(columns[name], object) for name in ("attribute", "subset"))
    groups = group_codes(columns["group"])
    summary: dict[str, Any] = {}
    for name in dict.fromkeys(columns["attribute"]):
        of_attribute = (attribute == name) & ~np.isnan(columns["crowd_w1"])
        if not of_attribute.any():
            continue
        parts = {words: _part(columns, start, of_attribute, groups, seed) for start, words in _WHO.items()}
        names = list(dict.fromkeys(pools[of_attribute].tolist()))
        if len(names) > 1:
            parts |= {
                str(pool): _part(columns, "", of_attribute & (pools == pool), groups, seed) for pool in names
            }
        summary[name] = {words: part for words, part in parts.items() if part}
    return summary


def _part(columns: Columns, start: str, keep: Any, groups: Any, seed: int) -> dict[str, Any]:
    own = columns.get(f"crowd_{start}w1")
    if own is None or not (keep & ~np.isnan(own)).any():
        return {}
    where = np.flatnonzero(keep & ~np.isnan(own))
    part: dict[str, Any] = {"rows": len(where)}
    for key in ("w1", "energy"):
        part[key] = {}
        for who, prefix in (("model", ""), ("constant", "constant_")):
            values = columns.get(f"{prefix}crowd_{start}{key}")
            if values is not None and not np.isnan(values[where]).all():
                part[key][who] = mean_interval(values[where], groups[where], seed=seed).to_dict()
    counts = columns.get(f"crowd_{start}counts")
    part["floor"] = None if counts is None else _floor(columns, counts, where)
    split = columns.get(f"crowd_{start}split")
    known = split is not None and not np.isnan(split[where]).all()
    part["split_half"] = float(np.nanmean(split[where])) if split is not None and known else None
    return part


def _floor(columns: Columns, counts: Any, where: Any) -> float | None:
    table = torch.tensor([list(counts[i]) for i in where], dtype=torch.float64)
    if not bool((table.sum(1) > 1).any()):
        return None
    low, span = float(columns["low"][where[0]]), float(columns["span"][where[0]])
    atoms = torch.linspace(low, low + span, table.shape[1], dtype=torch.float64)
    return crowd.wasserstein_floor(table, atoms, draws=_FLOOR_DRAWS)
