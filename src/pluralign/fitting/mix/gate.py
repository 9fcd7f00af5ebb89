"""Trains a gate: from pairs to weights of attributes, with the heads frozen.

    minimise  mean_i w_i softplus(-scale * sum_a g_a(x_i) (r_a(chosen_i) - r_a(rejected_i)))

In: prompts' vectors and differences of debiased mean rewards, chosen minus rejected. Out: a gate, and a
summary of its training. The mean of the mix is linear in the weights, so heads are evaluated once and a step
costs one pass of the gate.

Training starts at equal weights, or at the single set of weights for all prompts that fits best
(`gate_start`) if that is better on the pairs of held-out groups, and keeps the state that is best on those,
so that the gate is never worse there than either.

Paper: Wang et al. 2024 (ArmoRM), arXiv 2406.12845, section 3.2 and its published code; held-out selection,
the start and the prompts' scaling are this project's.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.errors import GateWarning
from pluralign.fitting.mix.config import MixConfig
from pluralign.fitting.mix.gate_start import best_constant_weights, scale_of_equal_weights
from pluralign.fitting.train.loop import Schedule, train
from pluralign.fitting.train.search import fold_of
from pluralign.fitting.train.state import TrainingState
from pluralign.heads import ColumnScaling, Gate, GateShape
from pluralign.losses import bradley_terry

__all__ = ["GatePairs", "entropy", "train_gate"]

UNIFORM = 0.99  # above this share of the largest entropy, a gate is as good as none


@dataclass(frozen=True)
class GatePairs:
    """Pairs as input of a gate.

    Attributes:
        prompt: [P, W], the prompts' vectors.
        difference: [P, A], mean rewards of the chosen minus the rejected response, on the [0, 1] scale.
        weight: [P], not negative.
        groups: [P].
    """

    prompt: Float[Tensor, "P W"]
    difference: Float[Tensor, "P A"]
    weight: Float[Tensor, " P"]
    groups: Sequence[str]

    def __getitem__(self, rows: Tensor) -> GatePairs:
        return GatePairs(
            self.prompt[rows],
            self.difference[rows],
            self.weight[rows],
            [self.groups[i] for i in rows.tolist()],
        )

    def to(self, device: torch.device) -> GatePairs:
        """The same pairs on a device."""
        return GatePairs(
            self.prompt.to(device), self.difference.to(device), self.weight.to(device), self.groups
        )


def train_gate(
    pairs: GatePairs,
    config: MixConfig,
    *,
    seed: int = 0,
    state: TrainingState | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[Gate, dict[str, Any]]:
    """Trains a gate on pairs.

    Args:
        pairs: at least two; some difference must not be 0.
        config: architecture and optimiser.
        seed: of held-out groups, first weights, batches and dropout; the same seed gives the same gate.
        state: where the training state is saved after each evaluation, so that an interruption costs little.
        report: called with a line per evaluation.

    Returns:
        The gate with the best evaluation, in evaluation mode and frozen; and a summary, serialisable as JSON.
        Without a second group nothing is held out, and the gate of the last step is returned.

    Warns:
        GateWarning: a loss was not finite, or training ended with nearly equal weights.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    fitted, held_out = (part.to(device) for part in _split(pairs, seed))
    gate = _new_gate(fitted, config, seed).to(device)
    evaluated = held_out if len(held_out.weight) else fitted
    constant = _at_constant_weights(gate, fitted) if config.gate_scale is None else gate
    loss_of_equal, loss_of_constant = _loss_on(gate, evaluated), _loss_on(constant, evaluated)
    gate = constant if loss_of_constant < loss_of_equal else gate
    summary = train(
        gate,
        lambda rows: _loss(gate, fitted.prompt[rows], fitted.difference[rows], fitted.weight[rows]),
        torch.arange(len(fitted.weight), device=device),
        Schedule(
            lr=config.gate_lr,
            steps=config.gate_steps,
            batch=config.gate_batch,
            weight_decay=config.gate_weight_decay,
            eval_every=config.gate_eval_every,
            patience=config.gate_patience,
        ),
        evaluate=(lambda: _loss_on(gate, held_out)) if evaluated is held_out else None,
        after_step=lambda: gate.scale.clamp_(min=1e-6),  # a negative scale would reverse every attribute
        seed=seed,
        state=state,
        report=report,
        name="gate",
        warning=GateWarning,
        advice="A smaller gate_lr may help.",
    )
    summary = {"trained": True, "pairs": len(pairs.weight), "held_out_pairs": len(held_out.weight)} | summary
    summary |= {
        "loss": summary["loss"] if evaluated is held_out else _loss_on(gate, fitted),
        "loss_of_equal_weights": loss_of_equal,
        "loss_of_constant_weights": loss_of_constant,
        "scale": float(gate.scale),
    }
    return gate.cpu(), summary | _weights_summary(gate, pairs)


