"""The distance of an objective's optimum from the reference, reported before training.

In: a training table, its tokenized rows, the settings. Out: KL(pi* || ref) in nats and how it was computed,
or why it is unknown.

    qrpo, qrpo_absolute   exact, from beta and the transform; with the finite partition function from the
                          ranks of the references; with beta / |y| the mean over responses
    rebel                 from exp(reward / beta) on the reference rewards, if the table has them; with n of
                          them it is at most log n
    dpo, simpo, others    unknown: preferences do not say by how much a response is better
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pluralign.data.numbers import is_finite_number
from pluralign.losses.partition import optimum_kl
from pluralign.policy.offline.config import OfflineConfig
from pluralign.policy.offline.objectives import OBJECTIVES, Objective, Responses, row_beta
from pluralign.policy.rewards.columns import REFERENCES
from pluralign.policy.rewards.diagnostics import clamp_where_needed
from pluralign.policy.rewards.ranks import pad_references, reference_ranks

__all__ = ["SURVIVED_KL", "Optimum", "optimum_of"]

# The most distant optimum, in nats, that did a policy of the lab no harm (docs/results.md,
# "Gold at equal distance", 5 seeds). QRPO at beta .3 (.36 nats) gained .26 gold; at .1 (1.30 nats) it gained
# nothing [-.10, .19] and broke 12 percentage points more texts; at .03 (2.5 nats) it lost 1.1 [-1.9, -.3],
# and 68 % of its texts were broken.
SURVIVED_KL = 1.31


@dataclass(frozen=True)
class Optimum:
    """The distance of a perfectly fitted policy.

    Attributes:
        kl: in nats, a mean over prompts or responses if they differ; None if it is unknown.
        how: how it was computed, or why it is unknown.
    """

    kl: float | None
    how: str

    def __str__(self) -> str:
        """One line."""
        if self.kl is None:
            return f"KL of the optimum: unknown; {self.how}"
        return f"KL of the optimum: {self.kl:.2f} nats ({self.how})"

    @property
    def warning(self) -> str | None:
        """A warning if it is further than the lab's policies could go without harm; else None."""
        if self.kl is None or self.kl <= SURVIVED_KL:
            return None
        return (
            f"the optimum for this beta is at {self.kl:.1f} nats of KL, too far for the policies of our lab: "
            "with 1.3 nats they gained nothing, with 2.5 they broke 68 % of their texts. The lab's policies "
            "are small; raise beta, or watch samples at each evaluation (docs/how-to/align.md)"
        )


def optimum_of(table: Any, rows: Any, config: OfflineConfig, objective: Objective) -> Optimum:
    """The optimum of an objective on a training table.

    Args:
        table: the table, checked by `prepare`.
        rows: the rows from `prepare`.
        config: configuration of the training.
        objective: the objective.
    """
    settings = config.settings_of(objective)
    name = next((name for name, known in OBJECTIVES.items() if known is objective), None)
    if name in ("qrpo", "qrpo_absolute"):
        beta = f"beta {settings.beta:g}"
        columns = [column for column in rows.column_names if column.startswith("tokens_")]
        lengths = [torch.tensor(rows[column][:]) for column in columns]
        betas = [row_beta(Responses(torch.zeros(len(one)), one), settings) for one in lengths]
        if settings.length_normalized:
            beta += " / length, on average"
        if config.partition == "finite":
            found = [_of_references(table, one, config) for one in betas]
            return Optimum(_mean(found), f"{beta}, {config.transform}, on the ranks of the references")
        found = [optimum_kl(one, config.transform) for one in betas]
        return Optimum(_mean(found), f"{beta}, {config.transform}")
    if name == "rebel" and not config.length_normalized and _has_references(table):
        kl = _of_rewards(table, settings.beta)
        return Optimum(kl, f"beta {settings.beta:g}, a lower estimate from the reference rewards")
    return Optimum(None, f"it cannot be computed from this data for {name or 'this objective'}")


def _mean(parts: list[Any]) -> float:
    return float(torch.cat([part.reshape(-1) for part in parts]).mean())


def _of_references(table: Any, beta: float | Tensor, config: OfflineConfig) -> Tensor:
    """The optimum of each prompt under the finite partition function, [rows]."""
    references, keep = pad_references(table[REFERENCES])
    generator = torch.Generator().manual_seed(config.seed)
    ranks = reference_ranks(references, config.estimator, True, keep, generator)
    ranks = clamp_where_needed(ranks, keep.sum(-1, keepdim=True) - 1, config.transform)
    return optimum_kl(beta, config.transform, ranks, keep)


def _has_references(table: Any) -> bool:
    """Whether every row has finite reference rewards, which REBEL itself does not need or check."""
    return REFERENCES in table.column_names and all(
        isinstance(row, list) and len(row) > 0 and all(map(is_finite_number, row))
        for row in table[REFERENCES]
    )


def _of_rewards(table: Any, beta: float) -> float:
    """Mean over prompts of the KL of the references weighted by exp(reward / beta) from equal weights.

    Scaling rewards to [0, 1] and beta by the same factor gives the identity transform; ties give 0.
    """
    references, keep = pad_references(table[REFERENCES])
    low = references.masked_fill(~keep, math.inf).amin(-1, keepdim=True)
    spread = (references.masked_fill(~keep, -math.inf).amax(-1, keepdim=True) - low).squeeze(-1)
    apart = spread > 0
    if not bool(apart.any()):
        return 0.0
    shares = ((references - low)[apart] / spread[apart, None]).clamp(0, 1)
    found = optimum_kl(beta / spread[apart], reference_ranks=shares, keep_mask=keep[apart])
    return float(found.sum()) / len(references)
