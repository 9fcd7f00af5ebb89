"""A reward model as a reward function of TRL: `reward_funcs=[RewardFunction(model, risk="cvar:0.1")]`.

In: prompts and completions as TRL passes them, texts or messages, of one turn or several. Out: one utility
per completion, and statistics of the reward distributions for the trainer to log. TRL is not imported.
Written for TRL 1.16: GRPO, RLOO and other trainers that call reward functions in the same way.

Logged as metrics (means over the batch), under names that do not depend on the measure:

    pluralign/utility          the utility that the trainer gets
    pluralign/mean             mean of the predicted rewards
    pluralign/std              their standard deviation
    pluralign/tail             the mean of their worst tenth
    pluralign/disagreement     standard deviation of the heads' means, if there are several: its doubt
    pluralign/within           then also the standard deviation within a head: how people differ
    pluralign/attribute/NAME   mean of an attribute, on the scale of its ratings
    pluralign/signs/NAME       the numbers of `pluralign.warning_signs` that this batch can show

and per completion, in the trainer's table of completions: `reward_mean` and `reward_std`.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from pluralign import risk as risk_measures
from pluralign.data.messages import conversation
from pluralign.distributions import Point, RewardDistribution
from pluralign.errors import ArgumentError, TailWarning
from pluralign.model.profiles import heads_of, profile, sign_values
from pluralign.model.scorer import distributions_of, utilities

__all__ = ["RewardFunction"]

_TAIL = 0.1

Messages = list[Mapping[str, Any]]


@final
class RewardFunction:
    """A reward function for TRL's online trainers.

    It can be called from several threads; calls of the model are sequential.

    Args:
        model: a `RewardModel` of any family, a combination, anything else with `distribution(conversations)`,
            a reward source such as `policy.ProgramReward`, which also gets the data set's columns, or a
            function of conversations that returns one number each.
        risk: risk measure that turns a distribution into a number, as in `RewardModel.score`.
        weights: attribute weights, as in `RewardModel.score`; for reward models only.
        steer: attributes with a risk measure of their own, as in `RewardModel.score`.
        name: name of the reward in TRL's logs; None to derive it from the measure.
        prefix: prefix of the names of metrics; use different ones for several reward functions.

    Raises:
        RiskError: the measure does not exist.
        ArgumentError: the model cannot score, or weights are given for one that does not take them.

    >>> trainer = GRPOTrainer(model, reward_funcs=[RewardFunction(reward_model, risk="cvar:0.1")], ...)
    ... # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        risk: str | risk_measures.RiskMeasure = "mean",
        *,
        weights: Mapping[str, float] | Sequence[float] | None = None,
        steer: Mapping[str, str] | None = None,
        name: str | None = None,
        prefix: str = "pluralign",
    ) -> None:
        if not hasattr(model, "distribution") and not callable(model):
            raise ArgumentError(
                f"model: received {type(model).__name__}; needed: a reward model, anything with "
                "distribution(conversations), a reward source, or a function of conversations"
            )
        steered = {"weights": weights, "steer": steer}
        self._options = {key: value for key, value in steered.items() if value is not None}
        if self._options and not hasattr(model, "head"):
            raise ArgumentError(
                f"{' and '.join(self._options)}: received for {type(model).__name__}; only a RewardModel "
                "takes them"
            )
        self.model = model
        self.risk = risk_measures.parse(risk)
        self.__name__ = name or re.sub(r"[^\w.]+", "_", f"pluralign_{self.risk}").rstrip("_")
        self._prefix = prefix
        self._lock = threading.Lock()
        self._first_heads: Tensor | None = None

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        *,
        trainer_state: Any = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        environments: Any = None,
        **columns: Any,
    ) -> list[float | None]:
        """One utility per completion.

        Args:
            prompts: texts or message lists.
            completions: texts or message lists; the last message of several turns is the response, those
                before it are part of the context.
            completion_ids: not used.
            trainer_state: its `global_step` tells the first step, when the policy is still the reference;
                None leaves out the sign that needs this.
            log_extra: called with a column of the trainer's table and its values.
            log_metric: called with the name of a metric and its value.
            environments: not used; results of tools are in the messages.
            columns: columns of the data set, for reward sources.

        Returns:
            A float each, in the model's units; None (for TRL: not scored) if the last message is not the
            assistant's, for example if a tool call used up the turns.

        Raises:
            ArgumentError: there are more prompts than completions, one is neither text nor messages, or a
                utility is not finite.
        """
        del completion_ids, environments
        if len(prompts) != len(completions):
            raise ArgumentError(f"received {len(prompts)} prompts and {len(completions)} completions")
        conversations = [_ending_in_response(*pair) for pair in zip(prompts, completions, strict=True)]
        places = [place for place, one in enumerate(conversations) if one is not None]
        scored = [one for one in conversations if one is not None]
        found: list[float | None] = [None] * len(conversations)
        if not scored:
            return found
        with self._lock:
            distribution, attributes, gate = self._answer(scored, _rows(conversations, places, columns))
            with warnings.catch_warnings():  # about a tail beyond the lowest level; it is only logged
                warnings.simplefilter("ignore", TailWarning)
                tail = distribution.cvar(_TAIL)
        values = utilities(self.risk, distribution)
        for place, value in zip(places, values.tolist(), strict=True):
            found[place] = value
        mean, std = distribution.mean(), distribution.std()
        if log_extra is not None:
            for column, numbers in (("reward_mean", mean), ("reward_std", std)):
                by_place: list[float | None] = [None] * len(conversations)
                for place, number in zip(places, numbers.tolist(), strict=True):
                    by_place[place] = number
                log_extra(column, by_place)
        if log_metric is not None:
            metrics = {"utility": values, "mean": mean, "std": std, "tail": tail}
            heads = distribution.heads()
            if heads is not None and heads.means.shape[-1] > 1:
                metrics["disagreement"] = heads.means.std(-1)
                metrics["within"] = distribution.variances().within.sqrt()
            metrics |= {f"attribute/{key}": one.mean() for key, one in attributes.items()}
            for key, numbers in metrics.items():
                log_metric(f"{self._prefix}/{key}", float(numbers.float().mean()))
            found_of = profile(distribution, values, gate)
            for key, number in sign_values(found_of, self._reference_heads(found_of, trainer_state)).items():
                log_metric(f"{self._prefix}/signs/{key}", number)
        return found

    def _reference_heads(self, columns: Mapping[str, Tensor], trainer_state: Any) -> Tensor | None:
        """Utilities by each head, from before the first update, when the policy was the reference."""
        with self._lock:
            if self._first_heads is None and getattr(trainer_state, "global_step", None) == 0:
                self._first_heads = heads_of(columns)
            return self._first_heads

    def _answer(
        self, conversations: list[Messages], rows: Mapping[str, list[Any]]
    ) -> tuple[RewardDistribution, Mapping[str, RewardDistribution], Tensor | None]:
        """The reward distributions, those of attributes, and the gate's weights; one forward pass."""
        model = self.model
        if hasattr(model, "head"):
            distribution, attributes, gate = model.distributions_and_gate(conversations, **self._options)
            return distribution, attributes, gate
        if hasattr(model, "distribution"):
            return distributions_of(model, conversations, type(model).__name__), {}, None
        is_source = hasattr(model, "describe")
        numbers = torch.as_tensor(model(rows) if is_source else model(conversations), dtype=torch.float32)
        if numbers.shape != (len(conversations),):
            raise ArgumentError(
                f"the reward function returned numbers of shape {list(numbers.shape)} for "
                f"{len(conversations)} conversations"
            )
        return Point(_finite(numbers)), {}, None


