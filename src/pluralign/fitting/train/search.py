"""The search for a penalty: the one in a grid with the lowest loss on groups that a fit has not seen.

In: a grid, the fold and the weight of each row, and a function that fits on all folds but one and evaluates
on that one. Out: the best penalty. Finished steps are stored in a journal, so that an interrupted search
continues.
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

__all__ = ["best_penalty", "first_smallest", "fold_of", "held_out_folds", "search_penalty"]

NUM_FOLDS = 5
MANY_ROWS = 10_000  # from here on one fold suffices, and five would take too long
_CLEARLY = 1e-4
_ROUNDING = 1e-9
_LISTED = 12  # candidates that a report can list

Penalty = TypeVar("Penalty", float, tuple[float, float])


def fold_of(groups: Sequence[str], seed: int, *, what: str) -> Tensor:
    """The fold of each row, 0 to 4 at most, assigned by `data.deal_groups`. [N] -> [N]

    Args:
        groups: the group of each row.
        seed: a different seed gives a different assignment.
        what: the field that is chosen on held-out groups, for the error message.

    Raises:
        DataError: there is only one group, so none can be held out.
    """
    names = set(groups)
    if len(names) < 2:
        raise DataError(
            f"choosing {what} needs held-out groups, but the data has only {len(names)} group; "
            f"set {what} yourself or give rows with different prompts different groups"
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
    """The penalty with the lowest held-out loss, searched from the largest down.

    Args:
        grid: penalties to choose from.
        fold: the fold of each row, from `fold_of`; with many rows not all are held out (`held_out_folds`).
        weight: the weight of each row's loss, not negative.
        held_out: maps a penalty and a fold to the mean loss on that fold's rows after a fit on all others.
        family: the family of the fit.
        name: what is fitted, if there are several.
        what: the fields of the configuration that are chosen, such as `l1`; separated by a comma and a space.
        loss: name of the loss in the report.
        journal: stores the loss of each penalty and fold.
        settings: everything else that determines the losses; with the names above it is the journal's key.
        report: called with one line.
        stop_early: whether to skip smaller penalties after two worse ones in a row, as in `best_penalty`.

    Returns:
        The best penalty, the largest of equals, and its mean loss.
    """
    mass = {k: float(weight[fold == k].sum()) for k in held_out_folds(fold)}

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


def held_out_folds(fold: Tensor) -> range:
    """The folds that are held out in turn.

    As many as give about the rows of one fold of `MANY_ROWS`, so that the loss is known as well as there, and
    fewer rows take no longer: all up to 2,499 rows, 2 of 5 for 5,000, the first from 10,000.
    """
    return range(min(int(fold.max()) + 1, -(-MANY_ROWS // len(fold))))


def first_smallest(losses: Sequence[float]) -> int:
    """Position of the smallest loss; of those that are equal up to rounding, the first.

    NaN is never the smallest, unless all losses are NaN.
    """
    least = min((loss for loss in losses if not math.isnan(loss)), default=math.nan)
    near = (i for i, loss in enumerate(losses) if loss <= least + _ROUNDING * abs(least))
    return next(near, 0)


def best_penalty(
    grid: Sequence[Penalty], held_out_loss: Callable[[Penalty], float], *, stop_early: bool = True
) -> tuple[Penalty, dict[Penalty, float]]:
    """The penalty with the smallest held-out loss, searched from the largest down.

    Better means better beyond rounding, so that the choice does not depend on the processor.

    The search stops after two penalties in a row that are clearly worse (by a relative 1e-4) than the best so
    far: held-out loss falls and then rises along the path, and the smallest penalties are by far the slowest
    to fit. Penalties so large that all weights are 0 tie, which does not count as worse.

    Args:
        grid: penalties, in any order.
        held_out_loss: the loss of one of them.
        stop_early: False to try all.

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
