"""Options for debiasing, gating and mixing attributes. Imports nothing heavy.

The field documentation is printed by `pluralign fit --help`. Defaults of the gate are those of ArmoRM's
published code, except where marked as ours.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

from pluralign.checks import check_choice, check_number
from pluralign.errors import ConfigError, RenamedWarning

__all__ = ["MixConfig"]


@dataclass(frozen=True)
class MixConfig:
    """How attributes become one reward.

    Attributes:
        mix: vincentize averages quantile functions (QRM); mixture averages distribution functions.
        gate: Train a gate if there are pairs or votes and several attributes; false for equal weights.
        gate_hidden: Units of each hidden layer; published 1024.
        gate_layers: Hidden layers; 0 for a linear gate; published 3.
        gate_regularisation: What follows each ReLU: dropout (ArmoRM), batchnorm (QRM) or none.
        gate_dropout: Share of units dropped in training.
        gate_temperature: The softmax's; QRM-Llama3.1 uses 5.
        gate_scale: Start of the learnable scale after the softmax, published 1, with equal weights; null
            starts from the single set of weights for all prompts that fits the pairs best (ours).
        gate_lr: Learning rate of AdamW at the start of its cosine.
        gate_weight_decay: Weight decay of AdamW.
        gate_steps: Maximum number of steps.
        gate_batch: Pairs per step; published 1024.
        gate_eval_every: Steps between two evaluations on the held-out pairs (ours).
        gate_patience: Evaluations without a better held-out loss after which training stops (ours).
        debias: Bias variable that attributes should not follow: the name of an attribute, or the response's
            length in tokens or characters; null for none.
        debias_coupling: shift keeps the shape of distributions; parity subtracts level by level as published.
        debias_threshold: Largest Spearman correlation with the bias variable.
        gate_judge_every: Old name of gate_eval_every.
    """

    mix: Literal["vincentize", "mixture"] = "vincentize"
    gate: bool = True
    gate_hidden: int = 64
    gate_layers: int = 1
    gate_regularisation: Literal["dropout", "batchnorm", "none"] = "dropout"
    gate_dropout: float = 0.2
    gate_temperature: float = 10.0
    gate_scale: float | None = None
    gate_lr: float = 1e-3
    gate_weight_decay: float = 0.0
    gate_steps: int = 2000
    gate_batch: int = 256
    gate_eval_every: int = 10
    gate_patience: int = 10
    debias: str | None = None
    debias_coupling: Literal["shift", "parity"] = "shift"
    debias_threshold: float = 0.03
    gate_judge_every: int | None = None

    def __post_init__(self) -> None:
        if self.gate_judge_every is not None:
            warnings.warn("gate_judge_every is now gate_eval_every", RenamedWarning, stacklevel=3)
            object.__setattr__(self, "gate_eval_every", self.gate_judge_every)
            object.__setattr__(self, "gate_judge_every", None)
        check_choice("mix", self.mix, ("vincentize", "mixture"))
        check_choice("gate_regularisation", self.gate_regularisation, ("dropout", "batchnorm", "none"))
        check_choice("debias_coupling", self.debias_coupling, ("shift", "parity"))
        for name in ("gate_hidden", "gate_steps", "gate_eval_every", "gate_patience"):
            check_number(name, getattr(self, name), at_least=1)
        check_number("gate_batch", self.gate_batch, at_least=2)
        check_number("gate_layers", self.gate_layers, at_least=0)
        for name in ("gate_temperature", "gate_lr"):
            check_number(name, getattr(self, name), above=0)
        if self.gate_scale is not None:
            check_number("gate_scale", self.gate_scale, above=0)
        check_number("gate_weight_decay", self.gate_weight_decay, at_least=0)
        if not 0 <= self.gate_dropout < 1:
            raise ConfigError(f"gate_dropout = {self.gate_dropout}; allowed: at least 0 and below 1")
        if not -1 <= self.debias_threshold <= 1:
            raise ConfigError(
                f"debias_threshold = {self.debias_threshold}: a correlation in [-1, 1] is needed"
            )
