"""From completions with rewards to the training table of a policy (see `columns`).

In: one row per completion with its reward, from `sources.read_rewards`. Out: a training table, and the number
of rows that were left out, by reason.

    unpaired_table     every completion is a training response, the others of its prompt are its references
    pairs_table        the best and the worst completion of each prompt
    attach_references  other responses, with the references of their prompts
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from pluralign.data import conversation
from pluralign.errors import ArgumentError, DataError
from pluralign.policy.rewards.columns import (
    CUT_OFF,
    PAIRS,
    REFERENCES,
    REWARDS,
    TEXTS,
    TOKEN_IDS,
    TOKENIZER,
    UNPAIRED,
    Shape,
    check_training_table,
)
from pluralign.policy.rewards.length_control import LengthControl, fit_length_control
from pluralign.policy.rewards.ranks import pad_references
from pluralign.policy.rewards.sources import RewardSource, rewards_of
from pluralign.policy.sampling.settings import Prompt, prompt_key

if TYPE_CHECKING:
    import datasets

__all__ = ["References", "TrainingTable", "attach_references", "pairs_table", "unpaired_table"]

_TIES = "references all tie"


@dataclass(frozen=True)
class TrainingTable:
    """Rows to train on.

    Attributes:
        rows: `datasets.Dataset`, columns as in `columns`.
        left_out: reason -> number of completions or pairs that were left out.
    """

    rows: datasets.Dataset
    left_out: Mapping[str, int] = field(default_factory=dict)


class References:
    """Completions with rewards, by prompt.

    Args:
        rewarded: rows with prompt_id, prompt, completion, num_tokens, cut_off, reward; also token_ids and
            tokenizer, where they are known.
        length_control: remove the part of the reward that depends on length.

    Attributes:
        control: the fitted length control, or None.

    Raises:
        DataError: there are no rows, or lengths are needed but not known.
    """

    def __init__(self, rewarded: datasets.Dataset, *, length_control: bool = False) -> None:
        if not len(rewarded):
            raise DataError("rewarded completions: received no rows; at least one is needed")
        columns = {name: rewarded[name][:] for name in rewarded.column_names}
        self._drawn = any(columns.get(TOKENIZER, ()))
        self._groups: dict[str, list[dict[str, Any]]] = {}
        for row in range(len(rewarded)):
            one = {name: values[row] for name, values in columns.items()}
            self._groups.setdefault(one["prompt_id"], []).append(one)
        self._raw = self._groups
        self.control: LengthControl | None = None
        if length_control:
            self._control_length()

    def _control_length(self) -> None:
        if any(one["num_tokens"] is None for group in self._groups.values() for one in group):
            raise DataError("length control needs num_tokens of every completion; some are not known")
        groups = list(self._groups.values())
        rewards, keep = pad_references([[one["reward"] for one in group] for group in groups])
        lengths, _ = pad_references([[one["num_tokens"] for one in group] for group in groups])
        self.control = fit_length_control(rewards, lengths, keep)
        controlled = self.control(rewards, lengths, rewards, lengths, keep).tolist()
        self._groups = {
            key: [one | {"reward": value} for one, value in zip(group, values, strict=False)]
            for (key, group), values in zip(self._groups.items(), controlled, strict=True)
        }

    def groups(self) -> list[list[dict[str, Any]]]:
        """The completions of each prompt, with the rewards for training."""
        return list(self._groups.values())

    def of(self, prompt: Prompt) -> list[dict[str, Any]] | None:
        """The completions of one prompt; None if it was not sampled."""
        return self._groups.get(prompt_key(prompt))

    def drawn(self, shape: Shape, *completions: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of a training row that say which tokens were drawn; none where they are unknown."""
        if not self._drawn:
            return {}
        tokenizers = [one[TOKENIZER] for one in completions if one[TOKENIZER] is not None]
        ids = [one["token_ids"] for one in completions]
        return dict(zip(TOKEN_IDS[shape], ids, strict=True)) | {TOKENIZER: next(iter(tokenizers), None)}

    def controlled(self, prompt: Prompt, reward: float, num_tokens: int) -> float:
        """The reward of another response to a sampled prompt, length-controlled like the references."""
        if self.control is None:
            return reward
        group = self._raw[prompt_key(prompt)]
        rewards = torch.tensor([[one["reward"] for one in group]], dtype=torch.float64)
        lengths = torch.tensor([[float(one["num_tokens"]) for one in group]], dtype=torch.float64)
        own = torch.tensor([[reward]]), torch.tensor([[float(num_tokens)]])
        return float(self.control(*own, rewards, lengths))


