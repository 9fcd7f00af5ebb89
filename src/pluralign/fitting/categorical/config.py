"""Options for fitting a categorical head. Imports nothing heavy.

The field documentation is printed by `pluralign fit --help`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pluralign.checks import check_choice, check_grid, check_number
from pluralign.errors import ConfigError
from pluralign.fitting.mix.config import MixConfig

__all__ = ["CategoricalConfig"]


@dataclass(frozen=True)
class CategoricalConfig(MixConfig):
    """Probabilities of categories per attribute, and their gate (DPRM).

    Attributes:
        loss: cross_entropy; transport, the published loss of DPRM; or rps, the squared distance of
            distribution functions. With few raters per response transport is not a proper score: with fewer
            than 5 use one of the others, or smoothing.
        cost: Cost of transport: rewards for the difference of rewards; or two_axis, for the six categories,
            for their distance in helpfulness and in harm.
        axis_weights: Weights of helpfulness and harm in the two_axis cost of transport.
        floor: Minimum cost of confusing any two categories in transport, where the largest difference of
            rewards is 1.
        regularization: Entropic penalty of the two_axis cost of transport; 0 solves it exactly.
        smoothing: Share of each category's mass in the targets that is moved to neighbouring categories.
        rewards: Reward of each category by its name or number, for attributes with exactly these categories;
            null for the ratings themselves, and the paper's table for the six categories.
        edges: Edges of bins for the ratings, ascending; null makes each rating of a grid a category, and
            uses bins if there is no grid.
        num_categories: Number of bins for a scale without a grid.
        binning: quantile for bins with equal numbers of ratings, equal for bins of equal width.
        comparisons: How votes without ratings are fitted. pairwise predicts a, tie or b from the difference
            of two scores (Davidson), by cross-entropy; pointwise assigns to each side the votes it received
            and fits those as categories.
        hidden: Units of one hidden layer; 0 for linear logits.
        l2: Penalty l2 * squared norm of the weights of scaled columns, added to the mean loss; null chooses
            it on held-out groups.
        l2_grid: Penalties to choose from; the smallest are for rps, a square of shares of the scale, with
            many responses.
        steps: Steps of AdamW over all rows.
        lr: Learning rate at the start of its cosine.
        baselines: Also fit the constant model and Bradley-Terry on the same embeddings, to compare with.
        seed: Seed of the held-out groups, the hidden layer and the gate.
    """

    loss: Literal["cross_entropy", "transport", "rps"] = "cross_entropy"
    cost: Literal["rewards", "two_axis"] = "rewards"
    axis_weights: tuple[float, float] = (1.0, 1.0)
    floor: float = 0.0
    regularization: float = 0.0
    smoothing: float = 0.0
    rewards: dict[str, float] | None = None
    edges: tuple[float, ...] | None = None
    num_categories: int = 10
    binning: Literal["quantile", "equal"] = "quantile"
    comparisons: Literal["pairwise", "pointwise"] = "pairwise"
    hidden: int = 0
    l2: float | None = None
    l2_grid: tuple[float, ...] = (1e-5, 3e-5, 1e-4, 3e-4, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    steps: int = 150
    lr: float = 0.05
    baselines: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("loss", self.loss, ("cross_entropy", "transport", "rps"))
        check_choice("cost", self.cost, ("rewards", "two_axis"))
        check_choice("binning", self.binning, ("quantile", "equal"))
        check_choice("comparisons", self.comparisons, ("pairwise", "pointwise"))
        for name in ("floor", "regularization", "hidden"):
            check_number(name, getattr(self, name), at_least=0)
        check_number("num_categories", self.num_categories, at_least=2)
        check_number("steps", self.steps, at_least=1)
        check_number("lr", self.lr, above=0)
        if self.l2 is not None:
            check_number("l2", self.l2, above=0)
        check_grid("l2_grid", self.l2_grid, "l2", above=0)
        if not 0 <= self.smoothing < 1:
            raise ConfigError(f"smoothing = {self.smoothing}; allowed: at least 0 and below 1")
        if len(self.axis_weights) != 2 or not max(self.axis_weights) > 0:
            raise ConfigError(f"axis_weights = {self.axis_weights}: two numbers, one above 0, are needed")
        for weight in self.axis_weights:
            check_number("axis_weights", weight, at_least=0)
        if self.regularization and self.cost == "rewards":
            raise ConfigError("regularization applies only to cost = 'two_axis'; rewards have a closed form")
        self._check_transport()
        if self.debias_coupling == "parity":
            raise ConfigError(
                "debias_coupling = 'parity' subtracts levels, and categories have none; use shift"
            )
        self._check_rewards_and_edges()

    def _check_transport(self) -> None:
        """Rejects options that another loss would ignore."""
        unset = {"cost": "rewards", "axis_weights": (1.0, 1.0), "floor": 0.0, "regularization": 0.0}
        for name, default in unset.items():
            value = getattr(self, name)
            if self.loss != "transport" and (tuple(value) if name == "axis_weights" else value) != default:
                raise ConfigError(
                    f"{name} = {value!r} applies only to the transport loss, and loss = {self.loss!r} would "
                    f"ignore it: set loss = 'transport', or leave {name} out"
                )

    def _check_rewards_and_edges(self) -> None:
        if self.rewards is not None:
            if not isinstance(self.rewards, Mapping):
                raise ConfigError(f"rewards = {self.rewards!r}: a reward for each name or number is needed")
            # JSON keys are strings; in Python numbers work as well.
            object.__setattr__(self, "rewards", {str(name): value for name, value in self.rewards.items()})
            values = list(self.rewards.values())
            if len(set(values)) < 2 or not all(math.isfinite(value) for value in values):
                raise ConfigError(f"rewards = {self.rewards}: finite numbers, not all the same, are needed")
        if self.edges is not None and (
            len(self.edges) < 3
            or list(self.edges) != sorted(set(self.edges))
            or not all(math.isfinite(edge) for edge in self.edges)
        ):
            raise ConfigError(
                f"edges = {self.edges}: at least three ascending numbers are needed, for two bins"
            )
