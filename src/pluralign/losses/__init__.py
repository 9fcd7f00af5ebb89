"""Losses: pure functions of tensors that return one value per example. One file per domain."""

from pluralign.losses.categorical import cross_entropy, ranked_probability_score, smooth_neighbours
from pluralign.losses.gaussian import beta_nll, gaussian_nll, reparameterized_mse
from pluralign.losses.online import (
    clipped_surrogate,
    clipped_value,
    gae,
    group_advantages,
    grpo_advantages,
    kl_estimate,
    quantile_huber,
    rloo_advantages,
)
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
    "clipped_surrogate",
    "clipped_value",
    "cross_entropy",
    "dpo",
    "gae",
    "gaussian_nll",
    "group_advantages",
    "grpo_advantages",
    "kl_estimate",
    "length_normalised_beta",
    "log_partition",
    "optimum_kl",
    "parse_transform",
    "pinball",
    "qrpo",
    "qrpo_absolute",
    "qrpo_pair",
    "qrpo_target",
    "quantile_huber",
    "ranked_probability_score",
    "rebel",
    "reparameterized_mse",
    "rloo_advantages",
    "simpo",
    "smooth_neighbours",
    "transport",
    "two_axis_cost",
]
