"""Calibrating a reward model: corrections, measured on ratings and comparisons that it was not fitted on.

In: a head, ratings and the vectors of their texts. Out: a `Recalibration` for each attribute. Of comparisons,
in: their predicted distributions. Out: a `Temperature`.

Ratings on a grid of step h are spread by U(-h/2, h/2), as they are for fits and evaluations, unless the
predictions are categories themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pluralign.data.table_columns import column_values, ragged
from pluralign.distributions import RewardDistribution
from pluralign.errors import ArgumentError, DataError
from pluralign.heads import Attribute, Head
from pluralign.model.recalibration import Draws, Recalibration
from pluralign.model.temperature import Temperature

if TYPE_CHECKING:
    import datasets

__all__ = ["check_rated_attributes", "recalibrations", "temperature_of"]

_AT_ONCE = 65_536  # ratings whose distributions are held at a time


def recalibrations(
    head: Head,
    ratings: datasets.Dataset,
    response: Tensor,
    item: NDArray[np.int64],
    *,
    attributes: Sequence[str] | None,
    fewest: int,
    seed: int,
) -> dict[str, Recalibration]:
    """One for each attribute.

    Args:
        head: whose predictions are corrected.
        ratings: N canonical rows.
        response: [M, D], vectors of the distinct texts.
        item: [N], which text each row has.
        attributes: those to correct; None for all.
        fewest: number of groups that an attribute needs.
        seed: of the spreading and of the randomised PIT.

    Raises:
        ArgumentError: an attribute without distributions, without ratings, or with too few groups.
        DataError: an attribute that the model does not have, or ratings on another scale.
    """
    known = {a.name: a for a in head.attributes}
    selected = list(known) if attributes is None else list(dict.fromkeys(attributes))
    unknown = [name for name in selected if name not in known]
    if unknown or not selected:
        raise ArgumentError(
            f"attributes: received {', '.join(unknown) or 'none'}; this {head.family} model rates "
            f"{', '.join(known) or 'nothing: it was fitted on preferences, which have no scale to calibrate'}"
        )
    names = np.asarray(column_values(ratings, "attribute"), dtype=object)
    check_rated_attributes(head, ratings)
    lacking = [name for name in selected if not (names == name).any()]
    if lacking:
        raise ArgumentError(
            f"there are no ratings of {', '.join(lacking)} to calibrate on; pass ratings of every attribute, "
            f"or name those to calibrate with attributes={sorted(set(selected) - set(lacking))!r}"
        )
    _, group = np.unique(np.asarray(column_values(ratings, "group"), dtype=object), return_inverse=True)
    given, predicted = ragged(ratings, "ratings"), head.attribute_distributions(response)
    found = {}
    for name in selected:
        if predicted[name].is_point:
            raise ArgumentError(
                f"this {head.family} model predicts one number per text for {name}, which has no spread to "
                "calibrate; fit a family that predicts how raters differ"
            )
        rows = np.flatnonzero(names == name)
        own = given[rows]
        text, of_group = (np.repeat(column[rows], own.sizes) for column in (item, group))
        draws = _draws(head, known[name], predicted[name], text, own.values, of_group, seed)
        try:
            found[name] = Recalibration.fitted(draws, fewest)
        except ArgumentError as error:
            raise ArgumentError(f"{name}: {error}") from None
    return found


@torch.no_grad()
def temperature_of(
    head: Head,
    comparisons: datasets.Dataset,
    first: RewardDistribution,
    second: RewardDistribution,
    *,
    fewest: int,
) -> Temperature:
    """The temperature of the head's probabilities of votes, if it knows ties and votes are given, else of its
    probabilities of a preference, a tie as half a vote for each side.

    Args:
        head: whose probabilities are corrected.
        comparisons: N canonical pairs or votes.
        first: [N], of the chosen sides, or of a.
        second: [N], of the others.
        fewest: number of groups that are needed.

    Raises:
        ArgumentError: there are too few groups, or every pair has equal sides or probabilities.
    """
    given = _shares(comparisons)
    sides = ("chosen", "rejected") if "chosen" in comparisons.column_names else ("response_a", "response_b")
    one, other = (column_values(comparisons, side) for side in sides)
    differ = torch.tensor([a != b for a, b in zip(one, other, strict=True)])
    if not bool(differ.any()):
        raise ArgumentError("every comparison has two equal sides, which say nothing; pass others")
    groups = {g for g, kept in zip(column_values(comparisons, "group"), differ.tolist(), strict=True) if kept}
    counts = {"groups": len(groups), "rows": int(differ.sum()), "fewest": fewest}
    votes = head.vote_probabilities(first, second) if given.shape[1] == 3 else None
    if votes is not None:
        return Temperature.fitted("votes", votes.cpu()[differ], given[differ], **counts)
    if given.shape[1] == 3:
        given = torch.stack([given[:, 0] + given[:, 1] / 2, given[:, 2] + given[:, 1] / 2], 1)
    chosen = head.preference_probability(first, second).cpu()
    return Temperature.fitted(
        "preferences", torch.stack([chosen, 1 - chosen], 1)[differ], given[differ], **counts
    )


def _shares(comparisons: datasets.Dataset) -> Tensor:
    """[N, 3] shares of the votes for a, tie and b; of pairs [N, 2], their weights and 0."""
    if "votes" not in comparisons.column_names:
        weight = torch.ones(len(comparisons), dtype=torch.float64)
        if "weight" in comparisons.column_names:
            weight = torch.tensor(column_values(comparisons, "weight"), dtype=torch.float64)
        return torch.stack([weight, torch.zeros_like(weight)], 1)
    given = ragged(comparisons, "votes")
    row = np.repeat(np.arange(len(comparisons)), given.sizes)
    counts = [np.bincount(row, given.values == vote, len(comparisons)) for vote in (1, 0, -1)]
    return torch.from_numpy(np.stack(counts, 1) / given.sizes[:, None])


def check_rated_attributes(head: Head, ratings: datasets.Dataset) -> None:
    """Raises unless every rating is of an attribute of the head, on its scale; a head without any takes all.

    Raises:
        DataError: an attribute that the model was not fitted on, or ratings on another scale.
    """
    known = {a.name: a for a in head.attributes}
    if not known:
        return
    low, high = ragged(ratings, "scale").values.reshape(-1, 2).T.tolist()
    for name, least, most in dict.fromkeys(zip(column_values(ratings, "attribute"), low, high, strict=True)):
        if name not in known:
            raise DataError(
                f"attribute {name!r} is rated in this data, but the model was fitted on {', '.join(known)}; "
                f"select rows with where, or fit the model on this attribute"
            )
        if (least, most) != (known[name].low, known[name].high):
            raise DataError(
                f"attribute {name!r} is rated from {least:g} to {most:g} here, but the model was fitted on "
                f"{known[name].low:g} to {known[name].high:g}; convert the ratings to that scale"
            )


@torch.no_grad()
def _draws(
    head: Head,
    attribute: Attribute,
    predicted: RewardDistribution,
    text: NDArray[np.int64],
    values: NDArray[np.float64],
    groups: NDArray[np.int64],
    seed: int,
) -> Draws:
    """Where each rating lies in the distribution of its text."""
    generator = np.random.default_rng([seed, *attribute.name.encode()])
    noise = generator.random(len(values))
    categories = head.categories_of(attribute.name)
    if attribute.step is not None and categories is None:
        values = values + attribute.step * (generator.random(len(values)) - 0.5)
    below, at_most, beyond = (np.zeros(len(values)) for _ in range(3))
    for start in range(0, len(values), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        own = predicted[torch.from_numpy(text[part])].to("cpu", torch.float64)
        y = torch.from_numpy(values[part])[:, None]
        masses = own.point_masses()
        if categories is not None and masses is not None:
            y = masses[0].gather(1, categories.places(y))
        below[part], at_most[part] = own.cdf_left(y)[:, 0].numpy(), own.cdf(y)[:, 0].numpy()
        if masses is None:
            beyond[part] = _beyond(own, y[:, 0]).numpy()
    discrete = predicted.point_masses() is not None
    return Draws(below, at_most, noise, beyond, groups, predicted.tail_masses, discrete)


def _beyond(distribution: RewardDistribution, value: Tensor) -> Tensor:
    """How far values lie outside the range of their distributions; 0 if the range is infinite."""
    low, high = distribution.tail_masses
    found = torch.zeros_like(value)
    if low:
        found = found + (value - distribution.quantile(0.0)).clamp(max=0)
    if high:
        found = found + (value - distribution.quantile(1.0)).clamp(min=0)
    return found
