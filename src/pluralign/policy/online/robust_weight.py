"""The weight w of `robust:w` during a run: lower where heads disagree more than about the reference.

In: the rewards of each step. Out: the measure of the next step, set in the scorer. The rule is
`risk.robust_weight_from_disagreement`.
"""

from __future__ import annotations

from typing import Any

import torch

from pluralign import risk
from pluralign.errors import ConfigError
from pluralign.model.profiles import heads_of
from pluralign.policy.online.config import PPOConfig
from pluralign.policy.online.processes import sum_over
from pluralign.policy.online.scoring import RolloutScorer
from pluralign.policy.rewards.scoring import ResponseScores
from pluralign.risk.robust_weight import variance_between_heads

__all__ = ["RobustWeight"]


class RobustWeight:
    """Adapts the measure of a scorer after each step, if the configuration says so.

    Args:
        config: configuration of the run.
        scorer: computes the rewards of rollouts.
        accelerator: accelerator of the run.

    Attributes:
        reference_variance: between heads, over the first step's responses; None before.
    """

    def __init__(self, config: PPOConfig, scorer: RolloutScorer, accelerator: Any) -> None:
        self._config, self._scorer, self._accelerator = config, scorer, accelerator
        self.reference_variance: float | None = None

    def after(self, scores: ResponseScores) -> dict[str, float]:
        """Sets the w of the next step from how far heads disagree; metrics of this step.

        Raises:
            ConfigError: the reward has no heads.
        """
        if self._config.robust_weight == "fixed":
            return {}
        heads = heads_of(scores.columns)
        if heads is None:
            raise ConfigError(
                "robust_weight: received disagreement; needed: a reward model with several heads"
            )
        count = torch.full((1,), len(heads), dtype=torch.float64)
        sums = torch.cat([count, variance_between_heads(heads).sum()[None]]).to(self._accelerator.device)
        number, total = sum_over(self._accelerator, sums).tolist()
        if self.reference_variance is None:
            self.reference_variance = total / number
        used, most = self._scorer.measure, risk.parse(self._config.risk)
        assert isinstance(used, risk.Robust)  # the config saw to it
        assert isinstance(most, risk.Robust)
        weight = risk.robust_weight_from_disagreement(total / number, self.reference_variance, most.weight)
        self._scorer.measure = risk.Robust(weight)
        return {"reward/robust_weight": used.weight, "reward/variance_between_heads": total / number}

    def state(self) -> dict[str, Any]:
        """What a checkpoint stores of it."""
        return {"reference_variance": self.reference_variance, "risk": str(self._scorer.measure)}

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from `state`, also from a checkpoint that has none."""
        self.reference_variance = state.get("reference_variance")
        self._scorer.measure = risk.parse(state.get("risk", self._scorer.measure))
