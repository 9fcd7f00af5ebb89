"""Whether a model's attention works on blocks of tokens counted from the start of a row: `has_row_blocks`.

In: a configuration of transformers. Out: yes or no.

Sparse attention of DeepSeek V4, MiniMax M3 and others compresses or selects blocks of up to some hundred
tokens. The blocks of a text that does not start at the first token of its row, after another text or after
padding, are other blocks than those of the text alone, and may hold tokens of its neighbour. It does not show
in texts shorter than a block, which is why the configuration decides and not a short test.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["has_row_blocks"]

_BLOCKS = re.compile(r"(^|_)(compress_(rates?|ratios?)|(index_|sparse_)?block_size)$")


def has_row_blocks(config: Any) -> bool:
    """Whether attention counts blocks of tokens from the start of a row."""
    text = config.get_text_config()
    return any(_BLOCKS.search(name) and _longest(value) > 1 for name, value in vars(text).items())


def _longest(value: Any) -> int:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return max((_longest(one) for one in value), default=0)
    return value if isinstance(value, int) else 0
