"""From targets to trained heads: resamples, anchors and penalties of the members of one ensemble.

In: features and targets, a configuration. Out: members.

Training runs along the principal axes of the features, where a single step size suits all directions;
penalties are invariant to a rotation, and `Members.rotate_` undoes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Real
from torch import Tensor

from pluralign.fitting.ensemble.config import GaussianEnsembleConfig
from pluralign.fitting.ensemble.targets import (
    GaussianObjective,
    GaussianTargets,
    PairObjective,
    bootstrap_counts,
    loss_of,
    row_shares,
)
from pluralign.fitting.ensemble.training import Objective, prior_precision, start_at_draws, train_members
from pluralign.fitting.tables.inputs import Inputs
from pluralign.fitting.tables.pairs import PairIndex
from pluralign.fitting.train.axes import principal_axes
from pluralign.fitting.train.state import TrainingState
from pluralign.heads.ensemble_members import Members

__all__ = ["gaussian_heads", "head_shares", "preference_heads", "rotated", "train_heads"]


def rotated(features: Float[Tensor, "N D"]) -> tuple[Float[Tensor, "N D"], Float[Tensor, "D D"]]:
    """Features along their principal axes, on the device to train on, and the axes."""
    features = features.to("cuda" if torch.cuda.is_available() else "cpu")
    axes = principal_axes(features)
    return features @ axes, axes


def gaussian_heads(
    inputs: Inputs,
    config: GaussianEnsembleConfig,
    features: Tensor,
    points: GaussianTargets,
    groups: Sequence[str],
    l2: Float[Tensor, "A 2"],
) -> Members:
    """A H members with means and standard deviations, attribute-major.

    Args:
        inputs: for the journal and the report.
        config: the configuration of the fit.
        features: features of the responses, on the training device.
        points: their ratings.
        groups: the responses' groups.
        l2: penalties for the weights of means and of standard deviations, by attribute.
    """
    device = features.device
    share = head_shares(config, points.present, groups).to(device)
    objective = GaussianObjective(
        features, points.points.to(device), share, loss_of(config), config.std_floor
    )
    penalties = l2.repeat_interleave(config.heads, 0)
    inputs.report(
        f"{config.heads} heads by {config.loss}, {config.hidden or 'no'} hidden units, bootstrap "
        f"{_on(config.bootstrap)}, anchors {_on(config.anchor)}"
    )
    return train_heads(
        objective,
        config,
        penalties,
        features.shape[1],
        points.present.sum(0).repeat_interleave(config.heads),
        anchor=config.anchor,
        state=_state(inputs, config, "heads", features, points.points),
        report=inputs.report,
    )


def head_shares(
    config: GaussianEnsembleConfig, present: Float[Tensor, "N A"], groups: Sequence[str]
) -> Float[Tensor, "N A H"]:
    """The share of each response in the loss of each head, with mean 1 over the responses.

    Args:
        config: the configuration of the fit; with its bootstrap, a head has its own resample of the groups.
        present: 1 where a response was rated.
        groups: the responses' groups.
    """
    weight = present[:, :, None].expand(-1, -1, config.heads)
    if config.bootstrap:
        drawn = weight * _bootstrap(config, groups)[:, None]
        # A resample without ratings contains no information.
        weight = torch.where(drawn.sum(0) > 0, drawn, weight)
    return row_shares(weight)


def preference_heads(
    inputs: Inputs,
    config: GaussianEnsembleConfig,
    features: Tensor,
    pairs: PairIndex,
    l2: float,
) -> Members:
    """H members with one output, a Bradley-Terry score in logits; arguments as `gaussian_heads`."""
    weight = pairs.weight.float()[:, None].expand(-1, config.heads)
    if config.bootstrap:
        weight = weight * _bootstrap(config, pairs.groups)
    device = features.device
    objective = PairObjective(
        features, pairs.chosen.to(device), pairs.rejected.to(device), row_shares(weight).to(device)
    )
    inputs.report(
        f"stage 1: {config.heads} Bradley-Terry heads, bootstrap {_on(config.bootstrap)}, anchors "
        f"{_on(config.anchor)}"
    )
    return train_heads(
        objective,
        config,
        torch.full((config.heads, 1), l2),
        features.shape[1],
        float(pairs.weight.sum()),
        anchor=config.anchor,
        state=_state(inputs, config, "stage-1", features, pairs.weight),
        report=inputs.report,
    )


def train_heads(
    objective: Objective,
    config: GaussianEnsembleConfig,
    l2: Float[Tensor, "M O"],
    width: int,
    num_rows: Real[Tensor, " M"] | float,
    *,
    anchor: bool,
    state: TrainingState | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Members:
    """Members at draws from the prior, trained.

    Args:
        objective: on the training device.
        config: the configuration of the fit.
        l2: penalties for each member's outputs; one row per member.
        width: width of the features.
        num_rows: number of rows per member, which together with l2 determines the width of the prior.
        anchor: whether members are pulled towards their start.
        state: where the training state is saved.
        report: called with a line from time to time.
    """
    members = Members(len(l2), width, l2.shape[1], config.hidden)
    precision = prior_precision(members, l2, num_rows)
    seeds = [_seed(config, "anchor", m) for m in range(len(l2))]
    penalty = start_at_draws(members, precision, num_rows, seeds, anchor=anchor, balanced=config.heads)
    device = objective.features.device
    train_members(
        members.to(device),
        objective,
        {name: (p.to(device), a.to(device)) for name, (p, a) in penalty.items()},
        steps=config.steps,
        lr=config.lr,
        batch=config.batch,
        seed=config.seed,
        state=state,
        report=report,
    )
    return members


def _bootstrap(config: GaussianEnsembleConfig, groups: Sequence[str]) -> Float[Tensor, "N H"]:
    return bootstrap_counts(groups, [_seed(config, "bootstrap", h) for h in range(config.heads)]).float()


def _seed(config: GaussianEnsembleConfig, what: str, number: int) -> int:
    """A separate seed for every draw, independent of the number of other draws."""
    digest = hashlib.blake2b(f"{config.seed} {what} {number}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big")


def _state(
    inputs: Inputs, config: GaussianEnsembleConfig, name: str, features: Tensor, targets: Tensor
) -> TrainingState:
    key = hashlib.sha256(f"{config} {tuple(features.shape)} {tuple(targets.shape)}".encode())
    for tensor in (features, targets):
        key.update(f"{float(tensor.double().abs().sum()):.12g}".encode())
    return TrainingState(inputs.journal.beside(f"{name}.safetensors"), key.hexdigest())


def _on(flag: bool) -> str:
    return "on" if flag else "off"
