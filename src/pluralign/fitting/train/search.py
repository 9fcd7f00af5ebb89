"""The one search for a penalty: that of a grid with the least loss on groups that a fit has not seen.

In: a grid, the fold and the weight of each row, and a function that fits on all folds but one and judges on
that one. Out: the best penalty. Finished steps are kept in a journal, so that an interrupted search goes on.
It does not know what is fitted, nor by which loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pluralign.data import deal_groups
from pluralign.errors import DataError
from pluralign.fitting.train.journal import Journal

__all__ = ["best_penalty", "first_smallest", "fold_of", "judged_folds", "search_penalty"]

NUM_FOLDS = 5
MANY_ROWS = 10_000  # from here on one held-out fold tells penalties apart, and five would take long
_CLEARLY = 1e-4
_ROUNDING = 1e-9
_LISTED = 12  # candidates that a report can list

Penalty = TypeVar("Penalty", float, tuple[float, float])


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


def search_penalty(
    grid: Sequence[Penalty],
    fold: Int[Tensor, " N"],
    weight: Float[Tensor, " N"],
    held_out: Callable[[Penalty, int], float],
    *,
    family: str,
    name: str = "",
    what: str,
    loss: str,
    journal: Journal,
    settings: str,
    report: Callable[[str], None],
    stop_early: bool = True,
) -> tuple[Penalty, float]:
    """The penalty with the least held-out loss, searched from the largest down.

    Args:
        grid: penalties to choose from.
        fold: of each row, from `fold_of`; with many rows only the first fold is held out.
        weight: of each row's loss, not negative.
        held_out: a penalty and a fold to the mean loss of that fold's rows after a fit on all others.
        family: of the fit.
        name: of what is fitted, where there are several.
        what: the fields of the configuration that are chosen, such as `l1`; separated by a comma and a blank.
        loss: what the report calls it.
        journal: remembers the loss of each penalty and fold.
        settings: whatever else decides the losses; with the names above it is the journal's key.
        report: receives one line.
        stop_early: whether to leave out smaller penalties once two in a row did worse; see `best_penalty`.

    Returns:
        The best penalty, the largest of equals, and its mean loss.
    """
    mass = {k: float(weight[fold == k].sum()) for k in judged_folds(fold)}

    def mean_loss(penalty: Penalty) -> float:
        total = 0.0
        for k, share in mass.items():
            key = " ".join(filter(None, (family, name, f"{what}={penalty!r} fold={k} {settings}")))
            total += share * journal.remember(key, partial(held_out, penalty, k))
        return total / max(sum(mass.values()), 1e-300)

    best, losses = best_penalty(grid, mean_loss, stop_early=stop_early)
    tried = ", ".join(f"{_text(one)}: {value:.5f}" for one, value in sorted(losses.items()))
    values = zip(what.split(", "), best if isinstance(best, tuple) else (best,), strict=True)
    chosen = ", ".join(f"{field} {value:g}" for field, value in values)
    listed = f" ({tried})" if len(losses) <= _LISTED else f" {losses[best]:.5f}, of {len(losses)} candidates"
    report(f"{name or family}: {chosen}, by held-out {loss}{listed}")
    return best, losses[best]


def _text(penalty: float | tuple[float, float]) -> str:
    return "/".join(f"{value:g}" for value in (penalty if isinstance(penalty, tuple) else (penalty,)))


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
    grid: Sequence[Penalty], held_out_loss: Callable[[Penalty], float], *, stop_early: bool = True
) -> tuple[Penalty, dict[Penalty, float]]:
    """The penalty with the smallest held-out loss, searched from the largest down.

    Better means better beyond rounding, so that the choice does not depend on the processor.
    The search ends after two penalties in a row that do clearly worse (by a share of 1e-4) than the best so
    far: held-out loss falls and then rises along the path, and the smallest penalties are by far the slowest
    to fit. Penalties that are all so large that nothing is left of the weights tie, which is not worse.

    Args:
        grid: penalties, in any order.
        held_out_loss: of one of them.
        stop_early: False tries all.

    Returns:
        The best penalty, the larger of equals, and the losses that were computed.
    """
    losses: dict[Penalty, float] = {}
    worse = 0
    ordered = sorted(set(grid), reverse=True)
    best = ordered[0]
    for penalty in ordered:
        losses[penalty] = held_out_loss(penalty)
        best = ordered[first_smallest(list(losses.values()))]
        worse = worse + 1 if losses[penalty] > losses[best] * (1 + _CLEARLY) else 0
        if stop_early and worse == 2:
            break
    return best, losses
