"""What every recipe receives and returns. It knows tables and embeddings, no family."""

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
