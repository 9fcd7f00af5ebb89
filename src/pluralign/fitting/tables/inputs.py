"""The arguments and results of every recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pluralign.fitting.train.journal import Journal
from pluralign.heads import Head

if TYPE_CHECKING:
    import datasets

    from pluralign.backbones import Embeddings

__all__ = ["Fitted", "Inputs"]


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


@dataclass(frozen=True)
class Fitted:
    """A head, other heads to compare with, and a summary of the fit, serialisable as JSON."""

    head: Head
    baselines: Mapping[str, Head] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