def unpaired_table(
    references: References,
    *,
    per_prompt: int | None = None,
    leave_out_tied: bool = True,
    leave_out_cut_off: bool = False,
) -> TrainingTable:
    """Every completion as a training response whose references are all completions of its prompt.

    Args:
        references: rewarded completions.
        per_prompt: train only on this number of completions per prompt, the first ones; all stay references.
        leave_out_tied: leave out prompts whose references all tie: ranks have no information for them.
        leave_out_cut_off: do not train on completions without an end; they stay references.

    Raises:
        DataError: a prompt has a single completion, which cannot be left out of its own references, or no
            rows are left.
    """
    if per_prompt is not None and per_prompt < 1:
        raise ArgumentError(f"per_prompt must be at least 1, received {per_prompt}")
    rows, left_out = [], Counter[str]()
    _need_two(references.groups())
    for group in references.groups():
        shared = _shared(group)
        if leave_out_tied and _tied(group):
            left_out[_TIES] += len(group)
            continue
        for one in group[:per_prompt]:
            if leave_out_cut_off and one["cut_off"]:
                left_out["cut off"] += 1
                continue
            rows.append(
                {
                    "prompt": one["prompt"],
                    "completion": one["completion"],
                    "reward": one["reward"],
                    **shared,
                    "num_tokens": one["num_tokens"],
                    "cut_off": bool(one["cut_off"]),
                    "among_references": True,
                    **references.drawn(UNPAIRED, one),
                }
            )
    return _table(rows, left_out)


def pairs_table(references: References, *, leave_out_cut_off: bool = False) -> TrainingTable:
    """Pairs of the best and the worst completion of each prompt; the first one if several are equal.

    Args:
        references: rewarded completions.
        leave_out_cut_off: choose only from completions that ended.

    Raises:
        DataError: a prompt has a single completion, or no rows are left.
    """
    rows, left_out = [], Counter[str]()
    _need_two(references.groups())
    for group in references.groups():
        usable = [one for one in group if not (leave_out_cut_off and one["cut_off"])]
        if len(usable) < 2:
            left_out["cut off"] += 1
            continue
        if _tied(usable):
            left_out[_TIES] += 1
            continue
        best = max(usable, key=lambda one: one["reward"])
        worst = min(usable, key=lambda one: one["reward"])
        rows.append(
            {
                "prompt": best["prompt"],
                "chosen": best["completion"],
                "rejected": worst["completion"],
                "reward_chosen": best["reward"],
                "reward_rejected": worst["reward"],
                **_shared(group),
                "cut_off_chosen": bool(best["cut_off"]),
                "cut_off_rejected": bool(worst["cut_off"]),
                "among_references": True,
                **references.drawn(PAIRS, best, worst),
            }
        )
    return _table(rows, left_out)


def attach_references(
    table: datasets.Dataset,
    references: References,
    source: RewardSource,
    lengths: Mapping[str, Sequence[int]] | None = None,
) -> TrainingTable:
    """Other responses, with rewards of the same source and the references of their prompts.

    Args:
        table: {prompt, completion} or {prompt, chosen, rejected}; other columns are kept.
        references: rewarded completions of the same prompts.
        source: source of the rewards of the references.
        lengths: text column -> tokens of each response; required if the references are length-controlled.

    Returns:
        Rows whose prompt was not sampled are left out and counted.

    Raises:
        DataError: the table is not valid, a reward is not a finite number, or no rows are left.
        ArgumentError: lengths are required but not given.
    """
    shape = check_training_table(table, rewards=False, references=False)
    rows = table.to_list()
    for text, reward in zip(TEXTS[shape], REWARDS[shape], strict=True):
        asked = {
            "prompt": [_messages(row["prompt"]) for row in rows],
            "completion": [row[text] for row in rows],
        }
        for row, value in zip(rows, rewards_of(source, asked, text), strict=True):
            row[reward] = value
    if references.control is not None and lengths is None:
        raise ArgumentError("the references are length-controlled, so lengths of the responses are needed")
    kept, left_out = [], Counter[str]()
    for number, row in enumerate(rows):
        prompt = _messages(row["prompt"])
        group = references.of(prompt)
        if group is None:
            left_out["prompt was not sampled"] += 1
            continue
        for text, reward in zip(TEXTS[shape], REWARDS[shape], strict=True):
            if lengths is not None:
                row[reward] = references.controlled(prompt, row[reward], lengths[text][number])
        flags = {flag: bool(row.get(flag)) for flag in CUT_OFF[shape]}
        kept.append({**row, "prompt": prompt, **_shared(group), **flags, "among_references": False})
    return _table(kept, left_out)


def _messages(prompt: str | Prompt) -> list[dict[str, str]]:
    return conversation(prompt, "")[:-1]


def _shared(group: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    lengths = [one["num_tokens"] for one in group]
    known = {} if None in lengths else {"ref_lengths": lengths}
    return {REFERENCES: [one["reward"] for one in group], **known}


def _tied(group: Sequence[Mapping[str, Any]]) -> bool:
    return len({one["reward"] for one in group}) == 1


def _need_two(groups: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    alone = [group[0]["prompt_id"] for group in groups if len(group) < 2]
    if alone:
        raise DataError(
            f"the prompt {alone[0]} has a single completion ({len(alone)} of {len(groups)} prompts have), "
            "which cannot be left out of its own references; sample at least two per prompt"
        )


def _table(rows: list[dict[str, Any]], left_out: Counter[str]) -> TrainingTable:
    import datasets

    if not rows:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in left_out.items())
        advice = (
            "; rewards that differ between completions of a prompt are needed" if _TIES in left_out else ""
        )
        raise DataError(f"no training rows are left ({reasons}){advice}")
    return TrainingTable(datasets.Dataset.from_list(rows), dict(left_out))
