"""Objectives that fit a policy to rewards or preferences offline: pure functions, one value per example.

In: log-probabilities of whole responses under the policy and the reference model (sums over tokens; SimPO
means), rewards, quantile rewards. Out: [B], or one per pair; the caller reduces. Log-probabilities should be
summed in float32 or wider: neighbouring bfloat16 values near -300 are 2 nats apart. Targets are computed in
float64, results have the dtype of the log-probabilities, at least float32.

Notation: D = log pi(y|x) - log ref(y|x), b the weight of the KL penalty, c and r the chosen and the rejected
response.

    qrpo            (f(R_q) - b log Z - b D)^2
    qrpo_absolute   |f(R_q) - b log Z - b D|
    dpo             -log sigmoid(b (D_c - D_r))
    rebel           ((r_c - r_r)/b - (D_c - D_r))^2
    simpo           -log sigmoid(b (mean log pi_c - mean log pi_r - g))
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from pluralign.checks import as_finite
from pluralign.errors import ArgumentError
from pluralign.losses.checks import require, require_tensors
from pluralign.losses.partition import as_beta
from pluralign.losses.partition import log_partition as exact_log_partition
from pluralign.losses.transforms import TransformLike, parse_transform
from pluralign.precision import widened

__all__ = [
    "dpo",
    "length_normalised_beta",
    "qrpo",
    "qrpo_absolute",
    "qrpo_pair",
    "qrpo_target",
    "rebel",
    "simpo",
]

Beta = float | Float[Tensor, " B"]


def qrpo_target(
    quantile_rewards: Float[Tensor, " B"],
    beta: Beta,
    transform: TransformLike = "identity",
    log_partition: Float[Tensor, " *B"] | None = None,
) -> Float[Tensor, " B"]:
    """The target of b D: f(R_q) - b log Z, positive if a response should become more probable.

    Args:
        quantile_rewards: R_q in [0, 1], [B].
        beta: b > 0, a number or [B].
        transform: f; see `transforms.parse_transform`.
        log_partition: log Z, [] or [B], for instance the finite one; None for the exact one. It does not
            change during training: compute it once if it is expensive (a callable transform).

    Returns:
        [B], float64.

    Raises:
        ArgumentError: if shapes do not fit, b is not positive or, on the CPU, a rank is outside [0, 1] or f
            of it, or log Z, is not finite.
    """
    require_tensors("qrpo", quantile_rewards=quantile_rewards)
    b = as_beta(beta, rows=len(quantile_rewards), device=quantile_rewards.device)
    f = parse_transform(transform)
    require((quantile_rewards >= 0) & (quantile_rewards <= 1), "qrpo: quantile rewards must lie in [0, 1]")
    value = f(quantile_rewards)
    require(value.isfinite(), f"qrpo: {transform} of a rank is infinite; clamp the ranks (clamp_ranks)")
    log_z = exact_log_partition(b, f) if log_partition is None else _given_log_z(log_partition, value)
    return value - b * log_z


def qrpo(
    log_probs: Float[Tensor, " B"],
    reference_log_probs: Float[Tensor, " B"],
    quantile_rewards: Float[Tensor, " B"],
    beta: Beta,
    transform: TransformLike = "identity",
    log_partition: Float[Tensor, " *B"] | None = None,
) -> Float[Tensor, " B"]:
    """Squared difference between b D and its value at the optimum, (f(R_q) - b log Z - b D)^2.

    Zero for every response if and only if the policy is the optimum of E[f(R_q)] - b KL(pi || ref). For
    length normalisation pass `beta=length_normalised_beta(...)`; Z is then computed for that beta.

    Args:
        log_probs: log pi(y|x), sum over tokens, [B].
        reference_log_probs: log ref(y|x), [B].
        quantile_rewards: R_q in [0, 1], [B].
        beta: b > 0, a number or [B].
        transform: f; see `transforms.parse_transform`.
        log_partition: log Z, [] or [B]; None for the exact one.

    Returns:
        [B], in squared units of f.

    Raises:
        ArgumentError: as `qrpo_target`, or if log-probabilities are NaN (on the CPU) or of another shape.

    Reference: Matrenok et al. 2025 (arXiv 2507.08068), equation 12, with the exact Z instead of their
    approximation.
    """
    return _qrpo_error(log_probs, reference_log_probs, quantile_rewards, beta, transform, log_partition) ** 2


def qrpo_absolute(
    log_probs: Float[Tensor, " B"],
    reference_log_probs: Float[Tensor, " B"],
    quantile_rewards: Float[Tensor, " B"],
    beta: Beta,
    transform: TransformLike = "identity",
    log_partition: Float[Tensor, " *B"] | None = None,
) -> Float[Tensor, " B"]:
    """Absolute instead of squared difference, |f(R_q) - b log Z - b D|; arguments and errors as in `qrpo`.

    With noisy ranks it estimates the median of the target instead of the mean, so with few references it is
    biased while `qrpo` is not.

    Returns:
        [B], in units of f.
    """
    return _qrpo_error(log_probs, reference_log_probs, quantile_rewards, beta, transform, log_partition).abs()


def qrpo_pair(
    chosen: Float[Tensor, " B"],
    rejected: Float[Tensor, " B"],
    reference_chosen: Float[Tensor, " B"],
    reference_rejected: Float[Tensor, " B"],
    quantile_chosen: Float[Tensor, " B"],
    quantile_rejected: Float[Tensor, " B"],
    beta: Beta,
    transform: TransformLike = "identity",
    log_partition: Float[Tensor, " *B"] | None = None,
) -> Float[Tensor, " B"]:
    """`qrpo` of both responses of a pair, averaged; the data of `dpo` and `rebel` used pointwise.

    Args:
        chosen: log pi of the chosen responses, [B].
        rejected: log pi of the rejected responses, [B].
        reference_chosen: log ref of the chosen responses, [B].
        reference_rejected: log ref of the rejected responses, [B].
        quantile_chosen: R_q of the chosen responses, [B].
        quantile_rejected: R_q of the rejected responses, [B].
        beta: b > 0, a number or [B].
        transform: f.
        log_partition: log Z of the prompt, [] or [B]; None for the exact one.

    Returns:
        [B], one per pair.

    Raises:
        ArgumentError: as `qrpo`.
    """
    first = qrpo(chosen, reference_chosen, quantile_chosen, beta, transform, log_partition)
    second = qrpo(rejected, reference_rejected, quantile_rejected, beta, transform, log_partition)
    return 0.5 * (first + second)


def length_normalised_beta(
    beta: float, num_tokens: Tensor, maximum: float | None = 0.1
) -> Float[Tensor, " B"]:
    """The KL weight per token, min(b / |y|, maximum), for `qrpo` on responses of very different length.

    Without the bound answers of a few tokens would be tied to the reference: b / |y| = 1 at b = 5 and 5
    tokens.

    Args:
        beta: b > 0, about 5.
        num_tokens: |y| > 0, the end token included, [B].
        maximum: upper bound; None for none.

    Returns:
        [B], float64.

    Raises:
        ArgumentError: b or the bound is not positive, or a length is not positive.

    Reference: Apertus 2025 (arXiv 2509.14233), section 4.3: b = 5, on average b / |y| = .03. The report
    gives no bound; .1 affects responses of fewer than 50 tokens.
    """
    require_tensors("length_normalised_beta", num_tokens=num_tokens)
    require(num_tokens > 0, "length_normalised_beta: every response needs at least one token")
    b = as_beta(beta, device=num_tokens.device) / num_tokens
    return b if maximum is None else b.clamp(max=float(as_beta(maximum)))


def dpo(
    chosen: Float[Tensor, " B"],
    rejected: Float[Tensor, " B"],
    reference_chosen: Float[Tensor, " B"],
    reference_rejected: Float[Tensor, " B"],
    beta: Beta,
) -> Float[Tensor, " B"]:
    """Bradley-Terry likelihood of the preference with b D as the reward, -log sigmoid(b (D_c - D_r)).

    Args:
        chosen: log pi of the preferred responses, sum over tokens, [B].
        rejected: log pi of the others, [B].
        reference_chosen: log ref of the preferred responses, [B].
        reference_rejected: log ref of the others, [B].
        beta: b > 0, a number or [B].

    Returns:
        [B], positive.

    Raises:
        ArgumentError: if shapes differ, b is not positive or, on the CPU, a log-probability is NaN.

    Reference: Rafailov et al. 2023 (arXiv 2305.18290), equation 7.
    """
    margin = _margin("dpo", chosen, rejected, reference_chosen, reference_rejected)
    return -logsigmoid(as_beta(beta, len(margin), margin.device).to(margin) * margin)


def rebel(
    chosen: Float[Tensor, " B"],
    rejected: Float[Tensor, " B"],
    reference_chosen: Float[Tensor, " B"],
    reference_rejected: Float[Tensor, " B"],
    reward_chosen: Float[Tensor, " B"],
    reward_rejected: Float[Tensor, " B"],
    beta: Beta,
) -> Float[Tensor, " B"]:
    """Regresses the difference of log-ratios on that of rewards, ((r_c - r_r)/b - (D_c - D_r))^2.

    Args:
        chosen: log pi of one response, sum over tokens, [B].
        rejected: log pi of the other, [B]; the order does not matter.
        reference_chosen: log ref of the first, [B].
        reference_rejected: log ref of the second, [B].
        reward_chosen: reward of the first, [B], in any unit; b is in the same unit.
        reward_rejected: reward of the second, [B].
        beta: b > 0, a number or [B].

    Returns:
        [B], in squared nats.

    Raises:
        ArgumentError: if shapes differ, b is not positive or, on the CPU, a value is NaN.

    Reference: Gao et al. 2024 (arXiv 2404.16767), equation 1, with b = 1/eta, offline and divided by b^2.
    """
    margin = _margin("rebel", chosen, rejected, reference_chosen, reference_rejected)
    require_tensors("rebel", reward_chosen=reward_chosen, reward_rejected=reward_rejected)
    _same_shape("rebel", chosen, reward_chosen, reward_rejected)
    difference = widened(reward_chosen) - widened(reward_rejected)
    require(difference.isfinite(), "rebel: rewards must be finite")
    return ((difference / as_beta(beta, len(margin), margin.device)).to(margin) - margin) ** 2


def simpo(
    mean_chosen: Float[Tensor, " B"],
    mean_rejected: Float[Tensor, " B"],
    beta: Beta,
    gamma_beta_ratio: float = 0.5,
) -> Float[Tensor, " B"]:
    """Preference likelihood on mean log-probabilities without a reference, -log sigmoid(b (m_c - m_r - g)).

    Args:
        mean_chosen: m_c, mean over tokens of log pi of the preferred response, [B].
        mean_rejected: m_r, of the other, [B].
        beta: b > 0, a number or [B].
        gamma_beta_ratio: g, the margin in nats per token; the paper's gamma is b g.

    Returns:
        [B], positive.

    Raises:
        ArgumentError: if shapes differ, b is not positive, g is not finite or, on the CPU, a log-probability
            is NaN.

    Reference: Meng et al. 2024 (arXiv 2405.14734), equation 6.
    """
    require_tensors("simpo", mean_chosen=mean_chosen, mean_rejected=mean_rejected)
    if math.isnan(as_finite(gamma_beta_ratio)):
        raise ArgumentError(f"simpo: gamma_beta_ratio must be a finite number, received {gamma_beta_ratio!r}")
    _same_shape("simpo", mean_chosen, mean_rejected)
    margin = _wide(mean_chosen) - _wide(mean_rejected) - gamma_beta_ratio
    require(~margin.isnan(), "simpo: log-probabilities must not be NaN")
    return -logsigmoid(as_beta(beta, len(margin), margin.device).to(margin) * margin)


def _qrpo_error(
    log_probs: Tensor,
    reference_log_probs: Tensor,
    quantile_rewards: Tensor,
    beta: Beta,
    transform: TransformLike,
    log_partition: Tensor | None,
) -> Tensor:
    require_tensors("qrpo", log_probs=log_probs, reference_log_probs=reference_log_probs)
    require_tensors("qrpo", quantile_rewards=quantile_rewards)
    _same_shape("qrpo", log_probs, reference_log_probs, quantile_rewards)
    target = qrpo_target(quantile_rewards, beta, transform, log_partition)
    log_ratio = widened(log_probs) - widened(reference_log_probs)
    require(~log_ratio.isnan(), "qrpo: log-probabilities must not be NaN")
    error = target - as_beta(beta, device=target.device) * log_ratio
    return error.to(torch.promote_types(log_probs.dtype, torch.float32))


def _given_log_z(log_partition: Tensor | float, value: Tensor) -> Tensor:
    """The caller's log Z, checked, with the dtype and device of `value`."""
    given = log_partition
    if isinstance(given, int | float):
        given = value.new_tensor(given)
    require_tensors("qrpo", log_partition=given)
    if given.shape not in ((), value.shape):
        raise ArgumentError(
            f"log_partition must have shape [] or {list(value.shape)}, received {list(given.shape)}"
        )
    require(given.isfinite(), "qrpo: log_partition must be finite")
    return given.to(value)


def _margin(
    name: str, chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor
) -> Tensor:
    """D_c - D_r."""
    require_tensors(name, chosen=chosen, rejected=rejected)
    require_tensors(name, reference_chosen=reference_chosen, reference_rejected=reference_rejected)
    _same_shape(name, chosen, rejected, reference_chosen, reference_rejected)
    margin = (_wide(chosen) - _wide(reference_chosen)) - (_wide(rejected) - _wide(reference_rejected))
    require(~margin.isnan(), f"{name}: log-probabilities must not be NaN")
    return margin


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _same_shape(name: str, *tensors: Tensor) -> None:
    if tensors[0].ndim != 1 or len({tensor.shape for tensor in tensors}) > 1:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors)
        raise ArgumentError(f"{name} needs arguments of one shape [B], received {shapes}")
