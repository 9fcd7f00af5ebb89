"""Selected completions as rows for supervised fine-tuning, or as preference pairs; in TRL's shapes.

In: a finished folder of samples, one of rewards, optionally one of novelty (`novelty`), and a
`SelectionConfig`. Out: rows, shard by shard, so that memory holds the utilities of all completions and the
texts of one shard.

    rows    prompt, completion, reward, utility, index; with novelty
    pairs   prompt, chosen, rejected, reward_chosen, reward_rejected, utility_chosen, utility_rejected; with
            novelty_chosen, novelty_rejected

Prompts, completions and both sides are message lists, as TRL's `SFTTrainer` and `DPOTrainer` and our
`OfflineTrainer` read them. `reward` is what the source gave, `utility = reward - penalty * novelty` decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from pluralign.data.numbers import is_finite_number
from pluralign.digests import text_seed
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.policy.sampling.settings import prompt_key
from pluralign.policy.sampling.shards import finished_shards, read_manifest, read_shard
from pluralign.policy.selection.config import SelectionConfig
from pluralign.policy.selection.rules import (
    Pair,
    at_least,
    pair_among,
    pair_with_worst,
    rejection_sample,
    threshold_of_share,
    top_k,
)

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Selection", "SelectionCounts"]


@dataclass
class SelectionCounts:
    """What a selection has gone through.

    Attributes:
        prompts: with at least one completion.
        completions: of them.
        rows: written.
        without: prompts without a row.
        left_out: reason -> number of completions, pairs or prompts.
    """

    prompts: int = 0
    completions: int = 0
    rows: int = 0
    without: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    total: float = 0.0
    candidates: int = 0
    total_selected: float = 0.0
    selected: int = 0

    @property
    def mean_utility(self) -> float:
        """Mean utility of all completions that could be selected; NaN without any."""
        return self.total / self.candidates if self.candidates else float("nan")

    @property
    def mean_selected(self) -> float:
        """Mean utility of the selected or chosen ones; NaN without any."""
        return self.total_selected / self.selected if self.selected else float("nan")


@dataclass(frozen=True)
class _Candidate:
    index: int
    text: str
    reward: float
    utility: float
    novelty: float | None


class Selection:
    """Goes through samples and yields the rows that are selected.

    Args:
        samples: finished folder of samples.
        rewards: folder of their rewards.
        config: how to select.
        novelty: folder of their novelty, written like rewards; None for none.

    Attributes:
        counts: filled while `rows` is read.
        threshold: utility that a completion must reach; None for methods without.

    Raises:
        ArtifactError: a folder is not finished or damaged.
        ArgumentError: rewards or novelty belong to other samples.
    """

    def __init__(
        self,
        samples: str | Path,
        rewards: str | Path,
        config: SelectionConfig,
        novelty: str | Path | None = None,
    ) -> None:
        self._samples, self._config = samples, config
        self._columns = {"reward": rewards} | ({} if novelty is None else {"novelty": novelty})
        wanted = read_manifest(samples)["description"]
        for name, folder in self._columns.items():
            if read_manifest(folder)["description"].get("samples") != wanted:
                raise ArgumentError(f"{folder} has the {name} of other samples than {samples}")
        self.counts = SelectionCounts()
        self.threshold = config.threshold
        if config.share is not None:
            usable = [one.utility for _, _, group in self._groups(SelectionCounts()) for one in group]
            if not usable:
                raise ArgumentError(f"{samples} has no completion that may be selected: all were cut off")
            self.threshold = threshold_of_share(usable, config.share)

    def rows(self) -> Iterator[list[dict[str, Any]]]:
        """The rows of each shard of samples, in the order of the prompts."""
        self.counts = SelectionCounts()
        found: list[dict[str, Any]] = []
        shard = 0
        for number, prompt, group in self._groups(self.counts):
            if number != shard:
                yield found
                found, shard = [], number
            made = self._of_prompt(prompt, group)
            self.counts.rows += len(made)
            self.counts.without += not made
            found += made
        yield found

    def schema(self) -> pa.Schema:
        """Arrow types of the rows."""
        import pyarrow as pa

        messages = pa.list_(pa.struct({"role": pa.string(), "content": pa.string()}))
        numbers = ["reward", "utility", *(["novelty"] if "novelty" in self._columns else [])]
        if self._config.pairs:
            sides = ("chosen", "rejected")
            texts = dict.fromkeys(("prompt", *sides), messages)
            return pa.schema(texts | {f"{name}_{side}": pa.float64() for name in numbers for side in sides})
        texts = dict.fromkeys(("prompt", "completion"), messages)
        return pa.schema(texts | {name: pa.float64() for name in numbers} | {"index": pa.int32()})

    def _groups(self, counts: SelectionCounts) -> Iterator[tuple[int, Any, list[_Candidate]]]:
        """The number of the shard, the prompt, and its completions that may be selected."""
        files = zip(
            finished_shards(self._samples), *map(finished_shards, self._columns.values()), strict=True
        )
        for number, (file, *beside) in enumerate(files):
            texts = read_shard(file).to_pydict()
            numbers = {
                name: _numbers(path, name, texts) for name, path in zip(self._columns, beside, strict=True)
            }
            start = 0
            keys = texts["prompt_id"]
            while start < len(keys):
                end = next((row for row in range(start, len(keys)) if keys[row] != keys[start]), len(keys))
                counts.prompts += 1
                counts.completions += end - start
                group = [
                    self._candidate(texts, numbers, row)
                    for row in range(start, end)
                    if not (self._config.leave_out_cut_off and texts["cut_off"][row])
                ]
                counts.left_out["cut off"] += end - start - len(group)
                counts.candidates += len(group)
                counts.total += sum(one.utility for one in group)
                yield number, texts["prompt"][start], group
                start = end

    def _candidate(
        self, texts: Mapping[str, Sequence[Any]], numbers: Mapping[str, Sequence[float]], row: int
    ) -> _Candidate:
        reward = numbers["reward"][row]
        novelty = numbers["novelty"][row] if "novelty" in numbers else None
        utility = reward if novelty is None else reward - self._config.penalty * novelty
        return _Candidate(texts["index"][row], texts["completion"][row], reward, utility, novelty)

    def _of_prompt(
        self, prompt: Sequence[Mapping[str, str]], group: Sequence[_Candidate]
    ) -> list[dict[str, Any]]:
        """The rows of one prompt."""
        if not group:
            self.counts.left_out["prompts whose completions were all cut off"] += 1
            return []
        utilities = [one.utility for one in group]
        random = Random(text_seed(f"{self._config.seed}:select:{prompt_key(prompt)}"))
        selected = self._select(utilities, random)
        messages = [dict(message) for message in prompt]
        if self._config.pairs:
            pairs = self._pairs(utilities, selected, random)
            self._count(group[good] for good, _ in pairs)
            return [_pair_row(messages, group[good], group[bad]) for good, bad in pairs]
        self._count(group[place] for place in selected)
        return [_row(messages, group[place]) for place in selected]

    def _select(self, utilities: Sequence[float], random: Random) -> list[int]:
        config = self._config
        if config.beta is not None:
            return rejection_sample(utilities, config.beta, random, config.k)
        if self.threshold is not None:
            return at_least(utilities, self.threshold)
        return top_k(utilities, config.k or 1)

    def _pairs(self, utilities: Sequence[float], selected: Sequence[int], random: Random) -> list[Pair]:
        margin = self._config.margin
        if self._config.method == "rejection":
            possible, pairs = len(selected) // 2, pair_among(utilities, selected, random, margin)
        else:
            possible = min(len(selected), len(utilities) - len(selected))
            pairs = pair_with_worst(utilities, selected, margin)
        if possible > len(pairs):
            self.counts.left_out["pairs whose utilities are too close"] += possible - len(pairs)
        return pairs

    def _count(self, chosen: Iterator[_Candidate]) -> None:
        for one in chosen:
            self.counts.selected += 1
            self.counts.total_selected += one.utility


def _numbers(file: Path, name: str, texts: Mapping[str, Sequence[Any]]) -> list[float]:
    """A shard's rewards or novelty, checked to be those of the texts."""
    found = read_shard(file).to_pydict()
    same = all(found.get(key) == texts[key] for key in ("prompt_id", "index"))
    if not same or not all(map(is_finite_number, found.get("reward", [None]))):
        raise ArtifactError(
            f"{file} is damaged: its rows are not those of the samples, or a {name} is not a number. Remove "
            "its folder and repeat the command to write it again"
        )
    return list(found["reward"])


def _message(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _row(prompt: list[dict[str, str]], one: _Candidate) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": prompt, "completion": _message(one.text)}
    row |= {"reward": one.reward, "utility": one.utility, "index": one.index}
    return row if one.novelty is None else row | {"novelty": one.novelty}


def _pair_row(prompt: list[dict[str, str]], good: _Candidate, bad: _Candidate) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": prompt, "chosen": _message(good.text), "rejected": _message(bad.text)}
    for name in ("reward", "utility", "novelty"):
        if getattr(good, name) is not None:
            row |= {f"{name}_chosen": getattr(good, name), f"{name}_rejected": getattr(bad, name)}
    return row
