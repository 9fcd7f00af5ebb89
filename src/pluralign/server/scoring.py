"""From conversations of many requests to answers: one pass of the backbone, then the measure of each request.

In: a scorer, and `Item`s whose keys are `Question`s. Out: per item a `Scored`. It runs in the model's thread,
except for `question`, which reads nothing that the model changes. An item may also be a function, which is
called in its turn: so are the explorer's questions about conversations that were scored before.

Each distinct text is embedded once per batch, however many requests contain it. Where questions differ, the
head is applied to the rows of each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from pluralign import risk
from pluralign.distributions import RewardDistribution
from pluralign.errors import ArgumentError, DataError
from pluralign.heads import Steering
from pluralign.model.inputs import head_inputs
from pluralign.model.scorer import utilities
from pluralign.server.batching import Item
from pluralign.server.keeping import kept_distributions, kept_rows, whole_and_sources
from pluralign.server.kept import Kept
from pluralign.server.records import LEVELS, records

__all__ = ["Predictor", "Question", "Scored", "estimated_tokens"]

_BYTES_PER_TOKEN = 4  # of English; only what fills a batch is counted by it
_KNOWN_QUESTIONS = 256  # what clients ask again and again; one that always asks anew fills no memory
_WARM_UP = [
    {"role": "user", "content": "Which are the first five primes?"},
    {"role": "assistant", "content": "2 3 5 7 11"},
]


class Scored(NamedTuple):
    """The answer for one conversation.

    Attributes:
        utility: the measure of its reward distribution.
        mean: of the distribution.
        std: of the distribution.
        truncated: whether its text was truncated; None where the scorer does not say.
        record: the distribution as JSON, where it was requested.
        kept: what to keep of it, where that was requested.
    """

    utility: float
    mean: float
    std: float
    truncated: bool | None
    record: dict[str, Any] | None
    kept: Kept | None = None


@dataclass(frozen=True)
class Question:
    """What is asked of conversations; questions with the same words are the same.

    Attributes:
        words: the measure, weights and measures of attributes as text, and what is to be returned.
        measure: the parsed risk measure.
        steering: of the attributes.
        levels: quantiles to return with the distribution; None for the utility alone.
        keeps: whether to return a `Kept`, for later questions.
    """

    words: str
    measure: risk.RiskMeasure = field(compare=False)
    steering: Steering | None = field(compare=False)
    levels: tuple[float, ...] | None = field(compare=False)
    keeps: bool = field(default=False, compare=False)


class Predictor:
    """A scorer and the measure that it answers with unless a request says otherwise.

    Args:
        scorer: a reward model, a combination, anything with `distribution(conversations)`.
        default_risk: a measure.
        personas: reward models of groups of people, by name.
    """

    def __init__(self, scorer: Any, default_risk: str, personas: Mapping[str, Any] | None = None) -> None:
        self.scorer = scorer
        self.default_risk = default_risk
        self.personas = dict(personas or {})
        self._embeds = hasattr(scorer, "head") and hasattr(scorer, "embed")
        self._known: dict[str, Question] = {}

    @property
    def has_head(self) -> bool:
        """Whether it is a reward model, whose head answers any question about what was embedded once."""
        return self._embeds

    @property
    def attributes(self) -> list[str]:
        """Names of the attributes that weights and steering act on."""
        return [one.name for one in self.scorer.head.attributes] if self._embeds else []

    @property
    def tokenizer(self) -> Any:
        """The backbone's tokenizer, where there is one."""
        return getattr(getattr(self.scorer, "backbone", None), "tokenizer", None)

    @property
    def categories(self) -> dict[str, list[str]]:
        """Names of the categories of each attribute; empty where the model predicts none."""
        head = getattr(self.scorer, "head", None)
        if not getattr(head, "reads_categories", False):
            return {}
        return {name: list(self.scorer.head.categories_of(name).names) for name in self.attributes}

    @torch.no_grad()
    def category_probs(
        self, conversations: Sequence[Sequence[Mapping[str, Any]]]
    ) -> dict[str, list[list[float]]]:
        """Probabilities of each attribute's categories for each conversation; in the model's thread."""
        found = self.scorer.attribute_distributions(conversations)
        return {name: one.point_masses()[1].tolist() for name, one in found.items()}

    def question(
        self,
        measure: str | None = None,
        weights: Mapping[str, float] | Sequence[float] | None = None,
        steer: Mapping[str, str] | None = None,
        levels: Sequence[float] | None = None,
        *,
        whole: bool = False,
        keeps: bool = False,
    ) -> Question:
        """Checks what a request asks for.

        Args:
            measure: a risk measure; None for the default.
            weights: of attributes, as in `RewardModel.score`.
            steer: attributes with a measure of their own, as in `RewardModel.score`.
            levels: of the quantiles to return; None for the usual ones.
            whole: whether to return the distribution.
            keeps: whether to return a `Kept`, for later questions.

        Raises:
            RiskError: a measure does not exist, or does not apply to attributes.
            ArgumentError: an attribute does not exist, or the scorer takes no weights.
        """
        wanted = (tuple(LEVELS if levels is None else levels)) if whole else None
        words = json.dumps([measure or self.default_risk, weights, steer, wanted, keeps])
        known = self._known.get(words)
        if known is None:
            known = self._question(words, measure, weights, steer, wanted, keeps)
            if len(self._known) < _KNOWN_QUESTIONS:
                self._known[words] = known
        return known

    def _question(
        self,
        words: str,
        measure: str | None,
        weights: Any,
        steer: Any,
        levels: tuple[float, ...] | None,
        keeps: bool,
    ) -> Question:
        steering = None
        if self._embeds:
            try:
                steering = self.scorer.steering(weights, steer)
            except ArgumentError as error:
                if not error.allowed and self.attributes:
                    error.allowed = tuple(self.attributes)
                raise
        elif weights is not None or steer:
            raise ArgumentError(
                "weights and steer are for one reward model; this server scores with another kind"
            )
        return Question(words, risk.parse(measure or self.default_risk), steering, levels, keeps)

    def warm_up(self) -> None:
        """Scores one conversation, so that errors show before the first request.

        Raises:
            Exception: it cannot be scored. A scorer that looks conversations up may not know this
                one.
        """
        with suppress(*(() if self._embeds else (ArgumentError, DataError))):
            self.answer([Item(0, _WARM_UP, 1, self.question(whole=True))])

    def answer(self, items: Sequence[Item]) -> list[Any]:
        """The answer for each item: a `Scored` for a conversation, and what it returns for a function.

        Raises:
            PluralignError: an item cannot be scored.
        """
        rest = [item for item in items if not callable(item.value)]
        scored = iter(self._scored_conversations(rest) if rest else ())
        return [item.value() if callable(item.value) else next(scored) for item in items]

    @torch.no_grad()
    def _scored_conversations(self, items: Sequence[Item]) -> list[Scored]:
        conversations = [item.value for item in items]
        found: list[Scored | None] = [None] * len(items)
        groups: dict[Question, list[int]] = {}
        for place, item in enumerate(items):
            groups.setdefault(item.key, []).append(place)  # type: ignore[arg-type]
        truncated: list[bool] | list[None]
        if self._embeds:
            embedded = self.scorer.embed(conversations, progress=False)
            inputs = head_inputs(self.scorer.head, conversations, embedded)
            truncated = embedded.truncated.tolist()
        else:
            whole, sources = whole_and_sources(self.scorer, conversations)
            truncated = [None] * len(items)
        for question, places in groups.items():
            every = len(places) == len(items)
            if self._embeds:
                rows = inputs if every else [None if one is None else one[places] for one in inputs]
                distribution = self.scorer.head.distribution(*rows, steering=question.steering)
            else:
                distribution = whole if every else whole[places]
            scored = _scored(question, distribution, [truncated[place] for place in places])
            if question.keeps:
                if self._embeds:
                    kept = kept_rows(self.scorer, self.personas, conversations, places, inputs, embedded)
                else:
                    kept = kept_distributions(whole, sources, self.personas, conversations, places)
                scored = [one._replace(kept=row) for one, row in zip(scored, kept, strict=True)]
            for place, one in zip(places, scored, strict=True):
                found[place] = one
        return [one for one in found if one is not None]


def _scored(
    question: Question, distribution: RewardDistribution, truncated: Sequence[bool | None]
) -> list[Scored]:
    numbers = (utilities(question.measure, distribution), distribution.mean(), distribution.std())
    written: Sequence[dict[str, Any] | None] = [None] * len(truncated)
    if question.levels is not None:
        written = records(distribution, question.levels)
    return [Scored(*one) for one in zip(*(n.tolist() for n in numbers), truncated, written, strict=True)]


def estimated_tokens(conversation: Sequence[Mapping[str, Any]], longest: int) -> int:
    """About how many tokens a conversation adds to a batch, at least one.

    Args:
        conversation: messages with texts.
        longest: tokens after which the backbone reads no further.
    """
    size = sum(len(str(message.get("content") or "")) for message in conversation)
    return min(size // _BYTES_PER_TOKEN + 8, longest)
