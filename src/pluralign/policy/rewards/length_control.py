"""Length: removed from rewards, and measured in a trained policy.

In: rewards and lengths in tokens, of responses and references. Out: numbers.

    length control   z_r = k z_len + c over all references, z-scores by prompt;
                     r_lc = r - k (len - mean len) std_r / std_len
    length bias      Spearman correlation of (len - mean ref len) / std ref len with log pi - log ref

Standard deviations divide by n. A prompt whose references all have the same length or the same reward has no
z-scores: it is not used in the fit, and its rewards are not changed.

Reference: the length control of the code of Matrenok et al. 2025 (arXiv 2507.08068).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.rank_correlation import spearman

__all__ = ["LengthControl", "fit_length_control", "length_bias"]


@dataclass(frozen=True)
class LengthControl:
    """A fitted length control.

    Attributes:
        slope: k, standard deviations of reward per standard deviation of length; in [-1, 1].
        prompts: number of prompts used in the fit.
    """

    slope: float
    prompts: int

    def __call__(
        self,
        rewards: Float[Tensor, "B M"],
        lengths: Float[Tensor, "B M"],
        reference_rewards: Float[Tensor, "B N"],
        reference_lengths: Float[Tensor, "B N"],
        keep_mask: Bool[Tensor, "B N"] | None = None,
    ) -> Float[Tensor, "B M"]:
        """Length-controlled rewards of M responses to each prompt, which may include the references.

        Args:
            rewards: [B, M].
            lengths: in tokens, [B, M].
            reference_rewards: [B, N].
            reference_lengths: [B, N].
            keep_mask: bool [B, N], false for references to ignore.

        Returns:
            [B, M], float64, in the unit of the rewards.

        Raises:
            ArgumentError: shapes do not fit, or a value is not finite.
        """
        reward, length = _checked(rewards, lengths, None)
        reference, reference_length = _checked(reference_rewards, reference_lengths, keep_mask)
        _same_rows(reward, reference)
        keep = torch.ones_like(reference, dtype=torch.bool) if keep_mask is None else keep_mask
        _, reward_std = _moments(reference, keep)
        mean, std = _moments(reference_length, keep)
        usable = (std > 0) & (reward_std > 0)
        shift = self.slope * (length - mean) * reward_std / torch.where(usable, std, 1.0)
        return torch.where(usable, reward - shift, reward)


def fit_length_control(
    reference_rewards: Float[Tensor, "B N"],
    reference_lengths: Float[Tensor, "B N"],
    keep_mask: Bool[Tensor, "B N"] | None = None,
) -> LengthControl:
    """Fits the slope of standardised reward on standardised length, over all references of all prompts.

    z-scores have mean 0 in each prompt, so the intercept c is 0 and the slope is their mean product.

    Args:
        reference_rewards: [B, N].
        reference_lengths: in tokens, [B, N].
        keep_mask: bool [B, N], true where a reference counts.

    Raises:
        ArgumentError: shapes do not fit, a value is not finite, or no prompt varies in both.
    """
    reward, length = _checked(reference_rewards, reference_lengths, keep_mask)
    keep = torch.ones_like(reward, dtype=torch.bool) if keep_mask is None else keep_mask
    (reward_mean, reward_std), (mean, std) = _moments(reward, keep), _moments(length, keep)
    usable = ((std > 0) & (reward_std > 0)).squeeze(-1)
    if not bool(usable.any()):
        raise ArgumentError("length control: no prompt has references of different lengths and rewards")
    product = ((reward - reward_mean) / reward_std) * ((length - mean) / std)
    rows = usable.unsqueeze(-1) & keep
    return LengthControl(float(product[rows].mean()), int(usable.sum()))


def length_bias(
    log_ratios: Float[Tensor, " B"],
    lengths: Float[Tensor, " B"],
    reference_lengths: Float[Tensor, "B N"],
    keep_mask: Bool[Tensor, "B N"] | None = None,
) -> float | None:
    """Whether a policy has learned length: rank correlation of relative length with log pi - log ref.

    Args:
        log_ratios: log pi - log ref, summed over the tokens of samples of the trained policy, [B].
        lengths: lengths of these samples, in tokens, [B].
        reference_lengths: lengths of the references of the same prompts, [B, N].
        keep_mask: bool [B, N], true where a reference counts.

    Returns:
        Spearman's correlation, in [-1, 1]; prompts whose references all have the same length are left out.
        None if all log-ratios or all relative lengths are equal.

    Raises:
        ArgumentError: shapes do not fit, a value is not finite, or fewer than two prompts can be used.
    """
    for value in (log_ratios, lengths):
        if not isinstance(value, Tensor) or value.ndim != 1:
            raise ArgumentError("length bias: log_ratios and lengths must be tensors of shape [B]")
    _, length = _checked(log_ratios.unsqueeze(-1), lengths.unsqueeze(-1), None)
    references, _ = _checked(reference_lengths, reference_lengths, keep_mask)
    _same_rows(length, references)
    keep = torch.ones_like(references, dtype=torch.bool) if keep_mask is None else keep_mask
    mean, std = _moments(references, keep)
    usable = (std > 0).squeeze(-1)
    relative = ((length - mean) / torch.where(std > 0, std, 1.0)).squeeze(-1)
    return spearman(relative[usable], log_ratios.double()[usable])


def _moments(values: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the kept values, [B, 1] each."""
    count = keep.sum(-1, keepdim=True).double()
    mean = torch.where(keep, values, 0.0).sum(-1, keepdim=True) / count
    variance = torch.where(keep, (values - mean) ** 2, 0.0).sum(-1, keepdim=True) / count
    std = variance.sqrt()
    # Equal numbers can have a spread of a few last digits, which counts as 0.
    return mean, torch.where(std > 1e-12 * (1 + mean.abs()), std, 0.0)


def _same_rows(responses: Tensor, references: Tensor) -> None:
    if len(responses) != len(references):
        raise ArgumentError(
            f"length control: received responses to {len(responses)} prompts and references of "
            f"{len(references)}; allowed: the same prompts"
        )


def _checked(rewards: Tensor, lengths: Tensor, keep_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    for value in (rewards, lengths):
        if not isinstance(value, Tensor):
            raise ArgumentError(f"length control: needs tensors, received {type(value).__name__}")
    reward, length = rewards.double(), lengths.double()
    if reward.ndim != 2 or reward.shape != length.shape:
        raise ArgumentError(
            f"length control: rewards and lengths must have one shape [B, N], received {list(reward.shape)} "
            f"and {list(length.shape)}"
        )
    if keep_mask is not None and (keep_mask.dtype != torch.bool or keep_mask.shape != reward.shape):
        raise ArgumentError(f"length control: keep_mask must be bool of shape {list(reward.shape)}")
    finite = reward.isfinite() & length.isfinite()
    if not bool((finite if keep_mask is None else finite | ~keep_mask).all()):
        raise ArgumentError("length control: rewards and lengths must be finite")
    return reward, length
