"""Packing: layout by hand, no token lost, bins, order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pluralign.errors import ArgumentError
from pluralign.policy.logprobs.packing import pack, sequence_sums

sequences_of = st.lists(
    st.tuples(
        st.lists(st.integers(0, 99), min_size=1, max_size=9),
        st.lists(st.integers(0, 99), min_size=1, max_size=9),
    ),
    min_size=1,
    max_size=8,
)


def test_layout_by_hand():
    packed = pack([([1, 2], [3, 4]), ([5], [6])], None)
    assert packed.input_ids.tolist() == [1, 2, 3, 5]  # each sequence's last token predicts nothing
    assert packed.position_ids.tolist() == [0, 1, 2, 0]
    assert packed.predictors.tolist() == [1, 2, 3]
    assert packed.tokens.tolist() == [3, 4, 6]
    assert (packed.bins, packed.counts, packed.places) == ([4], [2, 1], [0, 1])


@given(sequences_of, st.one_of(st.none(), st.integers(1, 40)))
def test_every_response_token_once_under_the_token_before_it(sequences, bin_tokens):
    packed = pack(sequences, bin_tokens)
    assert sum(packed.bins) == len(packed.input_ids)
    assert sorted(packed.places) == list(range(len(sequences)))
    starts = torch.tensor([0, *packed.counts]).cumsum(0).tolist()
    for (prompt, response), place in zip(sequences, packed.places, strict=True):
        span = slice(starts[place], starts[place + 1])
        assert packed.tokens[span].tolist() == list(response)
        before = [*prompt, *response][len(prompt) - 1 : -1]
        assert packed.input_ids[packed.predictors[span]].tolist() == before
        first = len(prompt) - 1
        assert packed.position_ids[packed.predictors[span]].tolist() == list(
            range(first, first + len(response))
        )


@given(sequences_of, st.integers(1, 40))
def test_bins_hold_whole_sequences_and_no_more_than_their_size(sequences, bin_tokens):
    packed = pack(sequences, bin_tokens)
    longest = max(len(p) + len(r) - 1 for p, r in sequences)
    assert max(packed.bins) <= max(bin_tokens, longest)
    begin = 0
    for size in packed.bins:
        positions = packed.position_ids[begin : begin + size]
        assert positions[0] == 0
        begin += size


def test_sums_come_back_in_the_order_given():
    sequences = [([1], [2]), ([1, 1, 1], [3, 4, 5]), ([1], [6, 7])]
    packed = pack(sequences, 4)
    values = packed.tokens.float()  # the "log-probability" of a token is its id
    assert sequence_sums(values, packed).tolist() == [2.0, 12.0, 13.0]


def test_sums_carry_gradients():
    packed = pack([([1], [2, 3]), ([1], [4])], 1)
    values = torch.zeros(3, requires_grad=True)
    sequence_sums(values, packed)[1].backward()
    assert values.grad[packed.tokens == 4].tolist() == [1.0]
    assert values.grad[packed.tokens != 4].tolist() == [0.0, 0.0]


def test_bad_input():
    with pytest.raises(ArgumentError, match="at least one"):
        pack([], None)
    with pytest.raises(ArgumentError, match="prompt has no token"):
        pack([([], [1])], None)
