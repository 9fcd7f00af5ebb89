"""Rewards of completions, on disk: from a reward model and a risk measure, a function, or a column.

In: a finished folder of samples (`sampling.stage`) and a source of rewards. Out: a folder of shards with one
reward per completion {prompt_id, index, reward}; an interrupted run can be continued.

A reward model returns distributions and the risk measure turns them into numbers, so every family and every
measure can be used.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

import torch

from pluralign import risk as risk_measures
from pluralign.backbones.progress import Progress
from pluralign.data import DistinctConversations
from pluralign.data.numbers import is_finite_number
from pluralign.data.problems import preview
from pluralign.errors import ArgumentError, ArtifactError, DataError, RenamedWarning
from pluralign.policy.rewards.scoring import ResponseScores, score_responses
from pluralign.policy.rewards.smooth_ranks import smooth_scores
from pluralign.policy.sampling.settings import Prompt, prompt_key
from pluralign.policy.sampling.shards import (
    ShardFolder,
    finished_shards,
    read_manifest,
    read_shard,
    read_shards,
)

if TYPE_CHECKING:
    import datasets

    from pluralign.model import RewardModel

__all__ = [
    "ColumnReward",
    "FunctionReward",
    "ModelReward",
    "RewardSource",
    "SmoothReward",
    "checked_rewards",
    "distinct_of_rows",
    "read_rewards",
    "reward_samples",
    "rewards_of",
]

Rows = Mapping[str, Sequence[Any]]  # columns prompt, completion, reward


class RewardSource(Protocol):
    """Anything that returns one reward per completion."""

    def describe(self) -> dict[str, Any]:
        """Everything that determines the rewards; JSON types."""
        ...

    def __call__(self, rows: Rows) -> Sequence[float]:
        """One number per row, higher is better."""
        ...


@final
class ModelReward:
    """A reward model's utility.

    Args:
        model: any family.
        risk: risk measure that turns a distribution into a number, as in `RewardModel.score`.
    """

    def __init__(self, model: RewardModel, risk: str | risk_measures.RiskMeasure = "mean") -> None:
        self.model = model
        self.risk = risk_measures.parse(risk)

    def describe(self) -> dict[str, Any]:
        """The family, the backbone, a digest of the head's numbers, and the measure."""
        total = hashlib.sha256()
        for name, tensor in sorted(self.model.head.state_dict().items()):
            total.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        backbone = self.model.backbone.describe()
        return {
            "kind": "model",
            "family": self.model.family,
            "backbone": {key: backbone[key] for key in ("fingerprint", "pooling", "context", "dtype")},
            "head": total.hexdigest(),
            "risk": str(self.risk),
        }

    def __call__(self, rows: Rows) -> Sequence[float]:
        """The utilities, in units of the model's reference; equal conversations have equal utilities."""
        distinct, places = distinct_of_rows(rows)
        utilities: list[float] = self.model.score(distinct, risk=self.risk).tolist()
        return [utilities[place] for place in places]

    def scores(self, rows: Rows) -> ResponseScores:
        """The same utilities, with statistics of the distributions."""
        distinct, places = distinct_of_rows(rows)
        found = score_responses(self.model, self.risk, distinct)
        return ResponseScores(
            found.utilities[places], {k: column[places] for k, column in found.columns.items()}, found.metrics
        )

    def judge(self, rows: Rows) -> ResponseScores:
        """Old name of `scores`."""
        warnings.warn("ModelReward.judge is now ModelReward.scores", RenamedWarning, stacklevel=2)
        return self.scores(rows)


@final
class SmoothReward:
    """The smooth score of `smooth_ranks`: the probability that a completion beats the others of its prompt.

    No risk measure is needed: whole distributions are compared. Its ranks are the smooth quantile rewards.

    Args:
        model: any family.
    """

    def __init__(self, model: RewardModel) -> None:
        self._by = ModelReward(model)

    def describe(self) -> dict[str, Any]:
        """As for `ModelReward`, without a measure."""
        return {**self._by.describe(), "kind": "smooth", "risk": None}

    def __call__(self, rows: Rows) -> Sequence[float]:
        """The scores; all completions of a prompt must be among the rows.

        Raises:
            ArgumentError: a prompt has a single completion.
        """
        distinct, places_of = distinct_of_rows(rows)
        distributions = self._by.model.distribution(distinct)[torch.tensor(places_of)]
        groups: dict[str, list[int]] = {}
        for row, prompt in enumerate(rows["prompt"]):
            groups.setdefault(prompt_key(prompt), []).append(row)
        scores = torch.empty(len(distributions), dtype=torch.float64)
        for size in {len(group) for group in groups.values()}:
            places = [row for group in groups.values() if len(group) == size for row in group]
            scores[places] = smooth_scores(distributions[places], size).flatten().cpu()
        first: dict[int, float] = {}  # sums in another order may round equal scores differently
        return [
            first.setdefault(place, score) for place, score in zip(places_of, scores.tolist(), strict=True)
        ]


@final
class FunctionReward:
    """The reward of a Python function: unit tests, an exact answer, another model.

    Args:
        function: from prompts (message lists) and completions (texts) to one number each.
        name: its name in the manifest; change it when the function changes.
    """

    def __init__(self, function: Callable[[list[Prompt], list[str]], Sequence[float]], name: str) -> None:
        self.function = function
        self.name = name

    def describe(self) -> dict[str, Any]:
        """Its name."""
        return {"kind": "function", "name": self.name}

    def __call__(self, rows: Rows) -> Sequence[float]:
        """The function's values; arrays, tensors and their scalars become Python numbers.

        Raises:
            DataError: it fails, or does not return a list.
        """
        try:
            values = self.function(list(rows["prompt"]), list(rows["completion"]))
        except Exception as error:
            raise DataError(
                f"the reward function {self.name} failed: {type(error).__name__}: {error}"
            ) from error
        listed = values.tolist() if hasattr(values, "tolist") else values
        if not isinstance(listed, Sequence) or isinstance(listed, str):
            raise DataError(
                f"the reward function {self.name} returned {type(values).__name__}; allowed: a list with one "
                "number per completion"
            )
        return [_plain(value) for value in listed]


