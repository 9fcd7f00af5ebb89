"""Losses: pure functions of tensors that return one value per example. One file per domain."""

from pluralign.losses.categorical import cross_entropy, ranked_probability_score, smooth_neighbours
from pluralign.losses.gaussian import beta_nll, gaussian_nll, reparameterized_mse
from pluralign.losses.partition import break_even_quantile, log_partition, optimum_kl
from pluralign.losses.policy import (
    dpo,
    length_normalised_beta,
    qrpo,
    qrpo_absolute,
    qrpo_pair,
    qrpo_target,
    rebel,
    simpo,
)
from pluralign.losses.preference import bradley_terry
from pluralign.losses.quantile import pinball
from pluralign.losses.transforms import Transform, parse_transform
from pluralign.losses.transport import transport, two_axis_cost

__all__ = [
    "Transform",
    "beta_nll",
    "bradley_terry",
    "break_even_quantile",
    "cross_entropy",
    "dpo",
    "gaussian_nll",
    "length_normalised_beta",
    "log_partition",
    "optimum_kl",
    "parse_transform",
    "pinball",
    "qrpo",
    "qrpo_absolute",
    "qrpo_pair",
    "qrpo_target",
    "ranked_probability_score",
    "rebel",
    "reparameterized_mse",
    "simpo",
    "smooth_neighbours",
    "transport",
    "two_axis_cost",
]
