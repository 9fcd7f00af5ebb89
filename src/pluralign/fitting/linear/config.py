"""Options for fitting linear heads: one frozen dataclass per family. Imports nothing heavy.

The field documentation is printed by `pluralign fit --help`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pluralign.checks import check_choice, check_grid, check_number
from pluralign.errors import ConfigError
from pluralign.fitting.mix.config import MixConfig

__all__ = ["QRM_LEVELS", "BradleyTerryConfig", "QuantileConfig", "RegressionConfig"]

QRM_LEVELS = tuple(round(0.05 * k, 2) for k in range(1, 20))
_CLOSEST_LEVEL = 1e-9  # the solver's limit; not imported from there, because that would import torch


@dataclass(frozen=True)
class QuantileConfig(MixConfig):
    """Quantile heads, and their gate (QRM).

    Attributes:
        levels: Quantile levels, increasing, inside (0, 1). QRM: 0.05, 0.10, ..., 0.95.
        l1: L1 penalty on weights of scaled columns, 0.003 in QRM; null chooses one per attribute on
            held-out groups.
        l1_grid: Penalties to choose from.
        raters: raw fits every rating, weighted by one over the raters of its response; mean and majority
            fit one number per response, and lose the disagreement.
        dequantise: Spread ratings that lie on a grid of step h by U(-h/2, h/2) before fitting.
        tol: Certified relative optimality gap of the fit.
        baselines: Also fit the constant model and Bradley-Terry on the same embeddings, to compare with.
        seed: Seed of dequantisation and of the held-out groups.
    """

    levels: tuple[float, ...] = QRM_LEVELS
    l1: float | None = None
    l1_grid: tuple[float, ...] = (0.0003, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
    raters: Literal["raw", "mean", "majority"] = "raw"
    dequantise: bool = True
    tol: float = 1e-4
    baselines: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if (
            not self.levels
            or any(not min(t, 1 - t) > _CLOSEST_LEVEL for t in self.levels)
            or list(self.levels) != sorted(set(self.levels))
        ):
            raise ConfigError(
                f"levels = {self.levels}: they must increase strictly and lie inside (0, 1), "
                f"more than {_CLOSEST_LEVEL:g} away from its ends"
            )
        if self.l1 is not None:
            check_number("l1", self.l1, at_least=0)
        check_grid("l1_grid", self.l1_grid, "l1")
        check_choice("raters", self.raters, ("raw", "mean", "majority"))
        if not 0 < self.tol < 1:
            raise ConfigError(f"tol = {self.tol}: a relative gap in (0, 1) is needed")


@dataclass(frozen=True)
class BradleyTerryConfig:
    """A linear Bradley-Terry head.

    Attributes:
        l2: Penalty (l2/2) * squared norm of the weights of scaled columns, added to the mean loss; null
            chooses it on held-out groups.
        l2_grid: Penalties to choose from.
        margin: Smallest difference of mean ratings, in units of their scale, for which ratings become a pair.
        max_pairs_per_group: Maximum number of pairs from the ratings of one group.
        seed: Seed of the held-out groups.
    """

    l2: float | None = None
    l2_grid: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    margin: float = 0.0
    max_pairs_per_group: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.l2 is not None:
            check_number("l2", self.l2, above=0)
        check_grid("l2_grid", self.l2_grid, "l2", above=0)
        check_number("margin", self.margin, at_least=0)
        check_number("max_pairs_per_group", self.max_pairs_per_group, at_least=1)


@dataclass(frozen=True)
class RegressionConfig(MixConfig):
    """Ridge regression per attribute, and its gate (ArmoRM).

    Attributes:
        l2: Penalty l2 * squared norm of the weights of scaled columns, added to the mean squared error; null
            chooses one per attribute on held-out groups.
        l2_grid: Penalties to choose from.
        raters: raw and mean fit the mean rating of each response; majority its most frequent rating.
        residual: point predicts one number; gaussian a normal distribution around it, with the ratings'
            standard deviation around the prediction on held-out groups: the simplest distribution to compare
            with.
        dequantise: Spread ratings that lie on a grid of step h by U(-h/2, h/2) for that standard deviation
            and for the constant model, as the quantile family does.
        baselines: Also fit the constant model and Bradley-Terry on the same embeddings, to compare with.
        seed: Seed of spreading, of the held-out groups and of the gate.
    """

    l2: float | None = None
    l2_grid: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    raters: Literal["raw", "mean", "majority"] = "raw"
    residual: Literal["point", "gaussian"] = "point"
    dequantise: bool = True
    baselines: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.l2 is not None:
            check_number("l2", self.l2, above=0)
        check_grid("l2_grid", self.l2_grid, "l2", above=0)
        check_choice("raters", self.raters, ("raw", "mean", "majority"))
        check_choice("residual", self.residual, ("point", "gaussian"))
        if self.mix == "mixture" and self.residual == "point":
            raise ConfigError("mix = 'mixture': a mixture of points is not a point; set residual to gaussian")
        if self.debias_coupling == "parity" and self.residual == "gaussian":
            raise ConfigError(
                "debias_coupling = 'parity' subtracts levels, and a Gaussian has none; use shift"
            )
