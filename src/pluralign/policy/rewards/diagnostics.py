"""A diagnosis of quantile rewards before training: ties, target signs, distance of the optimum.

In: rewards, reference rewards, the weight of the KL penalty. Out: a `Diagnosis`, which prints as a table.
Notation as in `ranks` and `losses.transforms`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.losses.partition import break_even_quantile, log_partition, optimum_kl
from pluralign.losses.policy import qrpo_target
from pluralign.losses.transforms import TransformLike, parse_transform
from pluralign.policy.rewards.columns import REFERENCES, REWARDS, among_references, check_training_table
from pluralign.policy.rewards.ranks import (
    Estimator,
    clamp_ranks,
    matched_share,
    num_references,
    pad_references,
    quantile_rewards,
    reference_ranks,
    tied_prompts,
)
from pluralign.policy.rewards.tensors import Flags, Mask, ReferenceRewards, Rewards

__all__ = [
    "MANY_MATCHES",
    "MANY_TIES",
    "UNKNOWN_AMONG",
    "Diagnosis",
    "diagnose",
    "diagnose_table",
    "tie_probability",
]

MANY_TIES = 0.01  # above this the exact partition function, that of continuous rewards, is misleading
MANY_MATCHES = (
    0.5  # responses with exactly a reference's reward, where nothing says which of them are references
)
UNKNOWN_AMONG = (
    "of responses have exactly the reward of one of their references, but it is not known whether they are "
    "references themselves, so none is left out of its own rank: set leave_one_out to true or false, or add "
    "a column among_references to the table"
)


@dataclass(frozen=True)
class Diagnosis:
    """Properties of the data and of the optimum for beta.

    Attributes:
        responses: number of training responses.
        references: (minimum, maximum) number of references of a response's prompt, without the response.
        among_references: share of responses that are marked as being among their own references.
        tied_prompts: share of responses whose references, two or more, all have the same reward: nothing can
            be learned from them.
        tie_probability: probability that two references of one prompt have equal rewards; 0 for continuous
            rewards, 1/2 for a coin. The finite partition function is recommended from .01.
        mean_rank: mean quantile reward; about 1/2 for responses of the reference policy itself.
        break_even: the rank above which a response should become more probable, under the exact Z.
        positive_share: share of responses with a positive target, under the exact Z.
        positive_share_finite: the same under the finite Z of each prompt's references.
        optimum_kl: KL(pi* || ref) in nats of the optimal policy.
        largest_log_ratio: largest target of log pi - log ref among the responses, in nats.
        partition: the Z that training will use, exact or finite; the advice depends on it.
        unsaid_matches: share of responses whose reward is exactly that of a reference, if it is not known
            whether they are references themselves; 0 if it is known.
    """

    responses: int
    references: tuple[int, int]
    among_references: float
    tied_prompts: float
    tie_probability: float
    mean_rank: float
    break_even: float
    positive_share: float
    positive_share_finite: float
    optimum_kl: float
    largest_log_ratio: float
    partition: str = "exact"
    unsaid_matches: float = 0.0

    @property
    def advice(self) -> tuple[str, ...]:
        """What to change before training; empty if there is nothing."""
        notes = []
        if self.unsaid_matches >= MANY_MATCHES:
            notes.append(f"{self.unsaid_matches:.1%} {UNKNOWN_AMONG}")
        if self.tied_prompts > 0:
            notes.append(f"{self.tied_prompts:.1%} of responses have references that all tie; leave them out")
        finite = self.partition == "finite"
        if self.tie_probability > MANY_TIES and not finite:
            notes.append("rewards have atoms: use the finite partition function (--partition finite)")
        if (self.positive_share_finite if finite else self.positive_share) < 0.01:
            notes.append("very few responses have a positive target; raise beta")
        if math.isnan(self.positive_share_finite):
            notes.append("the finite partition function needs two references per prompt; some have only one")
        return tuple(notes)

    def __str__(self) -> str:
        """A table with one line per number, then the advice."""
        (fewest, most), finite = self.references, self.positive_share_finite
        lines = {
            "training responses": f"{self.responses:,}",
            "references per response": f"{fewest}" if fewest == most else f"{fewest} to {most}",
            "among their own references": f"{self.among_references:.1%}",
            "references all tie": f"{self.tied_prompts:.1%}",
            "two references tie": f"{self.tie_probability:.1%}",
            "mean quantile reward": f"{self.mean_rank:.3f}",
            "break-even quantile": f"{self.break_even:.4f}",
            "positive targets, exact Z": f"{self.positive_share:.1%}",
            "positive targets, finite Z": "-" if math.isnan(finite) else f"{finite:.1%}",
            "KL of the optimum": f"{self.optimum_kl:.3f} nats",
            "largest target log-ratio": f"{self.largest_log_ratio:.2f} nats",
        }
        width = max(map(len, lines))
        table = [f"{name:<{width}}  {value}" for name, value in lines.items()]
        return "\n".join([*table, *(f"! {note}" for note in self.advice)])


def diagnose(
    rewards: Rewards,
    reference_rewards: ReferenceRewards,
    beta: float,
    transform: TransformLike = "identity",
    estimator: str | Estimator = "mid",
    leave_one_out: Flags | None = None,
    keep_mask: Mask | None = None,
    generator: torch.Generator | None = None,
    partition: str = "exact",
) -> Diagnosis:
    """Diagnoses QRPO with these settings on these responses.

    Args:
        rewards: rewards of the training responses, [B].
        reference_rewards: [B, N].
        beta: b > 0.
        transform: f; ranks are clamped to [1/(2n), 1 - 1/(2n)] if it is infinite at 0 or 1.
        estimator: as in `quantile_rewards`.
        leave_one_out: as in `quantile_rewards`.
        keep_mask: as in `quantile_rewards`.
        generator: as in `quantile_rewards`.
        partition: the Z that training will use, exact or finite.

    Returns:
        The diagnosis; `print` it.

    Raises:
        ArgumentError: as for `quantile_rewards`, there are no responses, or b is not positive.
    """
    ranks = quantile_rewards(rewards, reference_rewards, estimator, leave_one_out, keep_mask, generator)
    if not len(ranks):
        raise ArgumentError("diagnose: received no responses; at least one is needed")
    counts = num_references(rewards, reference_rewards, leave_one_out, keep_mask)
    references = torch.as_tensor(reference_rewards, dtype=torch.float64)
    keep = torch.ones_like(references, dtype=torch.bool) if keep_mask is None else torch.as_tensor(keep_mask)
    kept = keep.sum(-1)
    target = qrpo_target(clamp_where_needed(ranks, counts, transform), beta, transform)
    return Diagnosis(
        responses=len(ranks),
        references=(int(counts.min()), int(counts.max())),
        among_references=float((kept > counts).double().mean()),
        tied_prompts=float((tied_prompts(references, keep) & (kept > 1)).double().mean()),
        tie_probability=tie_probability(references, keep),
        mean_rank=float(ranks.mean()),
        break_even=float(break_even_quantile(beta, transform)),
        positive_share=float((target > 0).double().mean()),
        positive_share_finite=_positive_finite(
            ranks, references, counts, beta, transform, estimator, keep, generator
        ),
        optimum_kl=float(optimum_kl(beta, transform)),
        largest_log_ratio=float(target.max()) / beta,
        partition=partition,
        unsaid_matches=0.0
        if leave_one_out is not None
        else matched_share(rewards, reference_rewards, keep_mask),
    )


def diagnose_table(table: Any, beta: float, **options: Any) -> Diagnosis:
    """`diagnose` for a training table, with both responses of pairs.

    Args:
        table: a table as in `columns`, with rewards and ref_rewards.
        beta: b > 0.
        options: further arguments of `diagnose`. If `leave_one_out` is not given or None, it is taken from
            the table's column `among_references`, if there is one.

    Raises:
        DataError: it is not a training table.
        ArgumentError: as for `diagnose`.
    """
    shape = check_training_table(table)
    sides = REWARDS[shape]
    references, keep = pad_references(table[REFERENCES])
    rewards = torch.cat([torch.tensor(table[side], dtype=torch.float64) for side in sides])
    said = among_references(table)
    if said is not None and options.get("leave_one_out") is None:
        options["leave_one_out"] = torch.tensor(said).repeat(len(sides))
    return diagnose(
        rewards, references.repeat(len(sides), 1), beta, keep_mask=keep.repeat(len(sides), 1), **options
    )


def clamp_where_needed(ranks: Tensor, counts: Tensor, transform: TransformLike) -> Tensor:
    """The ranks, clamped by `clamp_ranks` if the transform is infinite at 0 or 1.

    Args:
        ranks: in [0, 1], [B] or [B, N].
        counts: number of references of each rank, broadcasting with `ranks`.
        transform: f.
    """
    ends = parse_transform(transform)(torch.tensor([0.0, 1.0], dtype=torch.float64))
    return ranks if bool(ends.isfinite().all()) else clamp_ranks(ranks, counts)


def tie_probability(references: Float[Tensor, "B N"], keep: Bool[Tensor, "B N"]) -> float:
    """Probability that two references of a prompt have equal rewards, averaged over prompts.

    Args:
        references: rewards, [B, N].
        keep: false for padding.

    Returns:
        In [0, 1]; 0 if no prompt has two references.
    """
    values = references.masked_fill(~keep, math.nan).sort(-1).values  # NaN is last and equals nothing
    equal = torch.zeros(len(values), dtype=torch.float64)
    for distance in range(1, values.shape[-1]):  # equal values are adjacent
        equal += (values[:, distance:] == values[:, :-distance]).sum(-1)
    count = keep.sum(-1).double()
    shares = (2 * equal / (count * (count - 1)))[count > 1]
    return float(shares.mean()) if len(shares) else 0.0


def _positive_finite(
    ranks: Tensor,
    references: Tensor,
    counts: Tensor,
    beta: float,
    transform: TransformLike,
    estimator: str | Estimator,
    keep: Tensor,
    generator: torch.Generator | None,
) -> float:
    """Share of positive targets under the finite Z; NaN if a prompt has a single reference."""
    if int(keep.sum(-1).min()) < 2:
        return math.nan
    others = reference_ranks(references, estimator, True, keep, generator)
    others = clamp_where_needed(others, keep.sum(-1, keepdim=True) - 1, transform)
    log_z = log_partition(beta, transform, others, keep)
    target = qrpo_target(clamp_where_needed(ranks, counts, transform), beta, transform, log_z)
    return float((target > 1e-12).double().mean())
