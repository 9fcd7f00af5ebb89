"""Messages of a categorical fit about its data and result: errors, warnings, and the mapping to categories.

In: the crowd's ratings by attribute, and the distance of the average prediction from them.
"""

from __future__ import annotations

import warnings

from torch import Tensor

from pluralign.errors import CategoryWarning, ConstantHeadWarning, DataError
from pluralign.fitting.categorical.config import CategoricalConfig
from pluralign.fitting.categorical.targets import CategoryRows, rewards_in_order
from pluralign.fitting.tables.category_ratings import is_six
from pluralign.fitting.tables.inputs import Inputs

__all__ = ["check_rows", "few_raters", "report_categories", "warn_about_gaps"]

FAR = 0.1  # total variation between two averages over all rows, which chance alone does not reach
ENOUGH_RATERS = 5  # from this number a crowd of 60 : 40 is learned correctly


def few_raters(raters: Tensor, config: CategoricalConfig) -> bool:
    """Whether transport would learn a distribution other than the crowd's, because there are too few
    raters."""
    return config.loss == "transport" and not config.smoothing and float(raters.median()) < ENOUGH_RATERS


def check_rows(rows: list[CategoryRows], config: CategoricalConfig) -> None:
    """Raises errors for options that the data does not allow, and warns about doubtful ones."""
    names = [part.attribute.name for part in rows]
    if config.cost == "two_axis" and not all(is_six(part.attribute) for part in rows):
        raise DataError(
            f"cost = 'two_axis' applies to votes on the six categories; these are ratings of "
            f"{', '.join(names)}"
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
            f"{counts} raters per response: with fewer than {ENOUGH_RATERS} the transport loss learns a more "
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
                "else, and the unit of reward is close to 0",
                ConstantHeadWarning,
                stacklevel=4,
            )
            continue
        unused = [name for name, used in zip(part.categories.names, chosen.tolist(), strict=True) if not used]
        if unused:
            warnings.warn(
                f"nobody chose {', '.join(map(repr, unused))} of {part.attribute.name}: the model's "
                "prediction for it is a guess",
                CategoryWarning,
                stacklevel=4,
            )


def warn_about_gaps(gaps: dict[str, float], config: CategoricalConfig) -> None:
    """Warns if the transport loss has lost a part of the crowd."""
    far = {name: gap for name, gap in gaps.items() if gap > FAR}
    if config.loss == "transport" and far:
        found = ", ".join(f"{name} by {gap:.0%}" for name, gap in far.items())
        warnings.warn(
            f"on average the model and the crowd differ: {found} of the votes. The transport loss follows "
            "the median of a few raters, so rare categories are lost; use loss = 'cross_entropy' or "
            "'rps'",
            CategoryWarning,
            stacklevel=5,
        )


def report_categories(inputs: Inputs, rows: CategoryRows) -> None:
    """Reports the mapping to categories, and how often each was chosen."""
    categories = rows.categories
    shares = rows.target.mean(0).tolist()
    listed = ", ".join(
        f"{name} = {reward:.3g} ({share:.1%})"
        for name, reward, share in zip(categories.names, categories.rewards, shares, strict=True)
    )
    inputs.report(f"{rows.attribute.name}: category = reward (share of the crowd): {listed}")
