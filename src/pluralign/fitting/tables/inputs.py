"""The arguments and results of every recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from pluralign.fitting.train.journal import Journal
from pluralign.heads import ColumnScaling, Head

if TYPE_CHECKING:
    import datasets

    from pluralign.backbones import Embeddings

__all__ = ["Features", "Fitted", "Inputs"]


class Features(NamedTuple):
    """What linear heads are fitted on.

    Attributes:
        embedded: the embeddings of N texts.
        scaling: of the columns of their responses, which a head keeps.
        scaled: [N, D], the responses' scaled columns.
    """

    embedded: Embeddings
    scaling: ColumnScaling
    scaled: Tensor


@dataclass(frozen=True)
class Inputs:
    """Data and services of one fit.

    Attributes:
        ratings: the ratings table, if there is one.
        pairs: the pairs table, if there is one.
        votes: the comparisons table, if there is one.
        embed: maps conversations to embeddings.
        journal: stores finished steps.
        report: called with one line of text per stage.
    """

    ratings: datasets.Dataset | None
    pairs: datasets.Dataset | None
    votes: datasets.Dataset | None
    embed: Callable[[Sequence[Any]], Embeddings]
    journal: Journal
    report: Callable[[str], None]

    def features(self, conversations: Sequence[Any]) -> Features:
        """Embeddings of texts, with columns of mean 0 and standard deviation 1."""
        embedded = self.embed(conversations)
        scaling = ColumnScaling.fitted(embedded.response).to(embedded.response.device)
        return Features(embedded, scaling, scaling(embedded.response))


@dataclass(frozen=True)
class Fitted:
    """A head, other heads to compare with, and a summary of the fit, serialisable as JSON."""

    head: Head
    baselines: Mapping[str, Head] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
