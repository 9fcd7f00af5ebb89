"""Updates of policy and critic: epochs of minibatches over a batch of rollouts, in micro-batches.

In: rollouts and their rewards. Out: changed weights, and metrics of the update. Optimizer and schedule are
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pluralign.errors import ConfigError
from pluralign.policy.online.config import PPOConfig
from pluralign.policy.online.critic_targets import baseline_of
from pluralign.policy.online.models import Models
from pluralign.policy.online.normalization import Moments
from pluralign.policy.online.processes import sum_over
from pluralign.policy.online.rollouts import Rollout, keep_masks
from pluralign.policy.online.shaping import shape
from pluralign.policy.online.step_metrics import step_metrics
from pluralign.policy.online.update_loss import Drawn, update_loss
from pluralign.policy.rewards.scoring import ResponseScores
from pluralign.precision import widened

__all__ = ["Updates"]


class Updates:
    """Changes the weights of an online run.

    Args:
        models: the models, on their device.
        config: configuration of the run.
        accelerator: accelerator of the run.

    Attributes:
        optimizer: AdamW; the policy's weights are its first group, the critic's its second.
        schedule: schedule of the learning rate, one step per minibatch.

    Raises:
        ConfigError: there is no such schedule.
    """

    def __init__(self, models: Models, config: PPOConfig, accelerator: Any) -> None:
        from transformers import get_scheduler

        self._models, self._config, self._accelerator = models, config, accelerator
        self._value_error = config.value_error
        policy = [p for p in models.policy.parameters() if p.requires_grad]
        groups = [{"params": policy, "lr": config.learning_rate}]
        if models.plain.critic is not None:
            critic = [p for p in models.plain.critic.parameters() if p.requires_grad]
            groups.append({"params": critic, "lr": config.critic_learning_rate})
        fused = accelerator.device.type in ("cpu", "cuda")  # a pass over memory where there would be ten
        self.optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=fused)
        total = config.steps * config.epochs * config.minibatches
        try:
            self.schedule = get_scheduler(
                config.lr_scheduler, self.optimizer, round(total * config.warmup_share), total
            )
        except ValueError as error:
            raise ConfigError(f"lr_scheduler: received {config.lr_scheduler!r}: {error}") from error

    def learn(
        self, rollouts: Sequence[Rollout], scores: ResponseScores, moments: Moments, seed: int
    ) -> tuple[dict[str, float], Moments]:
        """Everything after the reward: log-probabilities, advantages, epochs of minibatches.

        Args:
            rollouts: B rollouts of this process.
            scores: their rewards.
            moments: of the rewards of earlier steps.
            seed: of the order of minibatches.

        Returns:
            Metrics of the step, and the moments including this step's rewards.
        """
        config, device = self._config, self._accelerator.device
        keep = keep_masks(rollouts, device)
        log_probs, values = self._models.scores(rollouts, keep.shape[1])
        reference = self._models.reference_scores(rollouts, keep.shape[1])
        baseline = None if values is None else baseline_of(values, config.critic_baseline)
        ended = torch.tensor([one.ended for one in rollouts], device=device)
        shaped = shape(
            scores.utilities.to(device),
            ended,
            log_probs,
            reference,
            baseline,
            keep,
            [one.group for one in rollouts],
            moments,
            config.shaping,
            partial(sum_over, self._accelerator),
        )
        drawn = Drawn(log_probs, keep, shaped.advantages, shaped.token_rewards, values, shaped.returns)
        metrics = step_metrics(scores, ended, log_probs, reference, keep, shaped, baseline)
        return metrics | self(rollouts, drawn, torch.Generator().manual_seed(seed)), shaped.moments

    def __call__(
        self, rollouts: Sequence[Rollout], drawn: Drawn, generator: torch.Generator
    ) -> dict[str, float]:
        """All epochs; means over their tokens, and the worst ratio of the first minibatch.

        Args:
            rollouts: B rollouts of this process.
            drawn: their tokens.
            generator: random generator for the order of minibatches.
        """
        config, tokens = self._config, 0
        totals: dict[str, Tensor] = {}
        norms: list[Tensor] = []
        errors: list[Tensor] = []
        for _ in range(config.epochs):
            order = torch.randperm(len(rollouts), generator=generator)
            for batch in order.tensor_split(config.minibatches):
                sums, count, worst, norm = self._minibatch(rollouts, drawn, batch)
                errors.append(worst)
                norms.append(norm)
                tokens += count
                for key, value in sums.items():
                    totals[key] = totals.get(key, 0.0) + widened(value)
        found = {key: value / max(tokens, 1) for key, value in totals.items()}
        found["grad_norm"] = widened(torch.stack(norms)).mean()
        found["first_ratio_error"] = widened(errors[0])
        # The one place where an update waits for the device.
        read = dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True))
        metrics = {f"update/{key}": value for key, value in read.items()}
        return metrics | {"learning_rate": self.optimizer.param_groups[0]["lr"]}

    def _minibatch(
        self, rollouts: Sequence[Rollout], drawn: Drawn, batch: Tensor
    ) -> tuple[dict[str, Tensor], int, Tensor, Tensor]:
        """One optimizer step: sums over its tokens, their number, the worst ratio, the norm."""
        config, module = self._config, self._models.module
        world = self._accelerator.num_processes
        count = sum(sum(rollouts[place].chosen) for place in batch.tolist())
        counted = torch.full((), count, dtype=torch.float64, device=drawn.log_probs.device)
        whole = sum_over(self._accelerator, counted).clamp(min=1)
        sums: dict[str, Tensor] = {}
        worst = torch.zeros((), device=drawn.log_probs.device)
        parts = torch.split(batch, config.micro_batch_size)
        module.train()
        for number, part in enumerate(parts, start=1):
            some = drawn.rows(part.to(drawn.log_probs.device))
            waits = number < len(parts) and world > 1 and not self._models.sharded
            with self._accelerator.no_sync(module) if waits else nullcontext():
                log_probs, values = self._models.forward(
                    [rollouts[place] for place in part.tolist()], drawn.log_probs.shape[1]
                )
                loss, found = update_loss(
                    log_probs, values, some, config.clip, self._value_error, config.value_weight
                )
                # Processes average their gradients; the factor turns the mean into a sum over all tokens.
                self._accelerator.backward(loss * (world / whole).to(loss.dtype))
            moved = (log_probs.detach() - some.log_probs).masked_fill(~some.keep_mask, 0.0)
            worst = torch.maximum(worst, (moved.exp() - 1).abs().max())
            sums = {key: sums.get(key, 0.0) + value for key, value in found.items()}
        if self._models.sharded:
            self._average_critic()
        norm = self._clip_gradients()
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return sums, count, worst, norm

    def _clip_gradients(self) -> Tensor:
        """The policy's norm before it is clipped, with the critic's where they share weights."""
        limit = self._config.max_grad_norm or float("inf")
        parts = [group["params"] for group in self.optimizer.param_groups]
        if self._models.sharded:
            return _clip_shards(parts, limit)
        if self._models.plain.shares_weights:
            parts = [[weight for part in parts for weight in part]]
        norms = [torch.nn.utils.clip_grad_norm_(part, limit) for part in parts]
        return norms[0]

    def _average_critic(self) -> None:
        """The gradient of the value head, which FSDP does not shard, over processes."""
        critic = self._models.plain.critic
        for weight in critic.parameters() if critic is not None else ():
            weight.grad = self._accelerator.reduce(weight.grad, "mean")


def _clip_shards(parts: Sequence[Sequence[Tensor]], limit: float) -> Tensor:
    """Clips the norm over all parts, shards of the policy and a whole value head; the norm before."""
    norms = [torch.nn.utils.get_total_norm([w.grad for w in part if w.grad is not None]) for part in parts]
    total: Tensor = torch.stack([n.full_tensor() if hasattr(n, "full_tensor") else n for n in norms]).norm()
    for part in parts:
        torch.nn.utils.clip_grads_with_norm_(part, limit, total)
    return total
