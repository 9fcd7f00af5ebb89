"""How a model is run so that a text's vector depends on the text alone.

In and out: a `RunMode`, small and frozen. Which one is right for a model is found by `probe`; here is only
what there is to choose from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Fill", "RunMode"]

Fill = Literal["right", "left", "equal", "alone"]


@dataclass(frozen=True)
class RunMode:
    """One way to run a model over texts of different lengths.

    Attributes:
        fill: where shorter texts of a batch are filled up, `right` or `left`; `equal` runs only texts of
            equal length together, `alone` every text by itself. Both need no filling, and are slower.
        mask: whether the model is given an attention mask.
        positions: whether it is given position ids.
        share_prompts: whether a prompt that several texts begin with is run once.
    """

    fill: Fill
    mask: bool
    positions: bool
    share_prompts: bool
