"""From comparisons to a problem of three categories per pair: b is better, tie, a is better.

    P(b), P(tie), P(a)  proportional to  exp(-d/2), v, exp(d/2),        d = s(a) - s(b)

In: comparisons with votes. Out: distinct conversations, and the `Problem` that trains a score and a tie
parameter on them by cross-entropy.

Paper: Davidson 1970 (JASA 65), equation 2.6 with d the log of his ratio of worth parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pluralign.data import distinct_conversations
from pluralign.data.table_columns import arrow_column, column_values, ragged, text_codes
from pluralign.errors import DataError
from pluralign.fitting.categorical.training import Problem
from pluralign.fitting.tables.inputs import Inputs
from pluralign.heads.base import Attribute
from pluralign.heads.categorical import CategoricalHead, ComparisonLogits
from pluralign.heads.categories import Categories
from pluralign.losses import cross_entropy, smooth_neighbours

if TYPE_CHECKING:
    import datasets

__all__ = [
    "COMPARED",
    "PREFERENCE",
    "Comparisons",
    "comparison_problem",
    "comparisons_of",
    "equal_scores",
    "log_tie_of",
]

PREFERENCE = Attribute("preference", -1.0, 1.0, 1.0)
COMPARED = Categories(("loses", "tie", "wins"), (-1.0, 0.0, 1.0), (0.0, 0.5, 1.0))


@dataclass(frozen=True)
class Comparisons:
    """Comparisons as indices into distinct conversations.

    Attributes:
        conversations: the distinct texts.
        first: [P], index of response a.
        second: [P], index of b.
        target: [P, 3], shares of the votes for b, tie and a (the categories of a), float32.
        raters: [P], number of votes.
        groups: [P].
    """

    conversations: list[list[dict[str, str]]]
    first: Int[Tensor, " P"]
    second: Int[Tensor, " P"]
    target: Float[Tensor, "P 3"]
    raters: Int[Tensor, " P"]
    groups: list[str]


def comparisons_of(votes: datasets.Dataset) -> Comparisons:
    """Numbers the responses and counts the votes; comparisons of two equal texts are left out.

    Raises:
        DataError: no comparison has two different texts.
    """
    a, b = text_codes(*(arrow_column(votes, name) for name in ("response_a", "response_b")))
    different = np.flatnonzero(a != b)
    if not len(different):
        raise DataError("every comparison has two equal sides: there is nothing to fit")
    votes = votes.select(different)
    conversations, (first, second) = distinct_conversations(votes, "response_a", "response_b")
    given = ragged(votes, "votes")
    row = np.repeat(np.arange(len(different)), given.sizes)
    counts = [np.bincount(row, given.values == vote, len(different)) for vote in (-1, 0, 1)]
    table = torch.from_numpy(np.stack(counts, 1).astype(np.float64))
    raters = table.sum(1)
    return Comparisons(
        conversations,
        torch.from_numpy(first),
        torch.from_numpy(second),
        (table / raters[:, None]).float(),
        raters.long(),
        column_values(votes, "group"),
    )


def comparison_problem(
    comparisons: Comparisons,
    features: Float[Tensor, "N D"],
    hidden: int,
    smoothing: float,
) -> Problem[ComparisonLogits]:
    """The problem of fitting a score and a tie parameter.

    Args:
        comparisons: P of them.
        features: features of their N distinct conversations.
        hidden: units of the hidden layer of the score.
        smoothing: share of the votes moved to neighbouring categories, in [0, 1).
    """
    first, second = comparisons.first.to(features.device), comparisons.second.to(features.device)
    sides = features[first], features[second]

    def scored(module: ComparisonLogits, a: Tensor, b: Tensor) -> Tensor:
        return module.logits(module.score(a) - module.score(b))

    def linear(module: ComparisonLogits, difference: Tensor) -> Tensor:
        return module.logits(module.out(difference)[:, 0])

    # Rounding the difference, not the scores, keeps a and b exactly antisymmetric if scores are linear.
    return Problem(
        name=PREFERENCE.name,
        inputs=sides if hidden else (sides[0] - sides[1],),
        target=smooth_neighbours(comparisons.target, smoothing).to(features.device),
        groups=comparisons.groups,
        make=lambda target: equal_scores(target, features.shape[1], hidden),
        logits=scored if hidden else linear,
        score=cross_entropy,
        loss="cross_entropy",
    )


def equal_scores(target: Float[Tensor, "P 3"], width: int, hidden: int) -> ComparisonLogits:
    """A module with equal scores for all responses and as many ties as in the targets; the start of
    training."""
    module = ComparisonLogits(width, hidden)
    tie = _share_of_ties(target)
    with torch.no_grad():  # v / (2 + v) is the share of ties of equal scores
        module.log_tie.fill_(float(torch.log(2 * tie / (1 - tie))))
    return module


@torch.no_grad()
def log_tie_of(head: CategoricalHead, comparisons: Comparisons, inputs: Inputs) -> float:
    """log v of a head that was fitted on the votes of each side: as many ties as there are.

    The likelihood of v is greatest where the mean of P(tie) over the comparisons is the share of ties, which
    grows with v. The differences of scores are the head's own: a scale fitted on the same comparisons would
    make it overconfident.

    Args:
        head: of one attribute with the categories of `COMPARED`.
        comparisons: that it was fitted on.
        inputs: of the fit.
    """
    embedded = inputs.embed(comparisons.conversations)
    (probs,) = head.probs(embedded.response)
    scores = (probs[:, 2].double().log() - probs[:, 0].double().log()).cpu()
    half = 0.5 * (scores[comparisons.first] - scores[comparisons.second])
    untied = (2 * half.cosh()).log()
    wanted = float(_share_of_ties(comparisons.target))
    low, high = -100.0, float(untied.max()) + 100.0  # P(tie) = v / (v + 2 cosh(d/2))
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if float((middle - untied).sigmoid().mean()) > wanted else (middle, high)
    return 0.5 * (low + high)


def _share_of_ties(target: Float[Tensor, "P 3"]) -> Tensor:
    """Neither 0 nor 1, as if there had been half a vote more for each outcome."""
    return (target[:, 1].double().sum() + 0.5) / (len(target) + 1.5)
