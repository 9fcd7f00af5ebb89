"""Options for fitting a Gaussian ensemble. Imports nothing heavy.

The field documentation is printed by `pluralign fit --help`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pluralign.checks import check_choice, check_grid, check_number, is_whole
from pluralign.errors import ConfigError
from pluralign.fitting.mix.config import MixConfig

__all__ = ["GaussianEnsembleConfig"]

LOSSES = ("gaussian_nll", "beta_nll", "reparameterized_mse", "bradley_terry")


@dataclass(frozen=True)
class GaussianEnsembleConfig(MixConfig):
    """H Gaussian heads, and the gate of their attributes (BRME).

    Attributes:
        heads: Number of heads; not published, the default of 5 is this project's choice.
        loss: gaussian_nll and beta_nll learn the spread of the ratings; reparameterized_mse is the published
            loss, whose std only shows how long training took; bradley_terry gives plain Bradley-Terry heads
            (mean, worst-case and UWO ensembles) on pairs.
        beta: The exponent of beta_nll, in [0, 1].
        target: ratings, or stage_1 for the standardised reward of Bradley-Terry heads; null for ratings
            if the data has them.
        hidden: Hidden units of each head; 0 for linear heads.
        bootstrap: Each head sees its own resample of the groups.
        anchor: Each head is pulled towards its own random start, a sample from the prior, instead of towards
            0.
        l2: Penalty (l2/2) * squared distance of a head's weights from its anchor; it also sets the spread of
            the anchors, 1/sqrt(N l2). Null chooses one per attribute on held-out groups.
        l2_grid: Penalties to choose from; the largest is for wide embeddings with few responses, where a
            smaller one leaves the heads so far apart that the ensemble is worse than a constant.
        std_l2: The same for the weights of the standard deviation.
        std_l2_grid: Penalties to choose from.
        std_floor: Smallest std, in units of the standard deviation of all ratings.
        steps: Steps of Adam, with a cosine.
        lr: Learning rate at the start of the cosine.
        batch: Responses (or pairs) per step; all if there are fewer.
        raters: raw fits every rating; mean and majority fit one number per response, and lose the
            disagreement.
        dequantise: Spread ratings that lie on a grid of step h by U(-h/2, h/2), as the quantile family does.
        margin: Smallest difference of mean ratings, in units of their scale, for which ratings become a pair.
        baselines: Also fit the constant model and Bradley-Terry on the same embeddings, to compare with.
        seed: Seed of anchors, bootstrap, batches, spreading, held-out groups and gate.
    """

    heads: int = 5
    loss: Literal["gaussian_nll", "beta_nll", "reparameterized_mse", "bradley_terry"] = "gaussian_nll"
    beta: float = 0.5
    target: Literal["ratings", "stage_1"] | None = None
    hidden: int = 0
    bootstrap: bool = True
    anchor: bool = True
    l2: float | None = None
    l2_grid: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    std_l2: float | None = None
    std_l2_grid: tuple[float, ...] = (0.3, 3.0, 30.0)
    std_floor: float = 0.01
    steps: int = 300
    lr: float = 0.02
    batch: int = 4096
    raters: Literal["raw", "mean", "majority"] = "raw"
    dequantise: bool = True
    margin: float = 0.0
    baselines: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in {"heads": 1, "steps": 1, "batch": 2, "hidden": 0}.items():
            value = getattr(self, name)
            if not is_whole(value, least):
                raise ConfigError(f"{name} = {value!r}: a whole number of at least {least} is needed")
        check_number("margin", self.margin, at_least=0)
        for name in ("std_floor", "lr"):
            check_number(name, getattr(self, name), above=0)
        for name in ("l2", "std_l2"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), above=0)
            check_grid(f"{name}_grid", getattr(self, f"{name}_grid"), name, above=0)
        check_choice("loss", self.loss, LOSSES)
        check_choice("raters", self.raters, ("raw", "mean", "majority"))
        if not 0 <= self.beta <= 1:
            raise ConfigError(f"beta = {self.beta}; allowed: at least 0 and at most 1")
        if self.target is not None:
            check_choice("target", self.target, ("ratings", "stage_1"))
        if self.loss == "bradley_terry" and self.target == "ratings":
            raise ConfigError("loss = 'bradley_terry' learns from pairs and has no target; leave target out")
        if self.mix == "mixture":
            raise ConfigError(
                "mix = 'mixture': attributes are mixed head by head, so that each head is a whole opinion, "
                "and a head's mixture is not a Gaussian; use vincentize"
            )
        if self.debias_coupling == "parity":
            raise ConfigError(
                "debias_coupling = 'parity' subtracts levels, and a Gaussian has none; use shift"
            )
