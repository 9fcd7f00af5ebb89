"""Everything that the page shows of a prediction, as plain numbers: ranking, curves, variances, attributes,
personas.

In: a `Prediction` and a risk measure. Out: dictionaries and lists for templates, charts and exports.

Notation: N responses, numbered from 1; X points of the curves.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pluralign import risk
from pluralign.distributions import RewardDistribution
from pluralign.errors import ArgumentError, PluralignWarning, RiskError
from pluralign.model.scorer import member_spreads, utilities
from pluralign.server.explorer.choices import choice_of
from pluralign.server.explorer.facts import Facts
from pluralign.server.kept import Prediction
from pluralign.smoothed_density import smoothed_density

__all__ = ["LEVELS", "MOST_CURVES", "along", "density", "ranks", "seen"]

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST_CURVES = 12  # responses with a curve; more are shown as intervals
_POINTS = 161
_SMOOTHING = 0.012  # standard deviation of the drawing kernel, as a share of the scale
_TIE = 1e-6  # of the larger utility, or of 1: rounding of single precision
_STEPS = 21
_MOST_SHARES = 12
_COMPARED = ("mean", "median", "quantile:0.1", "cvar:0.1", "cvar:0.25", "entropic:1", "worst_case", "uwo:1")

Blocks = Sequence[RewardDistribution]


@torch.no_grad()
def seen(prediction: Prediction, measure: risk.RiskMeasure, facts: Facts) -> dict[str, Any]:
    """All that is shown.

    Args:
        prediction: of N responses to one prompt.
        measure: that ranks them.
        facts: of the model.

    Raises:
        RiskError: the measure does not apply to this model.
        ArgumentError: a utility is not finite.
    """
    blocks = prediction.reward
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", PluralignWarning)
        found = utilities_of(blocks, measure)
        notes = [str(one.message) for one in told if issubclass(one.category, PluralignWarning)]
        return _all_of_it(prediction, measure, facts, found) | {"notes": list(dict.fromkeys(notes))}


def _all_of_it(
    prediction: Prediction, measure: risk.RiskMeasure, facts: Facts, found: list[float]
) -> dict[str, Any]:
    blocks = prediction.reward
    columns: dict[str, list[Any]] = {
        "utility": found,
        "rank": ranks(found),
        "mean": _numbers(blocks, lambda d: d.mean()),
        "std": _numbers(blocks, lambda d: d.std()),
        "quantiles": _numbers(blocks, lambda d: d.quantile(torch.tensor(LEVELS, dtype=d.dtype))),
        "below_average": _numbers(blocks, lambda d: d.cdf_left(0.0)),
        **_spreads(blocks),
        "truncated": list(prediction.truncated),
    }
    count = len(found)
    rows = [{"number": i + 1} | {name: column[i] for name, column in columns.items()} for i in range(count)]
    is_point = all(block.is_point for block in blocks)
    order = sorted(range(count), key=lambda i: (columns["rank"][i], i))
    drawn = sorted(order[:MOST_CURVES])
    return {
        "risk": str(measure),
        "in_units_of_reward": measure.equivariant,
        "is_point": is_point,
        "has_members": "within_std" in columns,
        "levels": list(LEVELS),
        "order": [i + 1 for i in order],
        "responses": rows,
        "curves": None if is_point else density(_rows(blocks, drawn)) | {"numbers": [i + 1 for i in drawn]},
        "along": None if is_point else along(_rows(blocks, drawn), measure, [i + 1 for i in drawn]),
        "winners": [] if is_point or count == 1 else _winners(blocks),
        "attributes": _attributes(prediction.attributes, facts),
        "gate": _gate(prediction.gate, facts),
        "personas": _personas(prediction.personas),
    }


def utilities_of(blocks: Blocks, measure: risk.RiskMeasure) -> list[float]:
    """The measure of each response, N of them; errors as in `seen`."""
    return _numbers(blocks, lambda block: utilities(measure, block))


def ranks(values: Sequence[float]) -> list[int]:
    """1 for the largest; those that are equal up to rounding of single precision share the better rank.

    >>> ranks([0.5, 2.0, 0.5])
    [2, 1, 2]
    """
    return [
        1 + sum(other - one > _TIE * max(1.0, abs(one), abs(other)) for other in values) for one in values
    ]


def _best(values: Sequence[float]) -> list[int]:
    """The places of rank 1."""
    top = max(values)
    return [i for i, one in enumerate(values) if top - one <= _TIE * max(1.0, abs(one), abs(top))]


def density(blocks: Blocks) -> dict[str, Any]:
    """The curve of each response: probability per unit of reward, smoothed a little so that atoms show.

    Returns:
        `x`, X points that all responses share; `curves`, N lists of X values, whose integral is 1 but for
        what lies outside.
    """
    ends = torch.cat([d.quantile(torch.tensor([0.005, 0.995], dtype=d.dtype)).double().cpu() for d in blocks])
    low, high = min(0.0, float(ends.min())), max(0.0, float(ends.max()))
    margin = 0.06 * (high - low) or 1.0
    x = np.linspace(low - margin, high + margin, _POINTS)
    curves: list[list[float]] = []
    for block in blocks:

        def cdf(edges: npt.NDArray[np.float64], block: RewardDistribution = block) -> npt.NDArray[np.float64]:
            points = torch.from_numpy(edges).to(block.device, block.dtype).expand(len(block), -1)
            return np.asarray(block.cdf(points).double().cpu().numpy())

        curves += smoothed_density(cdf, x, _SMOOTHING).tolist()
    return {"x": x.tolist(), "curves": curves}


def along(blocks: Blocks, measure: risk.RiskMeasure, numbers: Sequence[int]) -> dict[str, Any] | None:
    """The utility of each response over the range of the measure's parameter; None without a parameter.

    Args:
        blocks: of the responses to show.
        measure: whose parameter varies.
        numbers: of the responses.
    """
    choice = choice_of(measure.name) if not isinstance(measure, risk.Nested) else None
    if choice is None or not choice.has_parameter:
        return None
    now = float(str(measure).partition(":")[2])
    low, high = min(choice.low, now), max(choice.high, now)
    inner = [low + (high - low) * i / (_STEPS - 1) for i in range(1, _STEPS - 1)]
    at = [low, *inner, high]  # the ends are exact: beyond them the measure may not apply
    try:
        found = [utilities_of(blocks, risk.parse(f"{measure.name}:{value!r}")) for value in at]
    except (RiskError, ArgumentError):  # somewhere it overflows
        return None
    return {
        "measure": measure.name,
        "parameter": choice.parameter,
        "now": now,
        "at": at,
        "numbers": list(numbers),
        "utilities": [list(one) for one in zip(*found, strict=True)],
    }


def _winners(blocks: Blocks) -> list[dict[str, Any]]:
    """Which response comes first by the usual measures, those that apply."""
    found = []
    for name in _COMPARED:
        try:
            values = utilities_of(blocks, risk.parse(name))
        except (RiskError, ArgumentError):
            continue
        first = [place + 1 for place in _best(values)]
        found.append({"risk": name, "first": first, "utility": max(values)})
    return found


def _spreads(blocks: Blocks) -> dict[str, list[float]]:
    """Standard deviations within and between members; nothing where there are no two members."""
    found = [member_spreads(block) for block in blocks]
    if not all(found):
        return {}
    return {name: [value for one in found for value in one[name]] for name in found[0]}


def _attributes(found: Mapping[str, RewardDistribution], facts: Facts) -> list[dict[str, Any]]:
    """Each attribute on the scale of its ratings, with the share of people per rating where these are few."""
    listed = []
    for scale in facts.attributes:
        if scale.name not in found:
            continue
        distribution = found[scale.name]
        masses = distribution.point_masses()
        shares = labels = None
        if masses is not None and 1 < masses[0].shape[1] <= _MOST_SHARES:
            atoms, probs = masses
            if bool((atoms == atoms[:1]).all()):
                numbers = [f"{atom:.10g}" for atom in atoms[0].tolist()]
                labels = list(scale.categories) if len(scale.categories) == len(numbers) else numbers
                shares = probs.tolist()
        levels = torch.tensor(LEVELS, dtype=distribution.dtype)
        columns = {
            "mean": distribution.mean().tolist(),
            "std": distribution.std().tolist(),
            "quantiles": distribution.quantile(levels).tolist(),
        } | ({} if shares is None else {"shares": shares})
        listed.append(
            {
                "name": scale.name,
                "low": scale.low,
                "high": scale.high,
                "labels": labels,
                "responses": [
                    {name: values[i] for name, values in columns.items()} for i in range(len(distribution))
                ],
            }
        )
    return listed


def _gate(weights: Tensor | None, facts: Facts) -> list[dict[str, Any]] | None:
    """The attributes' weights for the prompt, the largest first; None where the gate is not in use."""
    if weights is None:
        return None
    names = [scale.name for scale in facts.attributes]
    found = [{"name": n, "weight": w} for n, w in zip(names, weights[0].tolist(), strict=True)]
    return sorted(found, key=lambda one: -float(str(one["weight"])))


def _personas(found: Mapping[str, Blocks]) -> list[dict[str, Any]]:
    """The rewards that each persona gives the responses, and which it likes best.

    A persona objects where its own mean is below 0, the mean of the responses that its model was scaled on:
    the response is then worse than the average one.
    """
    listed = []
    for name, blocks in found.items():
        means = _numbers(blocks, lambda d: d.mean())
        below = _numbers(blocks, lambda d: d.cdf_left(0.0))
        listed.append(
            {
                "name": name,
                "favourites": [i + 1 for i in _best(means)],
                "responses": [
                    {"mean": m, "below_average": b, "objects": m < 0}
                    for m, b in zip(means, below, strict=True)
                ],
            }
        )
    return listed


def _numbers(blocks: Blocks, function: Callable[[RewardDistribution], Tensor]) -> list[Any]:
    """What a function returns for each row of all blocks."""
    return [value for block in blocks for value in function(block).tolist()]


def _rows(blocks: Blocks, places: Sequence[int]) -> list[RewardDistribution]:
    """Some rows, in ascending order, in as few blocks as there were."""
    found, start = [], 0
    for block in blocks:
        inside = [place - start for place in places if start <= place < start + len(block)]
        if inside:
            found.append(block[inside])
        start += len(block)
    return found
