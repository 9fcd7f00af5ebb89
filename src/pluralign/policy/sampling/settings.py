"""What sampling from a policy means: settings, completions, and the seam that every sampler fits.

A sampler takes prompts and gives N completions of each; `sampling_local` does it with transformers in this
process, `sampling_server` asks a server over HTTP, `sampling_stage` stores what they give. Nothing here knows
about rewards or files.

Randomness belongs to a completion, not to a batch: each has its own seed, made of the run's seed, its prompt
and its number. So prompts may be reordered, batched and resumed at will.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pluralign.digests import text_seed
from pluralign.errors import ConfigError, DataError

__all__ = [
    "Completion",
    "Prompt",
    "Sampler",
    "SamplingSettings",
    "check_lengths",
    "completion_seed",
    "prompt_key",
]

Prompt = Sequence[Mapping[str, str]]  # messages, without the response


@dataclass(frozen=True)
class SamplingSettings:
    """What decides which completions are drawn, beside the model and the prompts.

    Quantile rewards are ranks under the reference policy itself, so temperature and top_p are 1 unless that
    is not the policy to stay close to.

    Attributes:
        completions: Completions per prompt, N.
        max_new_tokens: Most tokens of a completion, its end token included.
        temperature: Divides the logits; 1 samples from the model itself.
        top_p: Sample from the smallest set of tokens with this probability; 1 from all.
        seed: Of all draws.
    """

    completions: int = 8
    max_new_tokens: int = 1024
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("completions", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, received {getattr(self, name)}")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ConfigError(f"temperature must be positive and finite, received {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must lie in (0, 1], received {self.top_p}")
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, received {self.seed}")


@dataclass(frozen=True)
class Completion:
    """One sampled response.

    Attributes:
        text: without special tokens; "" where the model ended at once.
        num_tokens: tokens drawn, the end token included.
        cut_off: whether it hit the token limit before its end.
        token_ids: what was drawn, the end token included, where the sampler knows; it does not take part in
            comparisons.
    """

    text: str
    num_tokens: int
    cut_off: bool
    token_ids: tuple[int, ...] | None = field(default=None, compare=False, repr=False)


class Sampler(Protocol):
    """Something that answers prompts."""

    def describe(self) -> dict[str, Any]:
        """What of the sampler decides the completions: JSON-able, the same on every machine."""
        ...

    def check(self, prompts: Sequence[Prompt], settings: SamplingSettings) -> None:
        """Called once with all prompts before the first is sampled, so that nothing fails late.

        Raises:
            DataError: prompts are too long for the model.
        """
        ...

    def sample(self, prompts: Sequence[Prompt], settings: SamplingSettings) -> list[list[Completion]]:
        """N completions of each prompt, in the order of the prompts."""
        ...


def check_lengths(lengths: Sequence[int], limit: int | None, settings: SamplingSettings) -> None:
    """Raise where a prompt and its completion may not fit into the model.

    Args:
        lengths: tokens of each prompt.
        limit: positions of the model; None where it states none.
        settings: say how long completions may be.

    Raises:
        DataError: at least one does not fit.
    """
    if limit is None:
        return
    long = [row for row, length in enumerate(lengths) if length + settings.max_new_tokens > limit]
    if long:
        raise DataError(
            f"{len(long)} of {len(lengths)} prompts are too long: prompt {long[0]} has "
            f"{lengths[long[0]]} tokens, which with max_new_tokens={settings.max_new_tokens} exceeds the "
            f"model's {limit} positions. Lower max_new_tokens, or leave such prompts out"
        )


def prompt_key(prompt: Prompt) -> str:
    """A name of the prompt by its content: 16 hexadecimal digits.

    >>> prompt_key([{"role": "user", "content": "Hello"}])
    '2230da7da8c97b94'
    """
    content = json.dumps([[m["role"], m["content"]] for m in prompt], ensure_ascii=True)
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def completion_seed(seed: int, prompt: Prompt, index: int) -> int:
    """The seed of one completion, in [0, 2^63).

    Args:
        seed: of the run.
        prompt: messages.
        index: number of the completion, from 0.
    """
    return text_seed(f"{seed}:{prompt_key(prompt)}:{index}")
