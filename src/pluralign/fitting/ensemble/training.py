"""Trains the members of an ensemble together, in one pass over the data.

    member m minimises  mean_i share_im loss_im  +  1/2 sum_j precision_mj (theta_mj - anchor_mj)^2

In: members, an objective that returns every member's loss for every row, penalties. Out: the members, trained
in place.

Members share rows, schedule and forward pass but no parameters, and Adam is elementwise, so that each is
trained as it would be alone: a search over penalties and folds, or five bootstrapped heads, are one training
run.

A prior over functions determines penalties and anchors together. A linear output with weights N(0, 1/(N l2))
has variance D/(N l2) at scaled embeddings; hidden layers get He's variance and outputs the same variance of
the function. With a start drawn from that prior, to which the penalty pulls back, the trained members are
samples from the posterior if the model is linear and Gaussian. The variance of a drawn function is capped at
1, that of the target, if a small l2 would allow more.

Notation: N rows, M members, D width, U hidden units, l2 the penalty on an output's weights.
Paper: Pearce et al. 2020 (anchored ensembling), arXiv 1810.05546, equation 9; the function-space scale of
hidden layers and balanced anchors are this project's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from jaxtyping import Float, Real
from torch import Tensor

from pluralign.errors import EnsembleWarning
from pluralign.fitting.train.loop import Rows, Schedule, train
from pluralign.fitting.train.state import TrainingState
from pluralign.heads.ensemble_members import Members

__all__ = ["Objective", "Penalty", "prior_precision", "start_at_draws", "train_members"]

SAVE_EVERY = 25  # steps between two saved states, from which an interrupted training continues

Penalty = Mapping[str, tuple[Tensor, Tensor]]
"""Precision and anchor by parameter name, each broadcastable to the parameter."""


class Objective(Protocol):
    """Rows with a loss for every member."""

    @property
    def num_rows(self) -> int:
        """N."""
        ...

    @property
    def features(self) -> Float[Tensor, "_ D"]:
        """The members' inputs, on the training device."""
        ...

    def losses(self, members: Members, rows: Rows) -> Float[Tensor, "B M"]:
        """Losses of some rows, times shares whose mean over all rows is 1 for each member."""
        ...


def prior_precision(
    members: Members, output_l2: Float[Tensor, "M O"], num_rows: Real[Tensor, " M"] | float
) -> dict[str, Float[Tensor, "M _ _"]]:
    """Precisions of the weights, per row of data; biases are not penalised.

    Args:
        members: members of the shape to be trained.
        output_l2: l2 of each member's outputs, positive.
        num_rows: N, the number of rows that a member sees; one number, or one per member.
    """
    if not members.hidden:
        return {"weight": output_l2[..., None]}
    width = members.hidden_weight.shape[-1]
    hidden = width / (2 * _counts(num_rows, members))
    return {"hidden_weight": hidden.to(output_l2), "weight": output_l2[..., None] * (members.hidden / width)}


@torch.no_grad()
def start_at_draws(
    members: Members,
    precision: Mapping[str, Tensor],
    num_rows: Real[Tensor, " M"] | float,
    seeds: Sequence[int],
    *,
    anchor: bool,
    balanced: int | None = None,
) -> Penalty:
    """Initialises each member with its own draw from the prior, and returns the penalty towards that draw, or
    0.

    Without anchors the last layer starts at a tenth of its draw. Second outputs, the standard deviations,
    start with weights 0: a likelihood is slow to correct large wrong ones.

    Args:
        members: initialised in place.
        precision: from `prior_precision`.
        num_rows: the N used there.
        seeds: one per member, so that a draw does not depend on the number of other draws.
        anchor: whether the penalty pulls towards the draws.
        balanced: H, if every H members form an ensemble: the anchors of their last layers are then shifted
            to an average of 0 (and scaled to their original variance), so that the ensemble's mean is where
            it would be without anchors, and a single head (H = 1) is not shifted at all. None leaves the
            draws unchanged.
    """
    parameters = dict(members.named_parameters())
    penalty = {}
    for name, strength in precision.items():
        parameter = parameters[name]
        spread = (_counts(num_rows, members) * strength).rsqrt()
        if name == "weight":
            spread = spread.clamp_max(parameter.shape[-1] ** -0.5)
        for m, seed in enumerate(seeds):
            draw = torch.randn(parameter[m].shape, generator=torch.Generator().manual_seed(seed))
            parameter[m].copy_(draw.to(parameter) * spread[m])
        if name == "weight" and balanced is not None:
            blocks = parameter.reshape(-1, balanced, *parameter.shape[1:])
            offset = blocks - blocks.mean(1, keepdim=True)
            parameter.copy_((offset * (balanced / max(balanced - 1, 1)) ** 0.5).flatten(0, 1))
        penalty[name] = (strength, parameter.clone() if anchor else torch.zeros_like(parameter))
    if not anchor:
        members.weight.mul_(0.1)
    members.weight[:, 1:] = 0.0
    return penalty


def train_members(
    members: Members,
    objective: Objective,
    penalty: Penalty,
    *,
    steps: int,
    lr: float,
    batch: int,
    seed: int = 0,
    state: TrainingState | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Trains in place; the last weights are kept.

    Args:
        members: the starting point.
        objective: on the members' device.
        penalty: added to each member's loss.
        steps: number of steps.
        lr: learning rate at the start of the cosine.
        batch: rows per step; all of them if there are fewer.
        seed: of the batches and of losses that sample.
        state: where the training state is saved, so that an interruption costs little.
        report: called with a line from time to time.

    Warns:
        EnsembleWarning: a loss is not finite; training ends with the last finite state.
    """
    parameters = dict(members.named_parameters())

    def summed(rows: Rows) -> Tensor:
        losses = objective.losses(members, rows).mean(0)
        for name, (strength, anchor) in penalty.items():
            pull = strength * (parameters[name] - anchor).square()
            losses = losses + 0.5 * pull.flatten(1).sum(1)
        return losses.sum()

    in_batches = objective.num_rows > batch
    train(
        members,
        summed,
        torch.arange(objective.num_rows, device=objective.features.device) if in_batches else slice(None),
        Schedule(lr=lr, steps=steps, batch=batch if in_batches else None, epochs=True, eval_every=SAVE_EVERY),
        seed=seed,
        state=state,
        report=report,
        name="heads",
        warning=EnsembleWarning,
        advice="A smaller lr or a larger std_floor may help.",
    )


def _counts(num_rows: Tensor | float, members: Members) -> Float[Tensor, "M 1 1"]:
    counts = torch.as_tensor(num_rows, dtype=torch.float32)
    return counts.expand(len(members.weight))[:, None, None]
