"""What every recipe receives and returns. It knows tables and embeddings, no family."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pluralign.data import deal_groups
from pluralign.errors import DataError
from pluralign.fitting.train.journal import Journal
from pluralign.heads import Head

if TYPE_CHECKING:
    import datasets

    from pluralign.backbones import Embeddings

__all__ = ["Fitted", "Inputs", "best_penalty", "first_smallest", "fold_of", "judged_folds"]

NUM_FOLDS = 5
MANY_ROWS = 10_000  # from here on one held-out fold tells penalties apart, and five would take long
_CLEARLY = 1e-4
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Inputs:
    """Data and services of one fit.

    Attributes:
        ratings: the ratings table, if there is one.
        pairs: the pairs table, if there is one.
        votes: the comparisons table, if there is one.
        embed: conversations to embeddings.
        journal: remembers finished steps.
        report: receives one line of text per stage.
    """

    ratings: datasets.Dataset | None
    pairs: datasets.Dataset | None
    votes: datasets.Dataset | None
    embed: Callable[[Sequence[Any]], Embeddings]
    journal: Journal
    report: Callable[[str], None]


@dataclass(frozen=True)
class Fitted:
    """A head, other heads to compare with, and a JSON-able summary of how it came about."""

    head: Head
    baselines: Mapping[str, Head] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)


def fold_of(groups: Sequence[str], seed: int, *, what: str) -> Tensor:
    """The fold of each row, 0 to 4 at most, as `data.deal_groups` deals groups. [N] -> [N]

    Args:
        groups: the group of each row.
        seed: another seed, another dealing.
        what: the field that is chosen on held-out groups, for the error.

    Raises:
        DataError: there is only one group, so none can be held out.
    """
    names = set(groups)
    if len(names) < 2:
        raise DataError(
            f"choosing {what} takes held-out groups, but the data has only {len(names)} group; "
            f"set {what} yourself or give rows of different prompts different groups"
        )
    fold = deal_groups(names, NUM_FOLDS, seed)
    return torch.tensor([fold[group] for group in groups])


def judged_folds(fold: Tensor) -> range:
    """The folds that are held out in turn: all, or only the first where there are many rows."""
    return range(int(fold.max()) + 1) if len(fold) < MANY_ROWS else range(1)


def first_smallest(losses: Sequence[float]) -> int:
    """Position of the smallest loss; of those that are equal up to rounding, the first.

    A loss that is not a number never is the smallest, unless all are.
    """
    least = min((loss for loss in losses if not math.isnan(loss)), default=math.nan)
    near = (i for i, loss in enumerate(losses) if loss <= least + _ROUNDING * abs(least))
    return next(near, 0)


def best_penalty(
    grid: Sequence[float], held_out_loss: Callable[[float], float]
) -> tuple[float, dict[float, float]]:
    """The penalty with the smallest held-out loss, searched from the largest down.

    Better means better beyond rounding, so that the choice does not depend on the processor.
    The search ends after two penalties in a row that do clearly worse (by a share of 1e-4) than the best so
    far: held-out loss falls and then rises along the path, and the smallest penalties are by far the slowest
    to fit. Penalties that are all so large that nothing is left of the weights tie, which is not worse.

    Returns:
        The best penalty, the larger of equals, and the losses that were computed.
    """
    losses: dict[float, float] = {}
    best, worse = 0.0, 0
    for penalty in sorted(set(grid), reverse=True):
        losses[penalty] = held_out_loss(penalty)
        if len(losses) == 1 or first_smallest((losses[best], losses[penalty])) == 1:
            best, worse = penalty, 0
        elif losses[penalty] > losses[best] * (1 + _CLEARLY):
            worse += 1
            if worse == 2:
                break
    return best, losses
