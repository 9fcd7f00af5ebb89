"""Numbers that are logged while a policy is trained, and their means over rows.

In: sides and losses of a batch. Out: means by name, over all rows of all processes since the last log line.
The names are common in dashboards for preference training.

    loss, cut_off                        loss of a row; share of its responses without an end token
    logps/S, tokens/S                    log pi(y|x) and |y| of side S
    log_ratio/S                          log pi - log ref
    rewards/S                            b (log pi - log ref), for SimPO b mean log pi: the reward for which
                                         the policy is optimal, up to a constant per prompt
    rewards/margins, rewards/accuracies  chosen minus rejected, and how often that is positive; .5 if they
                                         differ only by rounding, as before the first step
    positive_targets/S                   share of responses that QRPO makes more probable
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pluralign.losses.partition import break_even_quantile, optimum_kl
from pluralign.losses.policy import qrpo_target
from pluralign.policy.offline.objectives import Responses, Settings, Sides, row_beta
from pluralign.precision import wide_dtype, widened

__all__ = ["RunningMeans", "batch_values", "qrpo_constants"]

_LAST_PLACES = 8  # units in the last place by which a sum of log-probabilities may differ between machines
_LOGIT = 4.0  # the size of a token's logits, which cancel in its log-probability


@torch.no_grad()
def batch_values(sides: Sides, losses: Tensor, cut_off: Tensor, settings: Settings) -> dict[str, Tensor]:
    """The numbers above, [B] each.

    Args:
        sides: responses of the batch.
        losses: one per row, [B].
        cut_off: share of each row's responses without an end token, [B].
        settings: settings of the objective.
    """
    values = {"loss": losses.detach(), "cut_off": cut_off}
    rewards = {}
    for side, responses in sides.items():
        log_probs = responses.log_probs.detach()
        values[f"logps/{side}"] = log_probs
        values[f"tokens/{side}"] = responses.num_tokens
        rewards[side] = values[f"rewards/{side}"] = _implicit_reward(responses, settings)
        if responses.reference_log_probs is not None:
            values[f"log_ratio/{side}"] = log_probs - responses.reference_log_probs
        if responses.quantile_rewards is not None:
            beta, log_z = row_beta(responses, settings), responses.log_partition
            target = qrpo_target(responses.quantile_rewards, beta, settings.transform, log_z)
            # If all references tie, the targets with the finite Z are 0 up to rounding.
            values[f"positive_targets/{side}"] = target > _LAST_PLACES * torch.finfo(target.dtype).eps
    if len(rewards) == 2:
        values["rewards/margins"] = rewards["chosen"] - rewards["rejected"]
        values["rewards/accuracies"] = _wins(sides, rewards, settings)
    return values


def qrpo_constants(settings: Settings) -> dict[str, float]:
    """The rank where QRPO's targets change sign, and the KL of its optimum from the reference, in nats."""
    return {
        "break_even": float(break_even_quantile(settings.beta, settings.transform)),
        "optimum_kl": float(optimum_kl(settings.beta, settings.transform)),
    }


class RunningMeans:
    """Sums and counts by name."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor], keep: Tensor) -> None:
        """Adds a batch of values, [B] each, of the rows to keep, [B]; nothing waits for the device."""
        count = keep.sum(dtype=wide_dtype(keep.device))
        for name, value in values.items():
            entry = torch.stack([widened(value.detach()).masked_fill(~keep, 0.0).sum(), count])
            self._sums[name] = self._sums[name] + entry if name in self._sums else entry

    def take(self, total: Callable[[Tensor], Tensor] = lambda sums: sums) -> dict[str, float]:
        """Returns the means and resets the sums.

        Args:
            total: sums a tensor over processes; all processes must call this at the same time.
        """
        sums, self._sums = self._sums, {}
        if not sums:
            return {}
        value, count = total(torch.stack(list(sums.values()))).unbind(1)
        return dict(zip(sums, (value / count).tolist(), strict=True))


def _wins(sides: Sides, rewards: Mapping[str, Tensor], settings: Settings) -> Tensor:
    """1 if the chosen response has the larger reward, 0 if the smaller, .5 if rounding decides, [B].

    A log-probability is accurate up to a few units in the last place of its terms; the error depends on the
    processor and on the other packed sequences. A reward is a difference of two, times beta.
    """
    rounding: float | Tensor = 0.0
    for responses in sides.values():
        log_probs, reference = responses.log_probs.detach(), responses.reference_log_probs
        unit = _LAST_PLACES * torch.finfo(log_probs.dtype).eps
        size = log_probs.abs() + _LOGIT * responses.num_tokens
        if reference is None:
            rounding = rounding + unit * settings.beta * size / responses.num_tokens
        else:
            rounding = rounding + unit * row_beta(responses, settings) * (size + reference.abs())
    margin = rewards["chosen"] - rewards["rejected"]
    return torch.where(margin.abs() <= rounding, 0.5, (margin > 0).to(margin.dtype))


def _implicit_reward(responses: Responses, settings: Settings) -> Tensor:
    log_probs = responses.log_probs.detach()
    if responses.reference_log_probs is None:
        return settings.beta * log_probs / responses.num_tokens
    return row_beta(responses, settings) * (log_probs - responses.reference_log_probs)