@final
class ColumnReward:
    """Rewards that came with imported completions."""

    def describe(self) -> dict[str, Any]:
        """Only its kind: the numbers are part of the samples' digest."""
        return {"kind": "column"}

    def __call__(self, rows: Rows) -> Sequence[float]:
        """The column `reward`."""
        return list(rows["reward"])


def _plain(value: Any) -> Any:
    """The number in a scalar of an array library; anything else unchanged, for the check in `rewards_of`."""
    single = hasattr(value, "item") and math.prod(getattr(value, "shape", ())) == 1
    return value.item() if single else value


def distinct_of_rows(rows: Rows) -> tuple[list[list[dict[str, str]]], list[int]]:
    """The distinct conversations of the rows, and the number of each row's conversation.

    A model may round the rewards of equal texts in different positions of a batch differently, but ties must
    stay ties.
    """
    distinct = DistinctConversations()
    places = [distinct.add(p, c) for p, c in zip(rows["prompt"], rows["completion"], strict=True)]
    return distinct.conversations, places


def rewards_of(source: RewardSource, rows: Rows, name: str = "completions") -> list[float]:
    """Checked rewards of rows.

    Args:
        source: source of the rewards.
        rows: columns prompt and completion; for `ColumnReward` also reward.
        name: name of the rows in messages.

    Raises:
        DataError: the number of rewards is not that of rows, or a reward is not a finite number.
    """
    return checked_rewards(source(rows), len(rows["completion"]), name)


def checked_rewards(values: Sequence[Any], count: int, name: str) -> list[float]:
    """Rewards as numbers.

    Raises:
        DataError: there are not `count` of them, or one is not a finite number.
    """
    if len(values) != count:
        raise DataError(f"{name}: received {len(values)} rewards for {count} completions; one each is needed")
    wrong = [row for row, value in enumerate(values) if not is_finite_number(value)]
    if wrong:
        first = wrong[0]
        raise DataError(
            f"{name}: {len(wrong)} of {count} rewards are not finite numbers; the first is "
            f"{preview(values[first])}, of completion {first}. Allowed: an int or a float. A "
            "completion that cannot be scored also needs a number, or must be left out"
        )
    return [float(value) for value in values]


def reward_samples(
    samples: str | Path, source: RewardSource, path: str | Path, *, progress: Progress | None = None
) -> Path:
    """Computes rewards for all completions of a finished folder; one shard of rewards per shard of samples.

    Args:
        samples: the folder from `sample_references` or `import_samples`.
        source: source of the rewards.
        path: the output folder; the same call continues an unfinished one.
        progress: called with (shards done, total shards).

    Returns:
        The folder.

    Raises:
        ArtifactError: the samples are not finished.
        RunError: the folder was made from other samples or by another source.
        DataError: a reward is not a finite number, or programs have no tests for some of the prompts.
    """
    import pyarrow as pa

    manifest, files = read_manifest(samples), finished_shards(samples)
    description = {"stage": "rewards", "reward": source.describe(), "samples": manifest["description"]}
    columns = pa.schema({"prompt_id": pa.string(), "index": pa.int32(), "reward": pa.float64()})
    folder = ShardFolder(path, description, manifest["shards"], columns)
    missing = folder.missing()
    if missing and hasattr(source, "check"):  # before the first program is run, not after hours
        source.check(_distinct_prompts(files), str(samples))
    for done, number in enumerate(missing, start=manifest["shards"] - len(missing) + 1):
        rows = read_shard(files[number]).to_pydict()
        rewards = rewards_of(source, rows, f"{samples}, shard {number}")
        folder.write(number, {"prompt_id": rows["prompt_id"], "index": rows["index"], "reward": rewards})
        if progress is not None:
            progress(done, manifest["shards"])
    return folder.path


def _distinct_prompts(files: Sequence[Path]) -> list[Any]:
    """The prompts in shards of samples, each once."""
    found: dict[str, Any] = {}
    for file in files:
        rows = read_shard(file, ["prompt_id", "prompt"]).to_pydict()
        found |= dict(zip(rows["prompt_id"], rows["prompt"], strict=True))
    return list(found.values())


def read_rewards(samples: str | Path, rewards: str | Path) -> datasets.Dataset:
    """The samples with their rewards: one row per completion, with the column `reward`.

    Raises:
        ArtifactError: a folder is missing, not finished or damaged.
        ArgumentError: the rewards belong to other samples.
    """
    if read_manifest(rewards)["description"].get("samples") != read_manifest(samples)["description"]:
        raise ArgumentError(f"{rewards} has the rewards of other samples than {samples}")
    import datasets

    texts, numbers = read_shards(samples).remove_columns("reward"), read_shards(rewards)
    whole = all(texts[name][:] == numbers[name][:] for name in ("prompt_id", "index"))
    if not whole or not all(map(is_finite_number, numbers["reward"])):
        raise ArtifactError(
            f"{rewards} is damaged: its rows are not those of {samples}, or a reward is not a number. "
            "Remove it and repeat the command to write it again"
        )
    return datasets.concatenate_datasets([texts, numbers.select_columns("reward")], axis=1)
