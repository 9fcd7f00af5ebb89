"""`JudgeSource`: a judge as a source of rewards, a rater for `combine`, and a crowd of personas that vote.

In: conversations. Out, by what the judge is asked for:

    repeated scores          -> `Empirical`, one atom per persona and repetition
    probabilities of scores  -> `Categorical`, from the first token of one answer per persona
    votes of personas        -> a table of comparisons, as `pl.load_comparisons` reads it

Refusals and answers that cannot be parsed are counted in `counts`, and never become a score or a vote.

The votes are DPRM's data pipeline (personas that a language model plays). How an answer is read, and asking
in both orders, are ours.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign import risk as risk_measures
from pluralign.backbones.disk import cache_folder
from pluralign.conversations import check
from pluralign.data import conversation
from pluralign.digests import json_digest, text_seed
from pluralign.distributions import Categorical, Empirical, RewardDistribution
from pluralign.errors import ConfigError, DataError
from pluralign.model.inputs import Conversation
from pluralign.model.scorer import BaseScorer, as_conversations
from pluralign.policy.judges.answers import (
    Nothing,
    check_scale,
    score_probabilities,
    score_text,
    stated_score,
    stated_vote,
)
from pluralign.policy.judges.judge import Judge
from pluralign.policy.judges.prompts import (
    PROBABILITY_PROMPT,
    SCORE_PROMPT,
    VOTE_PROMPT,
    check_prompt,
    question,
    readable,
)

if TYPE_CHECKING:
    import datasets

    from pluralign.policy.rewards.sources import Rows

__all__ = ["JudgeSource"]

Kind = Literal["scores", "probabilities"]
_MOST_TOP = 20  # tokens whose probabilities the protocol reports


@final
class JudgeSource(BaseScorer):
    """A language model behind an OpenAI-compatible server that scores responses.

    Args:
        url: base address, with or without `/v1`.
        prompt: what it is asked, with the places {prompt} and {response}, and if it likes {scale} and
            {persona}; None for one of ours.
        personas: as whom it answers: name -> description, or descriptions. None for nobody in particular.
        kind: scores, the judge writes a score, `repeats` times; probabilities, the probabilities of its first
            token are read.
        scale: the scores that are allowed, ascending or not; higher is better.
        repeats: answers per persona, for scores.
        vote_prompt: what it is asked in `votes`, with {prompt}, {response_a} and {response_b}; None for ours.
        risk: how a distribution becomes a number where rewards are numbers.
        model: the server's name for the model; None for the only one it serves.
        api_key: sent as a bearer token, to this address alone; None for none.
        key_over_http: send it unencrypted to another machine too.
        temperature: of the answers; repeated scores at 0 are equal.
        max_tokens: most tokens of an answer.
        cache: file of answers; "default" for judges.sqlite in the cache folder, None for none.
        concurrency: questions at a time.
        requests_per_minute: most requests that begin in a minute; None for no limit.
        seed: of the answers, where the server knows seeds.
        timeout: seconds allowed for one request.
        patience: seconds to wait after a first failed attempt; doubled each time.

    Attributes:
        counts: answers without a number, by reason, and `answers`, all.

    Raises:
        ConfigError: a setting is not valid.
        RunError: the server does not answer, or serves no such model.
    """

    def __init__(
        self,
        url: str,
        prompt: str | None = None,
        *,
        personas: Mapping[str, str] | Sequence[str] | None = None,
        kind: Kind = "scores",
        scale: Sequence[float] = (1, 2, 3, 4, 5),
        repeats: int = 1,
        vote_prompt: str | None = None,
        risk: str | risk_measures.RiskMeasure = "mean",
        model: str | None = None,
        api_key: str | None = None,
        key_over_http: bool = False,
        temperature: float = 1.0,
        max_tokens: int = 512,
        cache: str | Path | None = "default",
        concurrency: int = 8,
        requests_per_minute: float | None = None,
        seed: int = 0,
        timeout: float = 120.0,
        patience: float = 2.0,
    ) -> None:
        if kind not in get_args(Kind):
            raise ConfigError(f"kind must be one of {', '.join(get_args(Kind))}; received {kind!r}")
        if repeats < 1 or (kind == "probabilities" and repeats != 1):
            raise ConfigError(f"repeats must be at least 1, and 1 for probabilities; received {repeats}")
        if max_tokens < 1:
            raise ConfigError(f"max_tokens must be at least 1, received {max_tokens}")
        if not (temperature >= 0 and math.isfinite(temperature)):
            raise ConfigError(f"temperature must be finite and at least 0, received {temperature}")
        own = PROBABILITY_PROMPT if kind == "probabilities" else SCORE_PROMPT
        self.prompt = check_prompt(own if prompt is None else prompt, {"prompt", "response"})
        asked = VOTE_PROMPT if vote_prompt is None else vote_prompt
        self.vote_prompt = check_prompt(asked, {"prompt", "response_a", "response_b"})
        self.personas = _personas(personas)
        self.scale = check_scale(scale, kind == "probabilities")
        if kind == "probabilities" and len(self.scale) > _MOST_TOP:
            raise ConfigError(
                f"scale: received {len(self.scale)} scores; allowed: {_MOST_TOP} for probabilities"
            )
        self.kind, self.repeats = kind, repeats
        self.risk = risk_measures.parse(risk)
        self._settings = {"temperature": float(temperature), "max_tokens": max_tokens}
        self._seed = seed
        self.counts: Counter[str] = Counter()
        self._judge = Judge(
            url,
            model=model,
            api_key=api_key,
            key_over_http=key_over_http,
            cache=cache_folder() / "judges.sqlite" if cache == "default" else cache,
            concurrency=concurrency,
            requests_per_minute=requests_per_minute,
            timeout=timeout,
            patience=patience,
        )

    # -- what is asked ---------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """Everything that determines the rewards, but not the address of the server; JSON types."""
        return {
            "kind": "judge",
            "model": self._judge.model,
            "prompt": self.prompt,
            "personas": dict(self.personas) if self.personas != {"": None} else None,
            "asked_for": self.kind,
            "scale": list(self.scale),
            "repeats": self.repeats,
            "seed": self._seed,
            "risk": str(self.risk),
            **self._settings,
        }

    def _question(
        self, text: str, values: Mapping[str, str], persona: str | None, draw: int
    ) -> dict[str, Any]:
        messages = question(text, {**values, "scale": ", ".join(map(score_text, self.scale))}, persona)
        drawn = text_seed(json_digest([self._seed, messages, draw]))
        seed = drawn % 2**31  # servers differ in what they take
        return {"messages": messages, "seed": seed, "draw": draw, **self._settings}

    def _score_questions(self, one: Conversation) -> list[dict[str, Any]]:
        values = {"prompt": readable(one[:-1]), "response": str(one[-1]["content"])}
        questions = [
            self._question(self.prompt, values, persona, draw)
            for persona in self.personas.values()
            for draw in range(self.repeats)
        ]
        if self.kind == "probabilities":
            extra = {"max_tokens": 1, "logprobs": True, "top_logprobs": _MOST_TOP}
            return [one | extra for one in questions]
        return questions

    # -- what is answered ------------------------------------------------------------------------

    def scores(self, conversations: Sequence[Conversation]) -> Float[Tensor, "N M"]:
        """The scores of every persona and repetition; NaN where an answer has none.

        Args:
            conversations: N message lists, each ending in the response.

        Returns:
            [N, M], M = personas x repeats, as `pluralign.model.judge_scores` takes them; for probabilities
            the mean of each persona's.
        """
        answers = self._answers(conversations)
        atoms = torch.tensor(self.scale, dtype=torch.float64)
        return torch.tensor(
            [
                [
                    math.nan
                    if isinstance(one, Nothing)
                    else one
                    if isinstance(one, float)
                    else float(torch.tensor(one, dtype=torch.float64) @ atoms)
                    for one in row
                ]
                for row in answers
            ],
            dtype=torch.float64,
        ).reshape(len(answers), len(self.personas) * self.repeats)

    def distribution(self, conversations: Sequence[Conversation]) -> RewardDistribution:
        """The distribution of each response's score, on the judge's scale.

        Raises:
            DataError: no answer for a conversation has a score.
            RunError: the server refuses or does not respond. Answers so far are kept.
        """
        answers = self._answers(conversations)
        kept = [[one for one in row if not isinstance(one, Nothing)] for row in answers]
        empty = [place for place, row in enumerate(kept) if not row]
        if empty:
            reasons = Counter(one.value for one in answers[empty[0]] if isinstance(one, Nothing))
            said = ", ".join(f"{count} x {reason}" for reason, count in reasons.items())
            raise DataError(
                f"{len(empty)} of {len(kept)} conversations have no score from {self._judge.model}; "
                f"the first is conversation {empty[0]} ({said}). Leave them out (JudgeSource.scores has NaN "
                "there), ask more often (repeats), or change the prompt"
            )
        if self.kind == "probabilities":
            rows = [[math.fsum(column) / len(row) for column in zip(*row, strict=True)] for row in kept]
            return Categorical(
                torch.tensor(rows, dtype=torch.float64).reshape(-1, len(self.scale)), self.scale
            )
        width = max(map(len, kept), default=1)
        samples = torch.tensor([row + [0.0] * (width - len(row)) for row in kept], dtype=torch.float64)
        mask = torch.tensor([[i < len(row) for i in range(width)] for row in kept])
        return Empirical(samples.reshape(-1, width), mask.reshape(-1, width))

    def __call__(self, rows: Rows) -> Sequence[float]:
        """The utility of each row's completion, as a `RewardSource`.

        Raises:
            DataError: no answer for a completion has a score.
        """
        scored = [conversation(p, c) for p, c in zip(rows["prompt"], rows["completion"], strict=True)]
        numbers: list[float] = self.score(scored, self.risk).tolist()
        return numbers

    def _answers(self, conversations: Sequence[Conversation]) -> list[list[Any]]:
        """For each conversation what each of its answers says: a score, probabilities or nothing."""
        listed = as_conversations(conversations)
        for place, one in enumerate(listed):
            check(one, place)
        asked = [self._score_questions(one) for one in listed]
        flat = self._judge.ask([one for row in asked for one in row])
        read = [self._read(answer) for answer in flat]
        self._count(read)
        each = len(self.personas) * self.repeats
        return [read[start : start + each] for start in range(0, len(read), each)]

    def _read(self, answer: Mapping[str, Any]) -> float | list[float] | Nothing:
        if answer["refused"]:
            return Nothing.REFUSED
        if self.kind == "probabilities":
            return score_probabilities([(token, value) for token, value in answer["top"]], self.scale)
        found = stated_score(answer["text"], self.scale)
        if answer["cut_off"] and (found is Nothing.UNPARSEABLE or answer["text"][-1:].isdigit()):
            return Nothing.CUT_OFF  # the 1 at its end may have been going to be a 10
        return found

    def _count(self, answers: Iterable[Any]) -> None:
        for one in answers:
            self.counts["answers"] += 1
            if isinstance(one, Nothing):
                self.counts[one.value] += 1

    # -- votes -----------------------------------------------------------------------------------

    def votes(self, rows: Iterable[Mapping[str, Any]]) -> datasets.Dataset:
        """The personas' votes on pairs, each asked in both orders.

        A vote counts if both orders agree; one that follows the order is in `counts`, and is not a tie.

        Args:
            rows: prompt (text or messages), response_a, response_b; other columns are kept.

        Returns:
            The rows with `votes` (1: a is better, -1: b, 0: tie) and `rater_ids`, the personas; as
            `pl.load_comparisons` reads them. Rows without any vote are left out, and counted as
            `rows without a vote`.

        Raises:
            DataError: no row has a vote.
            RunError: the server refuses or does not respond. Answers so far are kept.
        """
        import datasets

        listed = [dict(row) for row in rows]
        for number, row in enumerate(listed):
            wrong = [name for name in ("response_a", "response_b") if not isinstance(row.get(name), str)]
            wrong += [] if isinstance(row.get("prompt"), str | list) else ["prompt"]
            if wrong:
                found = f"{wrong[0]} is {row.get(wrong[0])!r}"
                raise DataError(f"row {number}: {found}; needed: prompt, response_a and response_b")
        asked = [one for row in listed for one in self._vote_questions(row)]
        read = [_vote(answer) for answer in self._judge.ask(asked)]
        verdicts = [
            _agreed(*read[place : place + 2]) for place in range(0, len(read), 2)
        ]  # of one persona on one row
        self._count(verdicts)
        kept = []
        for place, row in enumerate(listed):
            own = verdicts[place * len(self.personas) : (place + 1) * len(self.personas)]
            valid = [(n, v) for n, v in zip(self.personas, own, strict=True) if not isinstance(v, Nothing)]
            if not valid:
                self.counts["rows without a vote"] += 1
                continue
            names = [name or "judge" for name, _ in valid]
            kept.append(row | {"votes": [vote for _, vote in valid], "rater_ids": names})
        if not kept:
            raise DataError(f"the judge gave no vote on {len(listed)} pairs: {dict(self.counts)}")
        return datasets.Dataset.from_list(kept)

    def _vote_questions(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Each persona in both orders."""
        prompt = readable(conversation(row["prompt"], "")[:-1])
        sides = (row["response_a"], row["response_b"])
        return [
            self._question(
                self.vote_prompt, {"prompt": prompt, "response_a": first, "response_b": second}, persona, 0
            )
            for persona in self.personas.values()
            for first, second in (sides, sides[::-1])
        ]


