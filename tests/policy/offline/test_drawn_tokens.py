"""What a policy drew is what it is trained on: token ids from sampling to the training table's rows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import datasets
import pytest

import tiny_policy
from pluralign.conversations import ConversationReader
from pluralign.policy import (
    ColumnReward,
    FunctionReward,
    LocalSampler,
    OfflineConfig,
    References,
    SamplingSettings,
    pairs_table,
    read_rewards,
    read_samples,
    reward_samples,
    sample_references,
    unpaired_table,
)
from pluralign.policy.offline.data import prepare
from pluralign.policy.offline.objectives import find_objective
from pluralign.policy.sampling.imported import import_samples

ENDS = ["<|end|>", *"abcdefghijklmnopqrstuvwxyz"]  # else a policy of random weights seldom ends
PROMPTS = [tiny_policy.user(text) for text in ("a", "is it?", "why so")]


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> References:
    folder = tmp_path_factory.mktemp("drawn")
    sampler = LocalSampler(
        tiny_policy.model(), tiny_policy.tokenizer(), identity={"model": "tiny"}, end_tokens=ENDS
    )
    samples = sample_references(PROMPTS, sampler, folder / "samples", SamplingSettings(6, 12, seed=1))
    source = FunctionReward(lambda prompts, texts: [float(i) for i in range(len(texts))], "order")
    return References(read_rewards(samples, reward_samples(samples, source, folder / "rewards")))


def prepared(table: Any, tokenizer: Any = None, **options: Any) -> Any:
    objective = "dpo" if "chosen" in table.column_names else "qrpo"
    config = OfflineConfig("unused", method=objective, report_to="none", use_cpu=True, **options)
    return prepare(table, tokenizer or tiny_policy.tokenizer(), config, find_objective(objective)).rows


def drawn_of(references: References) -> list[list[int]]:
    return [one["token_ids"] for group in references.groups() for one in group]


def test_what_was_drawn_is_trained_on(references: References) -> None:
    drawn, table = drawn_of(references), unpaired_table(references).rows
    rows = prepared(table)
    assert rows["completion_ids"][:] == drawn
    ends = {ids[-1] for ids, cut in zip(drawn, table["cut_off"], strict=True) if not cut}
    assert ends <= set(tiny_policy.tokenizer().convert_tokens_to_ids(ENDS))
    assert len(ends) > 3
    reader = ConversationReader(tiny_policy.tokenizer())
    assert rows["prompt_ids"][:] == [reader.prompt_ids(prompt) for prompt in table["prompt"]]
    # Random bytes are no UTF-8, and special tokens no text: read again they would be something else.
    read_again = prepared(table.remove_columns(["token_ids", "tokenizer"]))["completion_ids"][:]
    assert sum(ids != again for ids, again in zip(drawn, read_again, strict=True)) > 9


def test_both_sides_of_a_pair(references: References) -> None:
    table = pairs_table(references).rows
    rows, groups = prepared(table), references.groups()
    assert rows["chosen_ids"][:] == [group[-1]["token_ids"] for group in groups]
    assert rows["rejected_ids"][:] == [group[0]["token_ids"] for group in groups]


def test_text_that_was_changed_is_read_as_it_is(references: References) -> None:
    table = unpaired_table(references).rows
    texts = ["other text", *table["completion"][1:]]
    changed = table.remove_columns("completion").add_column("completion", texts)
    rows = prepared(changed)
    tokenizer = tiny_policy.tokenizer()
    end = [] if table["cut_off"][0] else [1]
    assert rows["completion_ids"][0] == tokenizer("other text")["input_ids"] + end
    assert rows["completion_ids"][1:] == drawn_of(references)[1:]


def test_ids_of_another_tokenizer_are_not_taken(
    references: References, caplog: pytest.LogCaptureFixture
) -> None:
    table = unpaired_table(references).rows
    other = tiny_policy.tokenizer()
    other.add_tokens(["ab"])
    with caplog.at_level(logging.WARNING, "pluralign.policy"):
        rows = prepared(table, other)
    assert "the responses of 18 rows were sampled with another tokenizer" in caplog.text
    bare = prepared(table.remove_columns(["token_ids", "tokenizer"]), other)
    assert rows["completion_ids"][:] == bare["completion_ids"][:]


def test_another_end_and_a_cut_apply_to_what_was_drawn(references: References) -> None:
    table = unpaired_table(references).rows
    ended = [not cut for cut in table["cut_off"]]
    rows = prepared(table, end_token="<s>")
    for row, ids, has_end in zip(rows, drawn_of(references), ended, strict=True):
        assert row["completion_ids"] == ([*ids[:-1], 0] if has_end else ids)
    longest = len(rows["prompt_ids"][0]) + 5
    for row, ids in zip(prepared(table, max_length=longest), drawn_of(references), strict=True):
        assert row["completion_ids"] == ids[: len(row["completion_ids"])]
        assert len(row["prompt_ids"]) + len(row["completion_ids"]) <= longest


def test_samples_without_ids_are_as_before(tmp_path: Path) -> None:
    told = [{"prompt": "p", "completion": text, "reward": float(i)} for i, text in enumerate(("x", "y"))]
    samples = import_samples(told, tmp_path / "samples")
    assert read_samples(samples)["token_ids"][:] == [None, None]
    rewards = reward_samples(samples, ColumnReward(), tmp_path / "rewards")
    table = unpaired_table(References(read_rewards(samples, rewards))).rows
    assert not {"token_ids", "tokenizer"} & set(table.column_names)
    earlier = datasets.Dataset.from_list(
        [
            {key: value for key, value in row.items() if key not in ("token_ids", "tokenizer")}
            for row in read_rewards(samples, rewards)
        ]
    )
    assert unpaired_table(References(earlier)).rows.to_list() == table.to_list()
