"""From a training table to rows of token ids and targets.

In: a table as in `columns`, a tokenizer. Out: an Arrow table with one row per prompt (ids, lengths, rewards,
quantile rewards), and the numbers of cut texts. Token ids stay on disk if the table is there. `batches` makes
batches of the rows.

    prompt_ids             ids of the prompt, without its beginning if prompt and response are too long
    {side}_ids             ids of a response, with the end token unless it was cut off; tokens_{side} is their
                           number
    reward_{side}, rank_{side}, log_partition_{side}
                           see `row_numbers`; a side is completion, chosen or rejected
    row                    number of the row
    cut_off                share of the row's responses without an end token
    length                 number of tokens of all sequences of the row
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pluralign.conversations import ConversationReader, end_token_id, tokenizer_digest
from pluralign.conversations.reader import shared_length
from pluralign.data.messages import conversation
from pluralign.digests import json_digest
from pluralign.errors import ArgumentError, DataError
from pluralign.policy.offline.config import OfflineConfig
from pluralign.policy.offline.objectives import Objective
from pluralign.policy.offline.row_numbers import row_numbers
from pluralign.policy.rewards.columns import (
    CUT_OFF,
    PAIRS,
    TEXTS,
    TOKEN_IDS,
    TOKENIZER,
    check_training_table,
)
from pluralign.policy.rewards.table_texts import read_texts

__all__ = ["Prepared", "prepare", "prepare_all"]

_log = logging.getLogger("pluralign.policy")


@dataclass(frozen=True)
class Prepared:
    """A table that is ready for training.

    Attributes:
        rows: `datasets.Dataset`; columns as above.
        sides: names of the responses of a row.
        prompts_cut: number of rows whose prompt lost its beginning.
        responses_cut: number of responses that lost their end here, in addition to those already cut off.
        longest: maximum number of tokens of a prompt and its response.
    """

    rows: Any
    sides: tuple[str, ...]
    prompts_cut: int
    responses_cut: int
    longest: int


def prepare(
    table: Any,
    tokenizer: Any,
    config: OfflineConfig,
    objective: Objective,
    name: str = "training data",
    first_row: int = 0,
) -> Prepared:
    """Checks, tokenizes and ranks a table.

    Args:
        table: a `datasets.Dataset`; see `columns`.
        tokenizer: tokenizer of the policy.
        config: lengths, the end token, how ranks are counted.
        objective: the objective that the numbers are for.
        name: name of the table in messages.
        first_row: number of its first row, if several tables are numbered together.

    Raises:
        DataError: the table is not suitable for the objective; all problems are listed.
        ArgumentError: the tokenizer cannot read it.
    """
    table = read_texts(table, name, config.dataset_num_proc)
    shape = check_training_table(table, rewards=objective.rewards, references=objective.ranks, name=name)
    if shape not in objective.shapes:
        raise DataError(
            f"{name}: {shape} rows do not fit this objective; allowed: {' or '.join(objective.shapes)}"
        )
    sides, places = TEXTS[shape], range(len(TEXTS[shape]))
    if shape == PAIRS and objective.ranks and config.pair_responses != "both":
        places = range(sides.index(config.pair_responses), sides.index(config.pair_responses) + 1)
        sides = (config.pair_responses,)
    reader = ConversationReader(tokenizer, config.end_token)
    if reader.end.token_id is None and not reader.end.text:
        end_token_id(tokenizer)  # raises with the reason
    flags, drawn = ([of[shape][place] for place in places] for of in (CUT_OFF, TOKEN_IDS))
    digest = tokenizer_digest(tokenizer)
    _warn_about_other_tokenizers(table, digest, name)

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        rows = []
        for i in range(len(batch["prompt"])):
            row = {key: values[i] for key, values in batch.items()}
            ids = [row.get(column) if row.get(TOKENIZER) == digest else None for column in drawn]
            rows.append(_encode_row(reader, row, sides, flags, ids, config.max_length))
        return {key: [row[key] for row in rows] for key in rows[0]}

    rows = table.map(
        encode,
        batched=True,
        remove_columns=table.column_names,
        num_proc=config.dataset_num_proc,
        load_from_cache_file=False,
        new_fingerprint=json_digest([table._fingerprint, digest, sides, config.end_token, config.max_length]),
        desc=f"tokenizing {name}",
    )
    _no_empty(rows, sides, name)
    _warn_about_changes(rows, name)
    if objective.shapes == (PAIRS,):
        _warn_about_equal_sides(rows, name)
    rows = rows.add_column("row", list(range(first_row, first_row + len(rows))))
    numbers = row_numbers(table, rows, shape, sides, places, config, objective, name)
    for column, values in numbers.items():
        rows = rows.add_column(column, values.tolist())
    prompts_cut, responses_cut = (sum(rows[column]) for column in ("prompt_cut", "responses_cut"))
    longest = max(rows["longest"])
    kept = rows.remove_columns(["prompt_cut", "responses_cut", "longest", "equal", "changes"])
    return Prepared(kept, sides, prompts_cut, responses_cut, longest)


def prepare_all(
    tables: Mapping[str, Any], tokenizer: Any, config: OfflineConfig, objective: Objective
) -> dict[str, Prepared]:
    """`prepare` for several tables of one shape, whose rows are numbered together.

    Args:
        tables: name -> table, at least one.
        tokenizer: tokenizer of the policy.
        config: as in `prepare`.
        objective: as in `prepare`.

    Raises:
        ArgumentError: there are no tables, or they differ in shape.
    """
    found: dict[str, Prepared] = {}
    for name, table in tables.items():
        first = sum(len(part.rows) for part in found.values())
        found[name] = part = prepare(table, tokenizer, config, objective, name, first)
        if part.prompts_cut or part.responses_cut:
            _log.warning(
                "%s: %d prompts lost their beginning and %d responses their end to max_length",
                *(name, part.prompts_cut, part.responses_cut),
            )
    if len({part.sides for part in found.values()}) != 1:
        raise ArgumentError("needed: a train_dataset or an eval_dataset, all with the same shape")
    return found


def _encode_row(
    reader: ConversationReader,
    row: dict[str, Any],
    sides: Sequence[str],
    flags: Sequence[str],
    token_ids: Sequence[list[int] | None],
    max_length: int | None,
) -> dict[str, Any]:
    """Token ids of one row; each sequence fits, and the sides have the same prompt."""
    cut_off = [bool(row.get(flag)) for flag in flags]
    read = reader.read(
        [conversation(row["prompt"], row[side]) for side in sides],
        generated=bool(row.get("among_references")),
        ended=[not cut for cut in cut_off],
        token_ids=token_ids,
    )
    prompt = read[0].prompt_ids
    for one in read[1:]:
        prompt = prompt[: shared_length(prompt, one.prompt_ids)]
    responses = [one.ids[len(prompt) :] for one in read]
    equal = "text" if len({row[side] for side in sides}) < len(sides) else ""
    kept = prompt
    if max_length is not None:
        longest = max(map(len, responses))
        kept = prompt[-max(1, max_length - longest) :] if len(prompt) + longest > max_length else prompt
        room = max_length - len(kept)
        cut_here = [len(response) > room for response in responses]
        responses = [response[:room] for response in responses]
    else:
        cut_here = [False] * len(responses)
    if not equal and len(sides) > 1 and all(response == responses[0] for response in responses):
        equal = "tokens"
    ended = [not (cut or here) for cut, here in zip(cut_off, cut_here, strict=True)]
    return {
        "prompt_ids": kept,
        **{f"{side}_ids": response for side, response in zip(sides, responses, strict=True)},
        **{f"tokens_{side}": len(response) for side, response in zip(sides, responses, strict=True)},
        "cut_off": 1 - sum(ended) / len(ended),
        "length": sum(len(kept) + len(response) for response in responses),
        "longest": len(kept) + max(map(len, responses)),
        "prompt_cut": len(kept) < len(prompt),
        "responses_cut": sum(cut_here),
        "equal": equal,
        "changes": "; ".join(dict.fromkeys(change for one in read for change in one.changes)),
    }


def _warn_about_other_tokenizers(table: Any, digest: str, name: str) -> None:
    column = table[TOKENIZER] if TOKENIZER in table.column_names else ()
    if others := sum(value not in (None, digest) for value in column):
        _log.warning(
            "%s: the responses of %d rows were sampled with another tokenizer; their texts are used "
            "instead of the sampled tokens",
            *(name, others),
        )


def _warn_about_changes(rows: Any, name: str) -> None:
    for change, count in Counter(filter(None, rows["changes"])).items():
        _log.warning("%s: the chat template changes conversations of %d rows: %s", name, count, change)


def _warn_about_equal_sides(rows: Any, name: str) -> None:
    """Warns about pairs with two equal sides: their gradients cancel.

    Raises:
        DataError: all pairs are like this.
    """
    counts = Counter(rows["equal"])
    if not counts["text"] + counts["tokens"]:
        return
    problem = (
        f"{counts['text']} of {len(rows)} pairs have the same text on both sides, and {counts['tokens']} "
        "more the same tokens (after cutting to max_length, if it is set); nothing can be learned from them"
    )
    if counts["text"] + counts["tokens"] == len(rows):
        raise DataError(
            f"{name}: {problem}. Allowed: two different responses; a larger max_length keeps more"
        )
    _log.warning("%s: %s", name, problem)


def _no_empty(rows: Any, sides: Sequence[str], name: str) -> None:
    empty = [
        (row, side) for side in sides for row, count in enumerate(rows[f"tokens_{side}"], 1) if not count
    ]
    if empty:
        row, side = empty[0]
        raise DataError(
            f"{name}: {len(empty)} responses are empty and cut off, so they have no tokens to train on "
            f"(first: row {row}, {side}). Allowed: text, or an empty response that ended"
        )
