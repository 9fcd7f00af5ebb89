"""Digests of whole columns against one text after the other."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pluralign.data.same_text import normal_text
from pluralign.data.text_digests import prompt_digests, text_digests
from property_examples import examples

# What a normal form changes, what it does not, and both sides of being long.
PIECES = st.sampled_from(
    [
        "a",
        "b ",
        " ",
        "\t",
        "\r\n",
        "\r",
        "\n",
        "\x1c",
        "\x1f",
        "\x00",
        "\xa0",
        "\u2003",
        "é",
        "e\u0301",
        "x" * 19,
    ]
)
TEXTS = st.lists(PIECES, max_size=5).map("".join)


def one(text: str) -> int:
    data = text.encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") if data else 0


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.none() | TEXTS, max_size=12), st.integers(0, 3))
def test_texts(texts: list[str | None], skipped: int) -> None:
    """Also where an array begins in the middle of another."""
    found, long = text_digests(pa.array(texts, pa.string()).slice(skipped))
    normal = [normal_text(text or "") for text in texts[skipped:]]
    assert found.tolist() == [one(text) for text in normal]
    assert long.tolist() == [len(text.encode()) >= 40 for text in normal]


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from(["user", "system"]), TEXTS), max_size=3), max_size=8))
def test_prompts(prompts: list[list[tuple[str, str]]]) -> None:
    rows = [[{"role": role, "content": text} for role, text in prompt] for prompt in prompts]
    kind = pa.list_(pa.struct({"role": pa.string(), "content": pa.string()}))
    found = prompt_digests(pa.chunked_array([pa.array(rows[:3], kind), pa.array(rows[3:], kind)]))
    said = ["\x1e".join(f"{role}\x1f{normal_text(text)}" for role, text in prompt) for prompt in prompts]
    assert found.tolist() == [one(text) for text in said]


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (["a ", None, ""], ["a", "", ""]),
        ([[{"role": "user", "content": "q", "name": "n"}], None, []], ["user\x1fq", "", ""]),
    ],
)
def test_prompts_of_other_types(prompts: list[Any], said: list[str]) -> None:
    assert prompt_digests(pa.chunked_array([pa.array(prompts)])).tolist() == [one(text) for text in said]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_texts_of_other_types(kind: pa.DataType) -> None:
    texts = pa.array(["a", None, " a", "é"], pa.string())
    found, _ = text_digests(texts.cast(kind))
    np.testing.assert_array_equal(found, text_digests(texts)[0])
