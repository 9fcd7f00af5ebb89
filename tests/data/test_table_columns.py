"""Columns of tables at once: chosen rows, chunks, ragged lists, and numbers for what is equal."""

from __future__ import annotations

import datasets
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pluralign.data import table_columns
from pluralign.data.table_columns import (
    arrow_column,
    column_values,
    has_plain_prompts,
    prompt_codes,
    ragged,
    take,
    text_codes,
)
from property_examples import examples

MESSAGE = pa.struct({"role": pa.string(), "content": pa.string()})


def chunked(values, kind, sizes=(3, 0, 4)):
    """The values in chunks of these sizes, the last of which holds the rest."""
    parts, start = [], 0
    for size in (*sizes, len(values)):
        parts.append(pa.array(values[start : start + size], kind))
        start += size
    return pa.chunked_array(parts, kind)


def test_a_column_has_the_chosen_rows_in_their_order(monkeypatch):
    monkeypatch.setattr(table_columns, "BATCH_ROWS", 4)
    values = [f"text {i}" for i in range(20)]
    table = datasets.Dataset(pa.table({"x": chunked(values, pa.string()), "n": list(range(20))}))
    assert column_values(table, "x") == values
    order = [19, 3, 3, 0, 7, 8, 2, 11, 1, 5, 18]
    chosen = table.select(order)
    assert column_values(chosen, "x") == [values[i] for i in order]
    assert arrow_column(chosen, "x").num_chunks == 3
    assert column_values(chosen.select([]), "x") == []
    assert column_values(chosen.filter(lambda row: row["n"] > 7), "x") == [values[i] for i in order if i > 7]


class Public:
    """A table as a version of `datasets` would have it that calls its choice of rows something else."""

    def __init__(self, table):
        self.select_columns = table.select_columns


def test_without_the_private_attribute_columns_are_the_same():
    table = datasets.Dataset.from_dict({"x": ["a", "b", "c"]}).select([2, 0])
    assert column_values(Public(table), "x") == column_values(table, "x") == ["c", "a"]


def test_lists_are_ragged_and_some_of_them_can_be_taken():
    lists = [[1.0, 2.0], [], [3.0], [4.0, 5.0, 6.0], None]
    table = datasets.Dataset(pa.table({"r": chunked(lists, pa.list_(pa.float64()), (2,))}))
    found = ragged(table, "r")
    assert found.values.tolist() == [1, 2, 3, 4, 5, 6]
    assert found.sizes.tolist() == [2, 0, 1, 3, 0]
    some = found[np.array([3, 1, 0, 3])]
    assert some.values.tolist() == [4, 5, 6, 1, 2, 4, 5, 6]
    assert some.sizes.tolist() == [3, 0, 2, 3]
    assert ragged(table.select([3, 2]), "r").values.tolist() == [4, 5, 6, 3]


def test_equal_texts_have_one_number_across_chunks_and_columns():
    one, other = (
        chunked(["a", "b", "a", "é", "b"], pa.string(), (2,)),
        chunked(["b", "c", "a", "a", "x"], pa.string()),
    )
    first, second = text_codes(one, other)
    assert first.tolist() == [0, 1, 0, 2, 1]
    assert second.tolist() == [1, 3, 0, 0, 4]


prompts = st.lists(
    st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "system"]), "content": st.sampled_from("ab")}
        ),
        max_size=4,
    ),
    max_size=30,
)


def said(prompt):
    return repr([(message["role"], message["content"]) for message in prompt])


@settings(max_examples=examples(80), deadline=None)
@given(prompts)
def test_prompts_are_numbered_as_they_appear(values):
    known: dict[str, int] = {}
    expected = [known.setdefault(said(prompt), len(known)) for prompt in values]
    column = chunked(values, pa.list_(MESSAGE))
    assert has_plain_prompts(column)
    numbers, first = prompt_codes(column)
    assert numbers.tolist() == expected
    assert [said(prompt) for prompt in take(column, first).to_pylist()] == list(known)


@pytest.mark.parametrize(
    "values",
    [["text"], [[{"role": "user", "content": "a", "name": "b"}]], [None, [{"role": "a", "content": "b"}]]],
)
def test_other_prompts_are_not_plain(values):
    assert not has_plain_prompts(pa.chunked_array([values]))
