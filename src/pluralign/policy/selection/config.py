"""Settings of a selection. Nothing heavy is imported here: the command line shows their help."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from pluralign.errors import ConfigError

__all__ = ["Method", "SelectionConfig"]

Method = Literal["best", "top_k", "rejection", "threshold"]


@dataclass(frozen=True)
class SelectionConfig:
    """How completions are selected, and what is made of them.

    Attributes:
        method: best, the best completion of each prompt; top_k, its k best; rejection, statistical rejection
            sampling, which accepts with probability exp((u - max u) / beta); threshold, all that reach a
            threshold or belong to a share.
        pairs: Write preference pairs, not rows for supervised fine-tuning. The selected are paired with the
            worst of the others; after rejection, with each other.
        k: Completions of a prompt, for top_k; for rejection, repeat until so many are accepted, null for one
            round.
        beta: Temperature of rejection, in units of the utility.
        threshold: Lowest utility that is selected.
        share: Share of all completions of all prompts that is selected, as in RAFT, instead of a threshold.
        margin: The utilities of a pair differ by more than this.
        penalty: Weight c of the novelty in utility = reward - c * novelty.
        leave_out_cut_off: Do not select completions that hit the token limit, nor prefer anything to them.
        seed: Random seed.
    """

    method: Method = "best"
    pairs: bool = False
    k: int | None = None
    beta: float | None = None
    threshold: float | None = None
    share: float | None = None
    margin: float = 0.0
    penalty: float = 1.0
    leave_out_cut_off: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ConfigError(
                f"method must be one of {', '.join(get_args(Method))}; received {self.method!r}"
            )
        takes: dict[str, tuple[str, ...]] = {
            "k": ("top_k", "rejection"),
            "beta": ("rejection",),
            "threshold": ("threshold",),
            "share": ("threshold",),
        }
        for name, methods in takes.items():
            if getattr(self, name) is not None and self.method not in methods:
                raise ConfigError(f"{name} is for method {' and '.join(methods)}; method is {self.method}")
        if self.method == "top_k" and self.k is None:
            raise ConfigError("method top_k needs k, the number of completions of a prompt")
        if self.method == "rejection" and self.beta is None:
            raise ConfigError("method rejection needs beta, the temperature in units of the utility")
        if self.method == "threshold" and (self.threshold is None) == (self.share is None):
            raise ConfigError("method threshold needs either threshold or share")
        if self.k is not None and self.k < 1:
            raise ConfigError(f"k must be at least 1, received {self.k}")
        if self.beta is not None and not (self.beta > 0 and math.isfinite(self.beta)):
            raise ConfigError(f"beta must be positive and finite, received {self.beta}")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ConfigError(f"threshold must be finite, received {self.threshold}")
        if self.share is not None and not 0 < self.share <= 1:
            raise ConfigError(f"share must lie in (0, 1], received {self.share}")
        for name in ("margin", "penalty"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"{name} must be finite and at least 0, received {value}")
        if self.margin and not self.pairs:
            raise ConfigError("margin is for pairs; set pairs, or drop it")
