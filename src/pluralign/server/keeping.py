"""Makes the `Kept`s of conversations that were just scored, in the model's thread.

In: conversations, and their embeddings or distributions. Out: a `Kept` for each that is to be kept. The
models of personas embed the same conversations; those on the scorer's own backbone share its embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pluralign.distributions import RewardDistribution
from pluralign.heads import HeadInputs
from pluralign.model import Combination
from pluralign.model.inputs import head_inputs
from pluralign.model.scorer import distributions_of
from pluralign.server.kept import Kept

if TYPE_CHECKING:
    from pluralign.backbones import Embeddings

__all__ = ["kept_distributions", "kept_rows", "whole_and_sources"]

Conversations = Sequence[Sequence[Mapping[str, Any]]]
Sources = Mapping[str, RewardDistribution]


def kept_rows(
    scorer: Any,
    personas: Mapping[str, Any],
    conversations: Conversations,
    places: Sequence[int],
    inputs: HeadInputs,
    embedded: Embeddings,
) -> list[Kept]:
    """What to keep of conversations that a reward model has embedded.

    Args:
        scorer: the reward model.
        personas: other reward models, by name.
        conversations: N conversations.
        places: those of them to keep.
        inputs: of the scorer's head, N rows.
        embedded: N rows.
    """
    crowd = {
        name: head_inputs(model.head, conversations, embedded)
        if model.backbone is scorer.backbone
        else _only(model, conversations, places)
        for name, model in personas.items()
    }
    found = []
    for place in places:
        shared: dict[int, Tensor] = {}  # a persona on the scorer's backbone reads the same vectors
        own = _row(inputs, place, shared)
        people = {name: _row(of, place, shared) for name, of in crowd.items()}
        found.append(Kept(own, None, people, bool(embedded.truncated[place])))
    return found


def kept_distributions(
    whole: RewardDistribution,
    sources: Sources,
    personas: Mapping[str, Any],
    conversations: Conversations,
    places: Sequence[int],
) -> list[Kept]:
    """What to keep of conversations scored by a scorer without a head.

    Args:
        whole: rewards of N conversations.
        sources: those of its sources, by name; used as personas where there are no others.
        personas: reward models, by name.
        conversations: the conversations.
        places: those of them to keep.
    """
    crowd = {name: _only(model, conversations, places) for name, model in personas.items()}
    found = []
    for place in places:
        people: dict[str, HeadInputs | RewardDistribution] = {
            n: _row(of, place, {}) for n, of in crowd.items()
        }
        found.append(
            Kept(None, whole[[place]], people or {name: of[[place]] for name, of in sources.items()})
        )
    return found


def whole_and_sources(scorer: Any, conversations: Conversations) -> tuple[RewardDistribution, Sources]:
    """The rewards of conversations, and by name those of what a combination combines, from one pass.

    Raises:
        ArgumentError: a conversation cannot be scored.
    """
    if not isinstance(scorer, Combination):
        return distributions_of(scorer, conversations, "the model"), {}
    parts = scorer.source_distributions(conversations)
    return scorer.combined(parts), {f"source {place + 1}": part for place, part in enumerate(parts)}


def _only(model: Any, conversations: Conversations, places: Sequence[int]) -> HeadInputs:
    """The head inputs of some conversations by a model with another backbone, in their original rows."""
    read: HeadInputs = model.read([conversations[place] for place in places], progress=False)
    row_of = {place: row for row, place in enumerate(places)}
    order = [row_of.get(place, 0) for place in range(len(conversations))]
    return HeadInputs(*(None if part is None else part[order] for part in read))  # type: ignore[arg-type]


def _row(inputs: HeadInputs, place: int, known: dict[int, Tensor]) -> HeadInputs:
    """One row in memory of its own, or in that of `known` where the same tensor was met before."""
    parts = []
    for part in inputs:
        if part is not None and id(part) not in known:
            known[id(part)] = part[place : place + 1].clone()
        parts.append(None if part is None else known[id(part)])
    return HeadInputs(*parts)  # type: ignore[arg-type]