def entropy(weights: Float[Tensor, "N A"]) -> Float[Tensor, " N"]:
    """Entropy of each row in nats; log A for equal weights, 0 if one attribute has all the weight."""
    nats: Tensor = -torch.special.xlogy(weights, weights).sum(-1)
    return nats


def _split(pairs: GatePairs, seed: int) -> tuple[GatePairs, GatePairs]:
    """Pairs to train on and pairs of held-out groups; none are held out if there is only one group."""
    if len(set(pairs.groups)) < 2:
        return pairs, pairs[torch.zeros(0, dtype=torch.int64)]
    held_out = fold_of(pairs.groups, seed, what="the gate") == 0
    return pairs[torch.nonzero(~held_out)[:, 0]], pairs[torch.nonzero(held_out)[:, 0]]


def _new_gate(train: GatePairs, config: MixConfig, seed: int) -> Gate:
    shape = GateShape(
        width=train.prompt.shape[1],
        num_attributes=train.difference.shape[1],
        hidden=config.gate_hidden,
        layers=config.gate_layers,
        regularisation=config.gate_regularisation,
        dropout=config.gate_dropout,
        temperature=config.gate_temperature,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gate = Gate(shape, ColumnScaling.fitted(train.prompt).cpu())
    with torch.no_grad():
        first = config.gate_scale
        gate.scale.fill_(scale_of_equal_weights(train.difference, train.weight) if first is None else first)
    return gate


def _at_constant_weights(gate: Gate, train: GatePairs) -> Gate:
    """A copy with the single set of weights that fits all pairs best for every prompt."""
    weights, scale = best_constant_weights(train.difference, train.weight, float(gate.scale.detach()))
    constant = copy.deepcopy(gate)
    with torch.no_grad():
        constant.out.bias.copy_(gate.shape.temperature * weights.log())
        constant.scale.fill_(scale)
    return constant


def _loss(gate: Gate, prompt: Tensor, difference: Tensor, weight: Tensor) -> Tensor:
    margin = gate.scale * (gate(prompt) * difference).sum(-1)
    return (weight * bradley_terry(margin, torch.zeros_like(margin))).sum() / weight.sum()


@torch.no_grad()
def _loss_on(gate: Gate, pairs: GatePairs) -> float:
    gate.eval()
    return float(_loss(gate, pairs.prompt, pairs.difference, pairs.weight))


@torch.no_grad()
def _weights_summary(gate: Gate, pairs: GatePairs) -> dict[str, Any]:
    """Entropy and mean weights over the distinct prompts."""
    weights = gate.cpu()(torch.unique(pairs.prompt.cpu(), dim=0))
    nats = float(entropy(weights).mean())
    share = nats / math.log(weights.shape[1])
    if share > UNIFORM:
        warnings.warn(
            f"the gate gives nearly equal weights for every prompt (entropy {share:.1%} of the largest): the "
            "pairs do not show which attribute matters where, or the prompts' vectors do not predict it",
            GateWarning,
            stacklevel=3,
        )
    return {"entropy": nats, "entropy_share": share, "mean_weights": weights.mean(0).tolist()}
