"""The length from which on a model computes differently for all texts of a call: `switch_length`.

In: a configuration of transformers. Out: a number of tokens, or None.

The rotary embeddings of Phi 3 and its kin (`longrope`) take another set of frequencies as soon as one
position of a call lies beyond the length of the first training. So a text that is run beside a longer one has
another vector, and other log-probabilities, than alone; texts on the two sides of that length are kept in
calls of their own. (`dynamic` ones, which also remember earlier calls, change beyond the model's positions,
which no text may exceed.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["switch_length"]


def switch_length(config: Any) -> int | None:
    """Most tokens of a call up to which the model computes as for short texts; None for any number."""
    text = config.get_text_config()
    given = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    if not isinstance(given, Mapping):
        return None
    # Some models have parameters for each kind of layer.
    several = [one for one in given.values() if isinstance(one, Mapping)] or [given]
    lengths = [
        one.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", None)
        for one in several
        if (one.get("rope_type") or one.get("type")) == "longrope"
    ]
    return min((int(length) for length in lengths if length), default=None)
