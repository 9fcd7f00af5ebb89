"""The columns of a table that a policy is trained on, and the check of such a table.

In: a table (rows are prompts with responses). Out: which of two shapes it has, or one error with all
problems. Such tables are made by `training_tables` and read by the trainers.

    unpaired  prompt, completion, reward, ref_rewards
    pairs     prompt, chosen, rejected, reward_chosen, reward_rejected, ref_rewards

    prompt               messages [{role, content}, ...] without the response, or text (one user message)
    completion, chosen, rejected
                         the response as text, without special tokens; "" is valid (the model ended at once).
                         Trainers also read TRL's conversational shapes (see `table_texts`)
    reward, reward_*     a finite number, higher is better
    ref_rewards          rewards of N completions of the reference policy to this prompt; N may vary by row

Known, and never required:

    cut_off, cut_off_chosen, cut_off_rejected
                         true if the response reached the token limit: it has no end token, so its
                         log-probability must not include one; missing or null means false
    among_references     true if the responses of the row are among the reference completions, so that the
                         reward of each is left out of its own rank, and the response is read as the policy
                         generated it; null and no such column mean false (see `ranks`)
    ref_lengths          number of tokens of each reference completion, in the order of `ref_rewards`
    num_tokens           number of tokens of the completion
    token_ids, token_ids_chosen, token_ids_rejected
                         what the policy drew, the end token included, and `tokenizer`, the digest of the
                         tokenizer whose ids they are: with that tokenizer they are trained on, where they
                         spell the response; anywhere else the text is

Which of reward and ref_rewards a table needs depends on the objective: `dpo` and `simpo` need neither,
`rebel` needs rewards, `qrpo` both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pluralign.data.numbers import is_finite_number
from pluralign.data.problems import Problem, preview, raise_problems
from pluralign.errors import ArgumentError, DataError

__all__ = [
    "CUT_OFF",
    "PAIRS",
    "REFERENCES",
    "REWARDS",
    "TEXTS",
    "TOKENIZER",
    "TOKEN_IDS",
    "UNPAIRED",
    "Shape",
    "among_references",
    "check_training_table",
]

Shape = Literal["unpaired", "pairs"]
UNPAIRED: Shape = "unpaired"
PAIRS: Shape = "pairs"

# shape -> its responses, and for each response, in the same order, the columns of its reward and cut-off
TEXTS: Mapping[Shape, tuple[str, ...]] = {UNPAIRED: ("completion",), PAIRS: ("chosen", "rejected")}
REWARDS: Mapping[Shape, tuple[str, ...]] = {
    UNPAIRED: ("reward",),
    PAIRS: ("reward_chosen", "reward_rejected"),
}
CUT_OFF: Mapping[Shape, tuple[str, ...]] = {
    UNPAIRED: ("cut_off",),
    PAIRS: ("cut_off_chosen", "cut_off_rejected"),
}
TOKEN_IDS: Mapping[Shape, tuple[str, ...]] = {
    UNPAIRED: ("token_ids",),
    PAIRS: ("token_ids_chosen", "token_ids_rejected"),
}
TOKENIZER = "tokenizer"
REFERENCES = "ref_rewards"

_NUMBER = "a finite number"
_NUMBERS = "a list of at least one finite number"


def check_training_table(
    table: Any, *, rewards: bool = True, references: bool = True, name: str = "training data"
) -> Shape:
    """The shape of the table, after a check of all rows.

    Args:
        table: a `datasets.Dataset`, or anything with `column_names`, `len` and columns by name.
        rewards: whether rewards of the responses are required.
        references: whether reference rewards are required.
        name: name of the table in messages.

    Returns:
        "unpaired" or "pairs".

    Raises:
        ArgumentError: it is not a table.
        DataError: columns are missing, there are no rows, or rows are invalid; all are in `.problems`.
    """
    if not hasattr(table, "column_names"):
        raise ArgumentError(
            f"{name}: received {type(table).__name__}; pass a datasets.Dataset (Dataset.from_list(rows))"
        )
    columns = set(table.column_names)
    shapes = [shape for shape, texts in TEXTS.items() if columns >= {"prompt", *texts}]
    if len(shapes) != 1:
        found = "both" if shapes else "neither"
        raise DataError(
            f"{name}: the columns {sorted(columns)} make {found} of the two shapes; allowed: "
            "{prompt, completion} or {prompt, chosen, rejected}, with columns of rewards"
        )
    (shape,) = shapes
    numbers = REWARDS[shape] if rewards else ()
    needed = (*numbers, *((REFERENCES,) if references else ()))
    if missing := [column for column in needed if column not in columns]:
        raise DataError(
            f"{name}: no column {', '.join(missing)}; this objective needs "
            f"{', '.join(needed)} in addition to {', '.join(TEXTS[shape])}"
        )
    if not len(table):
        raise DataError(f"{name}: received no rows; at least one is needed")
    if problems := list(_problems(table, shape, needed, name)):
        raise_problems(name, problems)
    return shape


def _problems(table: Any, shape: Shape, needed: tuple[str, ...], name: str) -> Iterator[Problem]:
    checks: dict[str, tuple[Any, str]] = {"prompt": (_is_prompt, "messages {role, content}, or text")}
    checks |= dict.fromkeys(TEXTS[shape], (_is_text, "text"))
    checks |= dict.fromkeys(REWARDS[shape], (is_finite_number, _NUMBER))
    checks[REFERENCES] = (_is_numbers, _NUMBERS)
    flags = (*CUT_OFF[shape], "among_references")
    checks |= dict.fromkeys(flags, (_is_flag, "true, false or null"))
    for column, (legal, allowed) in checks.items():
        if column not in needed and column in (*REWARDS[shape], REFERENCES):
            continue
        if column in flags and column not in table.column_names:
            continue
        for row, value in enumerate(table[column], start=1):
            if not legal(value):
                yield Problem(name, row, column, preview(value), allowed)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_prompt(value: Any) -> bool:
    if isinstance(value, str):
        return True
    return isinstance(value, list) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
        for m in value
    )


def among_references(table: Any) -> list[bool] | None:
    """Which rows say that their rewards are among their references; None if the table has no such column.

    Args:
        table: as in `check_training_table`.
    """
    if "among_references" not in table.column_names:
        return None
    return [bool(value) for value in table["among_references"]]


def _is_flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(is_finite_number, value))
