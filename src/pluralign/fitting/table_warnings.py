"""Warnings about the tables given to a fit: what it will ignore, and what it may misinterpret.

In: a family and its tables. Out: warnings. No table is changed or rejected.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from pluralign.data.table_columns import column_values
from pluralign.errors import CategoryWarning, PluralignWarning
from pluralign.families import FAMILIES, HEADS
from pluralign.fitting.tables.category_ratings import is_six
from pluralign.heads.base import Attribute
from pluralign.heads.categories import CATEGORY_ATTRIBUTE

if TYPE_CHECKING:
    from pluralign.fitting.tables.inputs import Inputs

__all__ = ["warn_about_tables"]


def warn_about_tables(family: str, inputs: Inputs) -> None:
    """Warns about votes that are ignored because of pairs, and about categories that would be read in
    reverse."""
    if inputs.pairs is not None and inputs.votes is not None:
        warnings.warn(
            "received pairs and votes: preferences (Bradley-Terry, the gate) are learned from the pairs "
            "alone; votes serve only a family that needs ratings and got none",
            PluralignWarning,
            stacklevel=3,
        )
    ratings = inputs.ratings
    if ratings is None or CATEGORY_ATTRIBUTE not in (attributes := column_values(ratings, "attribute")):
        return
    low, high = column_values(ratings, "scale")[attributes.index(CATEGORY_ATTRIBUTE)]
    six = is_six(Attribute(CATEGORY_ATTRIBUTE, low, high))
    reads_categories = HEADS[family].reads_categories
    if not reads_categories and six:
        readers = " or ".join(name for name in FAMILIES if HEADS[name].reads_categories)
        warnings.warn(
            f"ratings of {CATEGORY_ATTRIBUTE!r} from 0 to 5 are numbers of the six categories, 0 the best; "
            f"{family} treats them as ratings, where more is better. Fit them with the family {readers}",
            CategoryWarning,
            stacklevel=3,
        )
    elif reads_categories and not six:
        warnings.warn(
            f"{CATEGORY_ATTRIBUTE!r} is rated from {low:g} to {high:g}: treated as ratings, where more is "
            "better. The six categories are numbered from 0, the best, to 5, on the scale [0, 5]",
            CategoryWarning,
            stacklevel=3,
        )
