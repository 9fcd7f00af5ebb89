"""Surface features of a text that a pooled vector loses: repetition, punctuation, how it ends.

In: a text. Out: `len(COLUMNS)` numbers, all finite and of moderate size.
Words are runs of letters and digits in any script; in a script that does not separate words they are few and
long.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["COLUMNS", "surface"]

COLUMNS = (
    "repeated_words",
    "repeated_trigrams",
    "word_length",
    "sentence_length",
    "commas",
    "capitals",
    "digits",
    "unfinished",
)

_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"[.!?…。！？]+(?=\s|$)|[。！？]|\n+")
_ENDS = re.compile(r"[.!?…。！？][\"'”’»)\]\s]*$")


def surface(texts: Sequence[str]) -> Float[Tensor, "N S"]:
    """Surface columns of texts, in the order of `COLUMNS`.

    Repeated words and trigrams: the share that occurred before in the text, ignoring case. Word
    length in characters and sentence length in words: log(1 + mean). Commas per word. Capitals: share of
    the letters. Digits: share of the characters. Unfinished: 1 if the text does not end with a sentence mark.

    Args:
        texts: N texts; an empty one has zeros and counts as unfinished.

    Returns:
        `[N, S]`, float32.
    """
    known = {text: _columns(text) for text in dict.fromkeys(texts)}
    return torch.tensor([known[text] for text in texts], dtype=torch.float32).reshape(-1, len(COLUMNS))


def _columns(text: str) -> list[float]:
    words = _WORD.findall(text.lower())
    letters = [c for c in text if c.isalpha()]
    num_words, num_sentences = max(len(words), 1), max(len(_SENTENCE_END.findall(text.strip())), 1)
    return [
        _repeated(words),
        _repeated(list(zip(words, words[1:], words[2:], strict=False))),
        math.log1p(sum(map(len, words)) / num_words),
        math.log1p(len(words) / num_sentences),
        sum(text.count(mark) for mark in ",;、，") / num_words,
        sum(c.isupper() for c in letters) / max(len(letters), 1),
        sum(c.isdigit() for c in text) / max(len(text), 1),
        float(_ENDS.search(text) is None),
    ]


def _repeated(items: Sequence[object]) -> float:
    return 1 - len(set(items)) / len(items) if items else 0.0
