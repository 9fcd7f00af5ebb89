"""A batch of reward distributions as JSON: what kind each is, its parameters, and numbers that need no
formula.

In: a `RewardDistribution`. Out: one dictionary per row; `getattr(pl, kind)(**parameters)` is the distribution
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pluralign.distributions import RewardDistribution

__all__ = ["LEVELS", "records"]

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


def records(distribution: RewardDistribution, levels: Sequence[float]) -> list[dict[str, Any]]:
    """One dictionary per row: kind, mean, std, the quantiles at `levels`, and the parameters.

    Args:
        distribution: of B rewards.
        levels: in [0, 1].

    Raises:
        ArgumentError: a level is out of range.
    """
    wanted = torch.tensor(levels, dtype=distribution.dtype, device=distribution.device)
    columns = {
        "mean": distribution.mean().tolist(),
        "std": distribution.std().tolist(),
        "quantiles": distribution.quantile(wanted).tolist(),
    }
    written = _parameters(distribution)
    return [
        {"kind": type(distribution).__name__, "levels": list(levels)}
        | {name: values[row] for name, values in columns.items()}
        | written[row]
        for row in range(len(distribution))
    ]


def _parameters(distribution: RewardDistribution) -> list[dict[str, Any]]:
    """The parameters of each row; of an ensemble its members' too."""
    own, shared, members = distribution.parameters()
    common = {name: tensor.tolist() for name, tensor in shared.items()}
    columns = {name: tensor.tolist() for name, tensor in own.items()}
    found: list[dict[str, Any]] = [
        {"parameters": {name: values[row] for name, values in columns.items()} | common}
        for row in range(len(distribution))
    ]
    for member in members:
        kind = type(member).__name__
        for row, one in enumerate(_parameters(member)):
            found[row].setdefault("members", []).append({"kind": kind} | one)
    return found
