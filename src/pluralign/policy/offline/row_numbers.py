"""Numbers of prepared rows: rewards, quantile rewards, partition functions.

In: a training table and its tokenized rows. Out: columns of float64, [rows] each:

    reward_{side}          the reward as given
    rank_{side}            its quantile reward among the references of the prompt
    log_partition_{side}   log Z of the prompt's own references, with partition=finite
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.losses.partition import log_partition
from pluralign.policy.offline.config import OfflineConfig
from pluralign.policy.offline.objectives import Objective, Responses, Settings, row_beta
from pluralign.policy.rewards.columns import REFERENCES, REWARDS, among_references
from pluralign.policy.rewards.diagnostics import (
    MANY_MATCHES,
    MANY_TIES,
    UNKNOWN_AMONG,
    clamp_where_needed,
    tie_probability,
)
from pluralign.policy.rewards.ranks import (
    matched_share,
    num_references,
    pad_references,
    quantile_rewards,
    reference_ranks,
)

__all__ = ["row_numbers"]

_log = logging.getLogger("pluralign.policy")


def row_numbers(
    table: Any,
    rows: Any,
    shape: Any,
    sides: Sequence[str],
    places: Sequence[int],
    config: OfflineConfig,
    objective: Objective,
    name: str,
) -> dict[str, Tensor]:
    """The columns of numbers that the objective needs, [rows] each.

    Args:
        table: the training table.
        rows: its rows, tokenized.
        shape: shape of the table, one of `rewards.columns`.
        sides: names of the responses of a row.
        places: their places among the columns of the shape.
        config: how ranks are counted.
        objective: the objective that the numbers are for.
        name: name of the table in messages.

    Raises:
        ArgumentError: a finite partition needs more references than a row has.
    """
    found: dict[str, Tensor] = {}
    if not objective.rewards:
        return found
    rewards = {
        side: torch.tensor(table[REWARDS[shape][place]], dtype=torch.float64)
        for side, place in zip(sides, places, strict=True)
    }
    found |= {f"reward_{side}": values for side, values in rewards.items()}
    if not objective.ranks:
        return found
    references, keep = pad_references(table[REFERENCES])
    ties = tie_probability(references, keep)
    if ties > MANY_TIES and config.partition == "exact":
        _log.warning(
            "%s: two references of a prompt tie with probability %.1f %%, but the partition function is that "
            "of continuous rewards; partition=finite accounts for ties",
            *(name, 100 * ties),
        )
    generator = torch.Generator().manual_seed(config.seed)
    said = among_references(table)
    own: Any = config.leave_one_out
    if own is None and said is not None:
        own = torch.tensor(said)
    if own is None:
        shares = [matched_share(values, references, keep) for values in rewards.values()]
        matched = sum(shares) / len(shares)
        if matched >= MANY_MATCHES:
            _log.warning("%s: %.1f %% %s", name, 100 * matched, UNKNOWN_AMONG)
    for side, values in rewards.items():
        ranks = quantile_rewards(values, references, config.estimator, own, keep, generator)
        counts = num_references(values, references, own, keep)
        found[f"rank_{side}"] = clamp_where_needed(ranks, counts, config.transform)
        if config.partition == "finite":
            lengths = torch.tensor(rows[f"tokens_{side}"][:])
            settings = config.settings_of(objective)
            found[f"log_partition_{side}"] = _finite(references, keep, lengths, config, settings, generator)
    return found


def _finite(
    references: Tensor,
    keep: Tensor,
    lengths: Tensor,
    config: OfflineConfig,
    settings: Settings,
    generator: torch.Generator,
) -> Tensor:
    """log Z of each prompt's own references, at the beta of the response."""
    if int(keep.sum(-1).min()) < 2:
        raise ArgumentError(
            "partition=finite needs two reference rewards per prompt; some rows have only one"
        )
    ranks = reference_ranks(references, config.estimator, True, keep, generator)
    ranks = clamp_where_needed(ranks, keep.sum(-1, keepdim=True) - 1, config.transform)
    beta = row_beta(Responses(torch.zeros(len(lengths)), lengths), settings)
    return log_partition(beta, config.transform, ranks, keep)
