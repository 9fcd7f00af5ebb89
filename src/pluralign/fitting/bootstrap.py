"""Ensembles of any family: the family's own recipe, once for each resample of the groups.

In: the inputs of a fit, its recipe, and what it found on all groups. Out: an `EnsembleHead` of H heads.

Groups are drawn with replacement. A group that was drawn twice is in the member's tables twice: the second
copy has a marker before its prompts, so that recipes, which merge equal texts, count its texts separately,
and the marker is removed before texts are embedded. So recipes need not handle resampling, and every text
is embedded once. Penalties are those that the fit on all groups chose, where the recipe asks its journal.

The members' mean rewards are brought to the mean and spread that the fit on all groups has, on all texts of
the tables, and the unit of reward is that fit's.

Reference: Efron 1979 for the bootstrap, with groups as units; Coste et al. 2023 (arXiv 2310.02743) and Yan et
al. 2024 (arXiv 2409.15360) for ensembles of reward models.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pluralign.data.arrow import data_set
from pluralign.data.table_columns import arrow_column, column_values
from pluralign.errors import DataError, EnsembleWarning
from pluralign.fitting.ensemble.targets import bootstrap_counts
from pluralign.fitting.tables.inputs import Fitted, Inputs
from pluralign.heads import EnsembleHead, Head
from pluralign.heads.agreement import head_agreement
from pluralign.model.inputs import head_inputs

if TYPE_CHECKING:
    import datasets

    from pluralign.backbones import Embeddings

__all__ = ["EmbeddedTexts", "fit_ensemble"]

_TABLES = ("ratings", "pairs", "votes")
_MARK = "pluralign copy "  # the content of a first message that no text has
_TRIES = 20  # resamples per member, of which most must be usable
_ALIKE = 0.003  # members that differ by less than this share of the reward's spread count as equal


class EmbeddedTexts:
    """Embeds each conversation once, with marks of copies taken off.

    Args:
        embed: maps conversations to embeddings.
    """

    def __init__(self, embed: Callable[[Sequence[Any]], Embeddings]) -> None:
        self._embed = embed
        self._row_of: dict[str, int] = {}
        self._parts: list[Embeddings] = []
        self.conversations: list[Any] = []

    def __call__(self, conversations: Sequence[Any]) -> Embeddings:
        """The embeddings of conversations, in order."""
        plain = [_unmarked(one) for one in conversations]
        keys = [json.dumps(one, sort_keys=True) for one in plain]
        new = {key: one for key, one in zip(keys, plain, strict=True) if key not in self._row_of}
        if new or not self._parts:
            self._parts.append(self._embed(list(new.values())))
            for key, one in new.items():
                self._row_of[key] = len(self.conversations)
                self.conversations.append(one)
        return _rows(self.everything(), torch.tensor([self._row_of[key] for key in keys], dtype=torch.int64))

    def everything(self) -> Embeddings:
        """The embeddings of all conversations so far, in the order of `conversations`."""
        if len(self._parts) > 1:
            parts = self._parts
            joined = replace(
                parts[0],
                response=torch.cat([one.response for one in parts]),
                prompt=torch.cat([one.prompt for one in parts]),
                num_tokens=torch.cat([one.num_tokens for one in parts]),
                truncated=torch.cat([one.truncated for one in parts]),
            )
            self._parts = [joined]
        return self._parts[0]


def fit_ensemble(
    recipe: Callable[[Any, Any], Any], inputs: Inputs, config: Any, whole: Fitted, count: int
) -> Fitted:
    """Fits the members and puts them on one scale.

    Args:
        recipe: of the family.
        inputs: of the fit on all groups, whose `embed` is an `EmbeddedTexts`.
        config: of the family.
        whole: what the recipe found on all groups.
        count: H, at least 2.

    Raises:
        DataError: there is one group only, or resamples lack attributes or categories that all groups have.
    """
    given = {name: table for name in _TABLES if (table := getattr(inputs, name)) is not None}
    groups = {name: column_values(table, "group") for name, table in given.items()}
    everyone = [group for names in groups.values() for group in names]
    if len(set(everyone)) < 2:
        raise DataError(
            "an ensemble resamples groups, but the data has only one: its members would be the same head. "
            "Give rows with different prompts different groups, or leave ensemble out"
        )
    options = {"baselines": False} if "baselines" in {field.name for field in fields(config)} else {}
    settings, first = replace(config, **options), int(getattr(config, "seed", 0))
    members: list[Head] = []
    seed, last = first * 1000, ""
    while len(members) < count:
        if seed - first * 1000 >= _TRIES * count:
            raise DataError(
                f"no ensemble of {count}: of {_TRIES * count} resamples of the {len(set(everyone))} groups "
                f"only {len(members)} could be fitted, the last because {last}; use more groups, or leave "
                "ensemble out"
            )
        counts = dict(zip(everyone, bootstrap_counts(everyone, [seed])[:, 0].tolist(), strict=True))
        seed += 1
        tables = {name: _resampled(table, groups[name], counts) for name, table in given.items()}
        last = _unusable(tables, counts)
        if not last:
            own = replace(inputs, journal=inputs.journal.recalled(), report=lambda line: None, **tables)
            try:
                head = recipe(own, settings).head
                last = _differs(head, whole.head)
            except DataError as error:
                last = f"{error}"
        if not last:
            members.append(head)
            inputs.report(f"member {len(members)} of {count} on its resample of the groups")
    return _joined(inputs, members, whole)


def _joined(inputs: Inputs, members: Sequence[Head], whole: Fitted) -> Fitted:
    """The ensemble, standardised, and how similar its members are."""
    texts: Any = inputs.embed
    embedded = texts.everything()
    given = head_inputs(whole.head, texts.conversations, embedded)
    with torch.no_grad():
        expected = whole.head.raw(*given).mean().double()
        means = torch.stack([one.raw(*given).mean().double() for one in members], 1)
    center, spread = means.mean(0), means.std(0, unbiased=False)
    varies = spread > 1e-9 * (1 + center.abs())
    target = expected.std(unbiased=False)
    scale = torch.where(varies & (target > 0), target / torch.where(varies, spread, 1.0), 1.0)
    shift = expected.mean() - center * scale
    head = EnsembleHead([one.eval() for one in members], scale.float(), shift.float(), whole.head.reference)
    agreement = head_agreement(means * scale + shift)
    inputs.report(
        f"members: correlation {agreement['correlation']:.4f}, disagreement {agreement['disagreement']:.3f} "
        "of the spread of rewards"
    )
    if agreement["disagreement"] < _ALIKE:
        warnings.warn(
            f"the {len(members)} members are nearly equal (disagreement {agreement['disagreement']:.1e} of "
            "the spread of rewards): the minimum over members does nothing. Where all predict a constant, "
            "nothing was learned",
            EnsembleWarning,
            stacklevel=4,
        )
    summary = {**whole.summary, "ensemble": len(members), "agreement": agreement}
    return Fitted(head, whole.baselines, summary)


def _resampled(table: datasets.Dataset, groups: Sequence[str], counts: Mapping[str, int]) -> datasets.Dataset:
    """The rows of the drawn groups, as often as they were drawn, in the order of the table."""
    import pyarrow as pa

    times = np.array([counts[group] for group in groups])
    rows = np.repeat(np.arange(len(times)), times)
    copy = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
    columns = {name: arrow_column(table, name).take(pa.array(rows)) for name in table.column_names}
    prompts = columns["prompt"].to_pylist()
    for place in np.flatnonzero(copy).tolist():
        prompts[place] = [{"role": "system", "content": f"{_MARK}{copy[place]}"}, *prompts[place]]
    columns["prompt"] = pa.chunked_array([pa.array(prompts, columns["prompt"].type)])
    return data_set(pa.table(columns))


def _unmarked(conversation: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The conversation without the mark of a copy."""
    first = conversation[0]
    marked = first["role"] == "system" and str(first["content"]).startswith(_MARK)
    return [dict(one) for one in conversation[marked:]]


def _rows(embedded: Embeddings, rows: Tensor) -> Embeddings:
    return replace(
        embedded,
        response=embedded.response[rows],
        prompt=embedded.prompt[rows],
        num_tokens=embedded.num_tokens[rows],
        truncated=embedded.truncated[rows],
    )


def _unusable(tables: Mapping[str, datasets.Dataset], counts: Mapping[str, int]) -> str:
    """Why a resample cannot be fitted, in words; empty if it can."""
    if sum(times > 0 for times in counts.values()) < 2:
        return "it has one group only"
    empty = [name for name, table in tables.items() if not len(table)]
    return f"it has no {empty[0]}" if empty else ""


def _differs(head: Head, whole: Head) -> str:
    """What a member lacks that the head of all groups has, in words; empty if nothing."""
    names, wanted = ([a.name for a in one.attributes] for one in (head, whole))
    if sorted(names) != sorted(wanted):
        return f"it has ratings of {', '.join(names)} only, not of {', '.join(wanted)}"
    if names != wanted:
        return "its attributes come in another order"
    for name in names:
        if head.categories_of(name) != whole.categories_of(name):
            return f"its ratings of {name!r} give other categories (set edges, so that all have the same)"
    return ""