def _vote(answer: Mapping[str, Any]) -> int | Nothing:
    if answer["refused"]:
        return Nothing.REFUSED
    found = stated_vote(answer["text"])
    return Nothing.CUT_OFF if found is Nothing.UNPARSEABLE and answer["cut_off"] else found


def _agreed(one: int | Nothing, other: int | Nothing) -> int | Nothing:
    """The vote that both orders give; `other` is of the exchanged one."""
    if isinstance(one, Nothing):
        return one
    if isinstance(other, Nothing):
        return other
    return one if one == -other else Nothing.INCONSISTENT


def _personas(personas: Any) -> dict[str, str | None]:
    """Name -> description; one without a name or description where there are none.

    Raises:
        ConfigError: there are none, one is not a text, or one comes twice.
    """
    if personas is None:
        return {"": None}
    if isinstance(personas, str) or not isinstance(personas, Mapping | Sequence):
        raise ConfigError(
            f"personas: received {type(personas).__name__}; allowed: name -> description, or a list"
        )
    pairs = list(personas.items()) if isinstance(personas, Mapping) else [(one, one) for one in personas]
    wrong = [one for pair in pairs for one in pair if not isinstance(one, str) or not one.strip()]
    if wrong:
        raise ConfigError(f"personas: received {wrong[0]!r}; allowed: names and descriptions in words")
    named = dict(pairs)
    if not named or len(named) < len(pairs):
        raise ConfigError(f"personas: received {personas!r}; allowed: at least one, none of them twice")
    return dict(named)
