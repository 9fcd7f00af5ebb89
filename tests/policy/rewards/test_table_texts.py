"""Training tables in TRL's shapes are read as `fit` reads them, and pairs that say nothing give a warning."""

from __future__ import annotations

import json
import logging
from typing import Any

import datasets
import pytest

import tiny_policy
from pluralign.errors import DataError
from pluralign.policy import OfflineConfig
from pluralign.policy.offline.data import prepare
from pluralign.policy.offline.objectives import find_objective
from pluralign.policy.rewards.table_texts import read_texts

USER = tiny_policy.user("hi")


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


PLAIN = {"prompt": USER, "chosen": "yes", "rejected": "no"}
SHAPES: dict[str, dict[str, Any]] = {
    "text": {"prompt": "hi", "chosen": "yes", "rejected": "no"},
    "messages": {"prompt": USER, "chosen": [assistant("yes")], "rejected": [assistant("no")]},
    "implicit": {"chosen": [*USER, assistant("yes")], "rejected": [*USER, assistant("no")]},
    "text and messages": {
        "prompt": "hi ",
        "chosen": [*USER, assistant("yes")],
        "rejected": [*USER, assistant("no")],
    },
    "as text": {
        "prompt": json.dumps(USER),
        "chosen": json.dumps([assistant("yes")]),
        "rejected": json.dumps([assistant("no")]),
    },
}


@pytest.mark.parametrize("row", SHAPES.values(), ids=SHAPES)
def test_every_shape_is_read(row: dict[str, Any]) -> None:
    table = read_texts(datasets.Dataset.from_list([{**row, "extra": 1}] * 3), "data")
    assert [{**one} for one in table][-1].items() >= {"chosen": "yes", "rejected": "no", "extra": 1}.items()
    assert table[0]["prompt"][0]["content"].strip() == "hi"


def test_unpaired_completions_may_be_messages() -> None:
    table = read_texts(
        datasets.Dataset.from_list([{"prompt": USER, "completion": [assistant("yes")]}]), "data"
    )
    assert table[0] == {"prompt": USER, "completion": "yes"}


def test_all_problems_are_reported_with_their_rows() -> None:
    rows = [PLAIN, {**PLAIN, "chosen": None}, {**PLAIN, "prompt": [{"role": "robot", "content": "x"}]}]
    with pytest.raises(DataError) as caught:
        read_texts(datasets.Dataset.from_list(rows), "my data")
    assert [(p.row, p.column) for p in caught.value.problems] == [(2, "chosen"), (3, "prompt")]


def prepared(rows: list[dict[str, Any]], method: str = "dpo", **options: Any) -> Any:
    config = OfflineConfig("unused", method=method, report_to="none", use_cpu=True, **options)
    table = datasets.Dataset.from_list(rows)
    return prepare(table, tiny_policy.tokenizer(), config, find_objective(method))


def test_equal_sides_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    equal, late = (
        {**PLAIN, "rejected": "yes"},
        {**PLAIN, "chosen": "a" * 90 + "x", "rejected": "a" * 90 + "y"},
    )
    with caplog.at_level(logging.WARNING, "pluralign"):
        prepared([PLAIN, equal, late], max_length=64)
    assert "1 of 3 pairs have the same text on both sides, and 1 more the same tokens" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "pluralign"):
        prepared([PLAIN])
    assert not caplog.text
    with pytest.raises(DataError, match="nothing can be learned from them"):
        prepared([equal, equal])
    # Absolute rewards learn from each response by itself.
    scored = {**equal, "reward_chosen": 1.0, "reward_rejected": 0.0, "ref_rewards": [0.0, 1.0]}
    assert len(prepared([scored], "qrpo").rows) == 1
