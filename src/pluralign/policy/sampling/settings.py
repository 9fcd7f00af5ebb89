"""Sampling from a policy: settings, completions, and the interface of all samplers.

A sampler returns N completions for each prompt: `local` with transformers in this process, `server` from a
server over HTTP. `stage` stores the completions.

Each completion has its own seed, derived from the run's seed, its prompt and its number. So the order of
prompts, batching and resuming do not change completions.
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
    """Settings that determine the completions, besides the model and the prompts.

    Quantile rewards are ranks under the reference policy, so temperature and top_p are 1 unless the reference
    is another distribution.

    Attributes:
        completions: Completions per prompt, N.
        max_new_tokens: Maximum number of tokens of a completion, including its end token.
        temperature: Divides the logits; 1 samples from the model itself.
        top_p: Sample from the smallest set of tokens with this probability; 1 for all tokens.
        seed: Random seed.
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
        text: the text without special tokens; "" if the first token was the end token.
        num_tokens: number of sampled tokens, including the end token.
        cut_off: whether it reached the token limit before its end.
        token_ids: the sampled tokens, including the end token, if the sampler knows them; not part of
            comparisons.
    """

    text: str
    num_tokens: int
    cut_off: bool
    token_ids: tuple[int, ...] | None = field(default=None, compare=False, repr=False)


class Sampler(Protocol):
    """Anything that samples completions of prompts."""

    def describe(self) -> dict[str, Any]:
        """The properties of the sampler that determine the completions: JSON types, machine-independent."""
        ...

    def check(self, prompts: Sequence[Prompt], settings: SamplingSettings) -> None:
        """Called once with all prompts before the first is sampled, so that problems are found early.

        Raises:
            DataError: prompts are too long for the model.
        """
        ...

    def sample(self, prompts: Sequence[Prompt], settings: SamplingSettings) -> list[list[Completion]]:
        """N completions of each prompt, in the order of the prompts."""
        ...


def check_lengths(lengths: Sequence[int], limit: int | None, settings: SamplingSettings) -> None:
    """Raises if a prompt and its completion may not fit into the model.

    Args:
        lengths: tokens of each prompt.
        limit: number of positions of the model; None if it is unknown.
        settings: settings with the maximum length of completions.

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
    """A name of the prompt derived from its content: 16 hexadecimal digits.

    >>> prompt_key([{"role": "user", "content": "Hello"}])
    '2230da7da8c97b94'
    """
    content = json.dumps([[m["role"], m["content"]] for m in prompt], ensure_ascii=True)
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def completion_seed(seed: int, prompt: Prompt, index: int) -> int:
    """The seed of one completion, in [0, 2^63).

    Args:
        seed: seed of the run.
        prompt: messages.
        index: number of the completion, from 0.
    """
    return text_seed(f"{seed}:{prompt_key(prompt)}:{index}")