def _rows(
    conversations: list[Messages | None], places: list[int], columns: Mapping[str, Any]
) -> dict[str, list[Any]]:
    """The rows that a reward source takes: prompts as messages, completions as text, and other columns."""
    found = {
        name: [values[place] for place in places]
        for name, values in columns.items()
        if isinstance(values, Sequence) and not isinstance(values, str) and len(values) == len(conversations)
    }
    scored = [one for one in conversations if one is not None]
    said = [one[-1]["content"] for one in scored]
    texts = [text if isinstance(text, str) else [one[-1]] for text, one in zip(said, scored, strict=True)]
    return found | {"prompt": [one[:-1] for one in scored], "completion": texts}


def _finite(numbers: Tensor) -> Tensor:
    if not bool(numbers.isfinite().all()):
        row = int((~numbers.isfinite()).nonzero()[0])
        raise ArgumentError(f"the reward function returned {float(numbers[row])} for completion {row}")
    return numbers


def _ending_in_response(prompt: Any, completion: Any) -> Messages | None:
    """One conversation that ends in a response; None if the last message is not the assistant's."""
    for name, value in (("prompt", prompt), ("completion", completion)):
        if not isinstance(value, str | list | tuple):
            raise ArgumentError(
                f"{name}: received {type(value).__name__}; allowed: text, or a list of messages"
            )
    if isinstance(completion, str):
        return list(conversation(prompt, completion))
    before = conversation(prompt, "")[:-1]
    if not completion or completion[-1].get("role") != "assistant":
        return None
    *turns, last = completion
    return [*before, *turns, {**last, "content": last.get("content") or ""}]
