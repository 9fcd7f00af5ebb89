"""What a categorical fit says of its data and of itself: errors, warnings, and the mapping written down.

In: what the crowd said by attribute, and how far the average prediction is from it. It does not train.
"""

from __future__ import annotations

import warnings

from torch import Tensor

from pluralign.errors import CategoryWarning, ConstantHeadWarning, DataError
from pluralign.fitting.categorical.config import CategoricalConfig
from pluralign.fitting.categorical.targets import CategoryRows, rewards_in_order
from pluralign.fitting.tables.category_ratings import is_six
from pluralign.fitting.tables.inputs import Inputs

__all__ = ["check_rows", "few_raters", "report_categories", "warn_of_gaps"]

FAR = 0.1  # total variation of two averages over all rows, which chance alone does not reach
ENOUGH_RATERS = 5  # from here on a crowd of 60 : 40 is learned as it is


def few_raters(raters: Tensor, config: CategoricalConfig) -> bool:
    """Whether transport would learn another distribution than the crowd's, because too few people rated."""
    return config.loss == "transport" and not config.smoothing and float(raters.median()) < ENOUGH_RATERS


def check_rows(rows: list[CategoryRows], config: CategoricalConfig) -> None:
    """What the data does not allow is an error, what it makes doubtful a warning."""
    names = [part.attribute.name for part in rows]
    if config.cost == "two_axis" and not all(is_six(part.attribute) for part in rows):
        raise DataError(
            f"cost = 'two_axis' is for votes on the six categories; these are ratings of {', '.join(names)}"
        )
    table = config.rewards
    if table is not None and all(rewards_in_order(part.categories.names, table) is None for part in rows):
        known = "; ".join(f"{part.attribute.name}: {', '.join(part.categories.names)}" for part in rows)
        raise DataError(
            f"rewards has {', '.join(table)}; needed: one reward for each category of an attribute, "
            f"by name or number from 0, of {known}"
        )
    few = [part for part in rows if few_raters(part.raters, config)]
    if few:
        counts = ", ".join(f"{part.attribute.name} has {float(part.raters.median()):g}" for part in few)
        warnings.warn(
            f"{counts} raters per response: with under {ENOUGH_RATERS} the transport loss learns a more "
            "extreme distribution than the crowd's. Use loss = 'cross_entropy' or 'rps', or smoothing = 0.1",
            CategoryWarning,
            stacklevel=4,
        )
    for part in rows:
        chosen = part.target.sum(0) > 0
        if int(chosen.sum()) == 1:
            (only,) = (
                name for name, used in zip(part.categories.names, chosen.tolist(), strict=True) if used
            )
            warnings.warn(
                f"every rating of {part.attribute.name} is {only!r}: the model will predict hardly anything "
                "else, and a unit of reward is next to nothing",
                ConstantHeadWarning,
                stacklevel=4,
            )
            continue
        unused = [name for name, used in zip(part.categories.names, chosen.tolist(), strict=True) if not used]
        if unused:
            warnings.warn(
                f"nobody chose {', '.join(map(repr, unused))} of {part.attribute.name}: what the model says "
                "of it is a guess",
                CategoryWarning,
                stacklevel=4,
            )


def warn_of_gaps(gaps: dict[str, float], config: CategoricalConfig) -> None:
    """A warning where the transport loss has lost a part of the crowd."""
    far = {name: gap for name, gap in gaps.items() if gap > FAR}
    if config.loss == "transport" and far:
        found = ", ".join(f"{name} by {gap:.0%}" for name, gap in far.items())
        warnings.warn(
            f"on average the model and the crowd differ: {found} of the votes. The transport loss follows "
            "the median of what few raters say, so rare categories get lost; use loss = 'cross_entropy' or "
            "'rps'",
            CategoryWarning,
            stacklevel=5,
        )


def report_categories(inputs: Inputs, rows: CategoryRows) -> None:
    """The mapping, written down, with how often each category was chosen."""
    categories = rows.categories
    shares = rows.target.mean(0).tolist()
    listed = ", ".join(
        f"{name} = {reward:.3g} ({share:.1%})"
        for name, reward, share in zip(categories.names, categories.rewards, shares, strict=True)
    )
    inputs.report(f"{rows.attribute.name}: category = reward (share of the crowd): {listed}")
