"""Everything that determines an embedding: weights, tokens, pooling and precision.

In: names and numbers. Out: a frozen `BackboneConfig`, the part of a backbone that a reward model stores
and that keys the embedding cache. Where the model runs (device, threads, attention kernel) is not included:
that changes vectors only by rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

from pluralign.checks import check_choice
from pluralign.errors import ConfigError

__all__ = ["CONTEXTS", "CONVERSATION_FORMAT", "DTYPES", "POOLINGS", "QUANTIZATIONS", "BackboneConfig"]

# How whole conversations become tokens; raised when that changes, so that a model that was fitted on the old
# vectors is refused rather than given others. 1: with what a template writes after the end of a turn.
CONVERSATION_FORMAT = 2

POOLINGS = ("last", "mean", "last_mean")
CONTEXTS = ("response", "pair", "conversation")
DTYPES = ("float32", "bfloat16", "float16")
QUANTIZATIONS = ("4bit", "8bit")


@dataclass(frozen=True)
class BackboneConfig:
    """The part of a backbone that changes its embeddings.

    Attributes:
        name_or_path: hub id, folder, or `"minilm"`.
        revision: commit of the hub repository; None for folders.
        pooling: how the states of the response's tokens become one vector: `last` (the state of the last
            token), `mean`, or `last_mean` (both, one after the other).
        context: the input that contains the response. Encoders: `response` (alone) or `pair` (prompt and
            response as a text pair). Decoders: `conversation` (prompt, then response, in one pass).
        dtype: precision of the weights and states. Vectors are always pooled and returned in float32.
        max_length: maximum tokens of the model's input, special tokens included.
        quantization: `4bit` or `8bit` weights (bitsandbytes), or None.
        length: whether the response's vector ends with log(1 + its number of tokens). A mean over tokens
            loses their number, on which some ratings mostly depend (error counts).
        surface: whether the response's vector also has the columns of `surface.COLUMNS`: repetition,
            punctuation, how the text ends. A pooled vector hardly contains them, but raters see them at once.
    """

    name_or_path: str
    revision: str | None
    pooling: str
    context: str
    dtype: str
    max_length: int
    quantization: str | None = None
    length: bool = False
    surface: bool = False

    def __post_init__(self) -> None:
        check_choice("pooling", self.pooling, POOLINGS)
        check_choice("context", self.context, CONTEXTS)
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("quantization", self.quantization, (None, *QUANTIZATIONS))
        if self.max_length < 8:
            raise ConfigError(f"max_length is {self.max_length}; a text needs at least 8 tokens")
