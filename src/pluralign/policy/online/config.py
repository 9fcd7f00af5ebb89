"""The settings of `PPOTrainer`, each with its unit, checked on creation.

In: numbers and names. Out: an immutable configuration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pluralign import risk as risk_measures
from pluralign.errors import ConfigError
from pluralign.policy.online.advantages import ADVANTAGES
from pluralign.policy.online.shaping import Shaping
from pluralign.policy.online.update_loss import CriticError, quantile_value_error, scalar_value_error

__all__ = ["PPOConfig"]

_AT_LEAST_ONE = (
    *("steps", "prompts_per_step", "completions", "max_new_tokens", "epochs", "minibatches"),
    *("micro_batch_size", "rollout_batch_size", "logging_steps", "eval_completions"),
    *("critic_quantiles", "critic_steps"),
)
_NOT_NEGATIVE = (
    *("beta", "missing_end_penalty", "clip", "value_clip", "value_weight", "weight_decay", "warmup_share"),
    *("learning_rate", "critic_learning_rate", "max_grad_norm", "save_steps", "eval_steps", "eval_prompts"),
    *("save_total_limit", "reward_retries", "seed", "gamma", "lam", "critic_kappa"),
)


@dataclass(frozen=True)
class PPOConfig:
    """Settings of `PPOTrainer`.

    Responses are sampled at temperature 1 from the whole vocabulary: the sampled distribution is trained.

    Attributes:
        output_dir: Folder for checkpoints, the best policy and metrics.jsonl.
        steps: Total number of batches of rollouts.
        prompts_per_step: Prompts of a batch, over all processes.
        completions: Responses sampled for each prompt.
        max_new_tokens: Maximum number of tokens of a response, including its end token.
        advantages: gae (with a critic), rloo or grpo.
        risk: Risk measure that turns a reward distribution into a number: mean, cvar:0.1, entropic:1,
            robust:0.6 ...
        robust_weight: fixed; or disagreement, to lower the w of robust:w during training as heads disagree
            more about the policy's responses than about the reference's.
        beta: Weight of the KL to the reference, in units of the reward per nat.
        gamma: Discount per token, in [0, 1].
        lam: Decay of gae, in [0, 1].
        normalize_rewards: Subtract the mean of all rewards so far, and divide by their standard deviation.
        missing_end_penalty: Subtracted from the reward of a response without an end token.
        whiten: Whether advantages are whitened; null for yes with gae, and no with rloo and grpo.
        epochs: Passes over each batch.
        minibatches: Optimizer steps per pass.
        micro_batch_size: Responses per forward pass, in training and scoring.
        clip: Change of the probability ratio above which a token has no gradient.
        value_clip: Maximum change of a value, in units of the reward.
        value_weight: Weight of the critic's loss.
        critic_detached: The critic's loss does not change the policy's weights.
        critic_quantiles: Values per token; more than 1 are quantiles of the return, fitted to a mixture over
            n-step returns by quantile regression, without value_clip.
        critic_steps: Maximum number of steps of these returns; the critic's values replace the rest.
        critic_kappa: Error of the critic above which its loss is linear, not quadratic, in units of the
            reward.
        critic_baseline: Baseline of advantages: mean, or a risk measure of the quantiles.
        learning_rate: Maximum learning rate of the policy.
        critic_learning_rate: Maximum learning rate of the critic's head.
        lr_scheduler: Name of a schedule of transformers: linear, cosine, constant ...
        warmup_share: Share of the optimizer steps in which the learning rate rises.
        weight_decay: Weight decay of AdamW.
        max_grad_norm: Maximum norm of a gradient; 0 for no limit.
        seed: Random seed of prompts, responses and minibatches.
        end_token: Token that ends a response; null for the one of the chat template, or without one the
            tokenizer's end-of-sequence token.
        rollout_batch_size: Responses sampled at a time.
        bin_tokens: Number of tokens per row if attention is masked; null for the default of the device.
        log_prob_kernel: Kernels for the logits: plain, compiled, or auto.
        bf16: Compute in bfloat16; null to do so if the GPU supports it.
        use_cpu: Train on the CPU even if there is a GPU.
        reward_retries: Number of further attempts if a reward cannot be reached, before the run stops.
        eval_steps: Steps between evaluations; 0 for one at the end.
        eval_prompts: Maximum number of held-out prompts to sample; 0 for all.
        eval_completions: Responses to each of them.
        best_metric: Metric of evaluations by which the policy in best/ is chosen: reward, gold, kl ...; null
            for gold if there is one, else reward.
        best_is_lowest: A lower best_metric is better.
        save_steps: Steps between checkpoints; 0 for none but the last.
        save_total_limit: Maximum number of checkpoints to keep; 0 for all.
        logging_steps: Steps between lines of metrics.jsonl.
    """

    output_dir: str = "policy"
    steps: int = 100
    prompts_per_step: int = 16
    completions: int = 4
    max_new_tokens: int = 256
    advantages: str = "gae"
    risk: str = "mean"
    robust_weight: Literal["fixed", "disagreement"] = "fixed"
    beta: float = 0.05
    gamma: float = 1.0
    lam: float = 0.95
    normalize_rewards: bool = False
    missing_end_penalty: float = 1.0
    whiten: bool | None = None
    epochs: int = 4
    minibatches: int = 1
    micro_batch_size: int = 16
    clip: float = 0.2
    value_clip: float = 0.2
    value_weight: float = 0.1
    critic_detached: bool = False
    critic_quantiles: int = 1
    critic_steps: int = 32
    critic_kappa: float = 1.0
    critic_baseline: str = "mean"
    learning_rate: float = 1e-6
    critic_learning_rate: float = 1e-4
    lr_scheduler: str = "linear"
    warmup_share: float = 0.0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 0
    end_token: str | None = None
    rollout_batch_size: int = 64
    bin_tokens: int | None = None
    log_prob_kernel: Literal["auto", "plain", "compiled"] = "auto"
    bf16: bool | None = None
    use_cpu: bool = False
    reward_retries: int = 3
    eval_steps: int = 0
    eval_prompts: int = 64
    eval_completions: int = 1
    best_metric: str | None = None
    best_is_lowest: bool = False
    save_steps: int = 0
    save_total_limit: int = 2
    logging_steps: int = 1

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: received {getattr(self, name)}; allowed: at least 1")
        for name in _NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name}: received {getattr(self, name)}; allowed: 0 or more, finite")
        for name in ("gamma", "lam", "warmup_share"):
            if getattr(self, name) > 1:
                raise ConfigError(f"{name}: received {getattr(self, name)}; allowed: at most 1")
        if self.advantages not in ADVANTAGES:
            raise ConfigError(f"advantages: received {self.advantages!r}; allowed: {', '.join(ADVANTAGES)}")
        fewest = ADVANTAGES[self.advantages].completions
        if self.completions < fewest:
            raise ConfigError(
                f"completions: received {self.completions}; {self.advantages} compares responses to one "
                f"prompt, so at least {fewest} are needed"
            )
        if self.minibatches > self.prompts_per_step * self.completions:
            raise ConfigError(
                f"minibatches: received {self.minibatches}; allowed: at most the "
                f"{self.prompts_per_step * self.completions} responses of a step"
            )
        measure = risk_measures.parse(self.risk)
        if self.robust_weight not in ("fixed", "disagreement"):
            raise ConfigError(f"robust_weight: received {self.robust_weight!r}; allowed: fixed, disagreement")
        if self.robust_weight != "fixed" and not (
            isinstance(measure, risk_measures.Robust) and measure.weight > 0
        ):
            raise ConfigError(
                f"robust_weight: received {self.robust_weight!r} with risk {self.risk!r}; it lowers the w of "
                "robust:w, so risk must be robust:w with w above 0"
            )
        if str(risk_measures.parse(self.critic_baseline)) != "mean" and self.critic_quantiles == 1:
            raise ConfigError(
                f"critic_baseline: received {self.critic_baseline!r}; a risk measure of values needs "
                "critic_quantiles of more than 1"
            )

    @property
    def shaping(self) -> Shaping:
        """The settings of the steps from utilities to advantages."""
        whiten = ADVANTAGES[self.advantages].whiten if self.whiten is None else self.whiten
        return Shaping(
            self.advantages,
            self.beta,
            self.gamma,
            self.lam,
            self.normalize_rewards,
            self.missing_end_penalty,
            whiten,
        )

    @property
    def value_error(self) -> CriticError:
        """The training error of the critic."""
        if self.critic_quantiles == 1:
            return scalar_value_error(self.value_clip)
        return quantile_value_error(
            self.critic_quantiles, self.gamma, self.lam, self.critic_steps, self.critic_kappa
        )
