"""Rollouts: the policy's responses to prompts, token by token, and which tokens it chose itself.

In: rows with prompts, a sampler. Out: `Rollout`s. A rollout may have several turns: its mask then has holes
for turns of a tool or a user. `draw_once` samples one turn; a function with the same signature may sample
several turns, without changes elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pluralign.conversations import ConversationReader
from pluralign.data.messages import conversation
from pluralign.data.problems import preview
from pluralign.errors import ArgumentError, DataError
from pluralign.policy.sampling.settings import (
    Completion,
    Sampler,
    SamplingSettings,
    completion_seed,
    prompt_key,
)

__all__ = ["Draw", "Rollout", "draw_once", "keep_masks", "padded", "prompt_rows"]

Row = Mapping[str, Any]  # column prompt, a message list; other columns are for the reward


@dataclass(frozen=True)
class Rollout:
    """One response, or several turns of one.

    Attributes:
        row: row of the table of prompts.
        group: number of the prompt within its batch; responses to one prompt share it.
        prompt_ids: tokens before the first that the policy chose; at least one.
        response_ids: all tokens after them, including the end token.
        chosen: for each of these, whether the policy chose it.
        messages: the conversation, including the response.
        ended: whether the policy generated the end of its last turn.
    """

    row: Row
    group: int
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    chosen: tuple[bool, ...]
    messages: tuple[Mapping[str, str], ...]
    ended: bool

    def __post_init__(self) -> None:
        if len(self.chosen) != len(self.response_ids) or not self.prompt_ids:
            raise ArgumentError(
                f"a rollout needs a prompt and one mask entry per token, received {len(self.prompt_ids)} "
                f"prompt tokens, {len(self.response_ids)} tokens and {len(self.chosen)} entries"
            )

    @property
    def text(self) -> str:
        """The last response."""
        return str(self.messages[-1]["content"])


Draw = Callable[[Sampler, ConversationReader, Sequence[Row], SamplingSettings, int, int], list[Rollout]]
"""(sampler, reader, all rows of the step, settings, process, processes) to the rollouts of this process."""


def draw_once(
    sampler: Sampler,
    reader: ConversationReader,
    rows: Sequence[Row],
    settings: SamplingSettings,
    rank: int = 0,
    world: int = 1,
) -> list[Rollout]:
    """One turn: settings.completions consecutive responses to each prompt.

    A response's seed is derived from its prompt and its number; a prompt in several rows has another seed for
    each. The seed does not depend on the process that samples the row.

    Args:
        sampler: sampler of the policy.
        reader: conversation reader with its tokenizer.
        rows: rows of the step, of all processes.
        settings: number of responses, length, seed.
        rank: number of this process, which samples every `world`-th row.
        world: number of processes.

    Raises:
        ArgumentError: the sampler does not return the sampled tokens.
    """
    counts: Counter[str] = Counter()
    rounds: dict[int, list[list[int]]] = {}  # by number of the repetition, the places of each process
    for place, row in enumerate(rows):
        key = prompt_key(row["prompt"])
        rounds.setdefault(counts[key], [[] for _ in range(world)])[place % world].append(place)
        counts[key] += 1
    found: dict[int, list[Rollout]] = {}
    for repeat, by_process in rounds.items():
        places = by_process[rank]
        # Processes that share weights sample as often as each other: one with fewer prompts draws its last
        # or the first one more than once.
        surplus = max(map(len, by_process)) - len(places)
        prompts = [rows[place]["prompt"] for place in (*places, *[(places or [0])[-1]] * surplus)]
        drawn = sampler.sample(prompts, replace(settings, seed=_repeated(settings.seed, repeat)))
        for place, completions in zip(places, drawn, strict=False):
            prompt_ids = tuple(reader.prompt_ids(rows[place]["prompt"]))
            found[place] = [_rollout(rows[place], place, prompt_ids, one, sampler) for one in completions]
    return [one for place in sorted(found) for one in found[place]]


def _rollout(row: Row, group: int, prompt_ids: tuple[int, ...], one: Completion, sampler: Sampler) -> Rollout:
    if one.token_ids is None:
        raise ArgumentError(
            f"{type(sampler).__name__} does not return the sampled tokens; online training needs them"
        )
    ids = tuple(one.token_ids)
    messages = tuple(conversation(row["prompt"], one.text))
    return Rollout(row, group, prompt_ids, ids, (True,) * len(ids), messages, not one.cut_off)


def _repeated(seed: int, repeat: int) -> int:
    """The seed of further occurrences of a prompt in a step."""
    return seed if repeat == 0 else completion_seed(seed, [], repeat)


def padded(parts: Sequence[Tensor], width: int | None = None) -> Tensor:
    """Rows of different lengths as one tensor [B, T] (or [B, T, K]), padded with zeros.

    Args:
        parts: B tensors [T_b] or [T_b, K].
        width: T; None for the longest, at least 1.
    """
    longest = max([1, *map(len, parts)]) if width is None else width
    found = torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
    beside = [0, 0] * (found.ndim - 2)
    return torch.nn.functional.pad(found, [*beside, 0, longest - found.shape[1]])


def keep_masks(rollouts: Sequence[Rollout], device: Any = None) -> Tensor:
    """The tokens that the policy chose, [B, T]."""
    return padded([torch.tensor(one.chosen, dtype=torch.bool) for one in rollouts]).to(device)


def prompt_rows(table: Any, name: str = "prompts") -> list[dict[str, Any]]:
    """The rows of a table of prompts, with each prompt as a message list; other columns are kept.

    Args:
        table: a `datasets.Dataset`, a list of rows with a column `prompt` (text or messages), or of texts.
        name: name of the table in messages.

    Raises:
        DataError: there are no rows, or a row has no prompt.
    """
    rows = []
    for number, given in enumerate(table):
        row = {"prompt": given} if isinstance(given, str) else given
        prompt = row.get("prompt") if isinstance(row, Mapping) else None
        listed = isinstance(prompt, Sequence) and all(
            isinstance(one, Mapping) and isinstance(one.get("content"), str) and one.get("role")
            for one in prompt
        )
        if not prompt or not (isinstance(prompt, str) or listed):
            raise DataError(
                f"{name}, row {number}: a column 'prompt' with text or a list of messages is needed, "
                f"received {preview(given)}"
            )
        rows.append({**row, "prompt": conversation(prompt, "")[:-1]})
    if not rows:
        raise DataError(f"{name}: there are no rows; at least one prompt is needed")
    return rows
