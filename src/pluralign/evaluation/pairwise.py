"""Pairwise calibration: where a model says that a share s of people prefers a to b, does a share s?

In: predicted probabilities of pairs and what the raters of each said. Out: shares of the votes, a curve and
an error for the model and each baseline.

Votes are those of people who compared two responses, or of people who rated both: who gave a the higher
rating prefers it, equal ratings are half a vote. Raters without names are compared as if they were drawn
independently, every rating of a with every rating of b.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pluralign.data.table_columns import Ragged, arrow_column, column_values
from pluralign.evaluation import probabilities
from pluralign.evaluation.columns import Floats, group_codes, noise_generator
from pluralign.evaluation.intervals import mean_interval
from pluralign.evaluation.texts import Columns, Texts, host_array

if TYPE_CHECKING:
    import datasets

    from pluralign.model import RewardModel

__all__ = ["rater_pair_rows", "summarise_pairwise"]

_MOST_PAIRS = 200  # of a group
_PREFIX = "_probability"


class _Pairs(NamedTuple):
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    share: Floats


@torch.inference_mode()
def rater_pair_rows(
    model: RewardModel, ratings: datasets.Dataset, texts: Texts, observed: Ragged, *, seed: int = 0
) -> Columns:
    """Pairs of responses to one prompt, in a random order, with the share of raters for the first.

    Unlike the pairs of `bridges.pairs_from_ratings`, these were not chosen by their ratings: pairs that are
    rated equal are among them, so that probabilities can be compared with shares.

    Args:
        model: any family.
        ratings: canonical ratings, of one attribute or several.
        texts: their responses.
        observed: their ratings.
        seed: of the choice and the order of pairs.

    Returns:
        Columns of length P: id, subset, group, attribute, `vote_share` and, for `model` and each baseline
        that tells texts apart, `..._probability` that the first is preferred. Empty without pairs.
    """
    pairs = _chosen(ratings, observed, seed)
    if not len(pairs.first):
        return {}
    columns: Columns = {}
    ids = column_values(ratings, "id")
    columns["id"] = [f"{ids[a]}|{ids[b]}" for a, b in zip(pairs.first, pairs.second, strict=True)]
    for name in ("subset", "group", "attribute"):
        values = column_values(ratings, name)
        columns[name] = [values[row] for row in pairs.first.tolist()]
    columns["kind"] = ["rater pair"] * len(pairs.first)
    columns["vote_share"] = pairs.share
    (item,) = texts.numbers
    first, second = (item[torch.from_numpy(rows)] for rows in (pairs.first, pairs.second))
    for name, head in {"model": model.head, **model.baselines}.items():
        distribution = head.distribution(*texts.inputs)
        preferred = model.preferred if name == "model" else head.preference_probability
        found = preferred(distribution[first], distribution[second])
        if name == "model" or bool((found - 0.5).abs().max() > 1e-6):
            columns[f"{name}{_PREFIX}"] = host_array(found.double())
    if len(model.head.attributes) > 1:
        columns[f"own_attribute{_PREFIX}"] = _own_attribute(model, texts, columns["attribute"], first, second)
    return columns


def _own_attribute(model: RewardModel, texts: Texts, about: list[str], first: Any, second: Any) -> Floats:
    """The same by the predicted ratings of the attribute that each pair is about."""
    names, result = np.asarray(about, object), np.full(len(about), np.nan)
    for name, distribution in model.predicted_attributes(texts.inputs.response).items():
        where = torch.from_numpy(np.flatnonzero(names == name))
        if len(where):
            found = distribution[first[where]].prob_greater(distribution[second[where]])
            result[where.numpy()] = host_array(found.double())
    return result


def _chosen(ratings: datasets.Dataset, observed: Ragged, seed: int) -> _Pairs:
    """Up to `_MOST_PAIRS` pairs of each group, within a prompt, pool and attribute."""
    names = ("group", "prompt", "subset", "attribute")
    keys = zip(*(map(repr, column_values(ratings, name)) for name in names), strict=True)
    responses = column_values(ratings, "response")
    pools: dict[str, dict[tuple[str, ...], list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, key in enumerate(keys):
        pools[key[0]][key].append(row)
    generator = noise_generator(seed, "rater pairs")
    chosen: list[tuple[int, int]] = []
    for of_group in pools.values():
        found = [
            (a, b)
            for rows in of_group.values()
            for i, a in enumerate(rows[:_MOST_PAIRS])
            for b in rows[i + 1 : _MOST_PAIRS]
            if responses[a] != responses[b]
        ]
        if len(found) > _MOST_PAIRS:
            found = [found[i] for i in generator.choice(len(found), _MOST_PAIRS, replace=False)]
        swapped = generator.random(len(found)) < 0.5
        chosen += [(b, a) if swap else (a, b) for (a, b), swap in zip(found, swapped, strict=True)]
    ends = np.cumsum(observed.sizes)
    values = [observed.values[end - size : end] for end, size in zip(ends, observed.sizes, strict=True)]
    named = "rater_ids" in ratings.column_names and not arrow_column(ratings, "rater_ids").null_count
    raters = column_values(ratings, "rater_ids") if named else None
    shares = [_share(values, raters, a, b) for a, b in chosen]
    kept = [(a, b, share) for (a, b), share in zip(chosen, shares, strict=True) if share is not None]
    first, second = (np.array([pair[k] for pair in kept], np.int64) for k in (0, 1))
    return _Pairs(first, second, np.array([share for *_, share in kept], np.float64))


def _share(values: list[Floats], raters: list[Any] | None, a: int, b: int) -> float | None:
    """Of the people who rated both, how many prefer a; None where nobody is known to have."""
    if raters is None or raters[a] is None or raters[b] is None:
        apart = values[a][:, None] - values[b][None, :]
    else:
        of_b = dict(zip(raters[b], values[b], strict=False))
        apart = np.array(
            [x - of_b[name] for name, x in zip(raters[a], values[a], strict=False) if name in of_b]
        )
    return float(((apart > 0) + 0.5 * (apart == 0)).mean()) if apart.size else None


def summarise_pairwise(columns: Columns, *, seed: int = 0) -> dict[str, Any]:
    """The curve, the calibration error and the Brier score of the model and its baselines.

    Args:
        columns: with `vote_share` of one side, and `..._probability` or `probability` of the same side.
        seed: of the order in which pairs are shown.

    Returns:
        `rows`, `groups`, `of_half` (the Brier score of always saying 1/2), and by name `curve`, `error` and
        `brier` (an interval over groups). Empty where there is no share.
    """
    share = columns.get("vote_share")
    if share is None or not len(share):
        return {}
    named = {key.removesuffix(_PREFIX): values for key, values in columns.items() if key.endswith(_PREFIX)}
    if "probability" in columns:
        named = {"model": columns["probability"], **named}
    groups = group_codes(columns["group"])
    found: dict[str, Any] = {}
    for name, values in named.items():
        if np.isnan(values).any():
            continue
        probability, outcome = probabilities.randomise_orientation(values, seed, share)
        curve = probabilities.reliability_curve(probability, outcome)
        found[name] = {
            "curve": curve,
            "error": probabilities.expected_calibration_error(curve),
            "brier": mean_interval(
                probabilities.brier(probability, outcome), groups, seed=seed, bounds=(0.0, 1.0)
            ).to_dict(),
        }
    half = float(np.square(np.asarray(share) - 0.5).mean())
    return {"rows": len(share), "groups": len(np.unique(groups)), "of_half": half, "by": found}
