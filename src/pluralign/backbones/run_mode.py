"""How a model is run so that a text's vector depends only on the text.

The right `RunMode` for a model is found by `probe`; this file only defines the options.
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
        fill: the side on which shorter texts are padded, `right` or `left`; `equal` runs only texts of
            equal length together, `alone` every text by itself. Those two need no padding, and are slower.
        mask: whether the model is given an attention mask.
        positions: whether it is given position ids.
        share_prompts: whether a prompt that several texts share is run once.
    """

    fill: Fill
    mask: bool
    positions: bool
    share_prompts: bool
