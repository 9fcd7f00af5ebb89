"""Chooses the penalties of an ensemble's means and standard deviations by the loss on held-out groups.

In: an objective's parts and two grids. Out: one pair of penalties per attribute. All candidates and all folds
are members of one linear ensemble, so that the search is a single training run; heads with hidden units use
the penalties of linear ones, which give their functions the same prior variance.

A candidate is evaluated by the likelihood of held-out ratings; for the published loss, which does not learn a
standard deviation, by squared error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, partial
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign import losses
from pluralign.fitting.ensemble.config import GaussianEnsembleConfig
from pluralign.fitting.ensemble.targets import GaussianObjective, GaussianTargets, loss_of, row_shares
from pluralign.fitting.ensemble.training import prior_precision, train_members
from pluralign.fitting.tables.inputs import Inputs
from pluralign.fitting.train.search import fold_of, held_out_folds, search_penalty
from pluralign.fitting.train.state import TrainingState
from pluralign.heads.ensemble_members import Members
from pluralign.precision import widened

__all__ = ["chosen_penalties"]


def chosen_penalties(
    inputs: Inputs,
    config: GaussianEnsembleConfig,
    targets: GaussianTargets,
    names: Sequence[str],
    groups: Sequence[str],
    features: Float[Tensor, "N D"],
) -> Float[Tensor, "A 2"]:
    """Penalties of the mean's and of the std's weights, per attribute.

    Args:
        inputs: for the journal and the report.
        config: grids, or fixed penalties.
        targets: the ratings.
        names: the attributes' names.
        groups: the responses' groups.
        features: scaled embeddings.

    Raises:
        DataError: penalties must be chosen but there is only one group.
    """
    mean_grid = (config.l2,) if config.l2 is not None else config.l2_grid
    std_grid = (config.std_l2,) if config.std_l2 is not None else config.std_l2_grid
    if config.loss == "reparameterized_mse":
        std_grid = std_grid[:1]  # the evaluation does not depend on it
    grid = list(product(sorted(set(mean_grid), reverse=True), sorted(set(std_grid), reverse=True)))
    if len(grid) == 1:
        return torch.tensor(grid * len(names))
    fold = fold_of(groups, config.seed, what="l2 and std_l2")
    settings = hashlib.sha256(f"{config} {targets.points.double().sum():.17g}".encode()).hexdigest()[:16]
    state = TrainingState(inputs.journal.beside("search.safetensors"), settings)
    of_all = cache(partial(_held_out, config, targets, features, fold, grid, state))

    def chosen(a: int) -> tuple[float, float]:
        best, _ = search_penalty(
            grid,
            fold,
            targets.present[:, a],
            lambda penalties, k: float(of_all()[a, k, grid.index(penalties)]),
            family="gaussian_ensemble",
            name=names[a],
            what="l2, std_l2",
            loss="loss",
            journal=inputs.journal,
            settings=settings,
            report=inputs.report,
            stop_early=False,
        )
        return best

    return torch.tensor([chosen(a) for a in range(len(names))])


def _held_out(
    config: GaussianEnsembleConfig,
    targets: GaussianTargets,
    features: Tensor,
    fold: Tensor,
    grid: Sequence[tuple[float, float]],
    state: TrainingState,
) -> Float[Tensor, "A F G"]:
    """Mean loss on each held-out fold's ratings, for members that were trained on the other folds."""
    folds = held_out_folds(fold)
    num_attributes, count = targets.present.shape[1], len(folds) * len(grid)
    device = features.device
    train = torch.stack([fold != k for k in folds], 1).float().repeat_interleave(len(grid), 1)
    present = targets.present[:, :, None]
    objective = GaussianObjective(
        features,
        targets.points.to(device),
        row_shares(present * train[:, None]).to(device),
        loss_of(config),
        config.std_floor,
    )
    members = Members(num_attributes * count, features.shape[1], 2).to(device)
    l2 = torch.tensor(list(grid)).repeat(num_attributes * len(folds), 1).to(device)
    zero = torch.zeros_like(members.weight)
    penalty = {name: (p, zero) for name, p in prior_precision(members, l2, len(features)).items()}
    train_members(
        members,
        objective,
        penalty,
        steps=config.steps,
        lr=config.lr,
        batch=config.batch,
        seed=config.seed,
        state=state,
    )
    held_out_loss = losses.gaussian_nll if config.loss != "reparameterized_mse" else _squared_error
    held_out = (present * (1 - train[:, None])).to(device)
    total = torch.zeros(num_attributes, count, dtype=torch.float64)
    with torch.no_grad():
        for start in range(0, len(features), config.batch):
            rows = slice(start, start + config.batch)
            loss = objective.mean_over_points(members, rows, held_out_loss)
            total += widened(held_out[rows] * loss).sum(0).cpu()
    mass = held_out.cpu().double().sum(0).clamp_min(1)
    return (total / mass).reshape(num_attributes, len(folds), len(grid))


def _squared_error(mean: Tensor, std: Tensor, target: Tensor) -> Tensor:
    return (mean - target).square()
