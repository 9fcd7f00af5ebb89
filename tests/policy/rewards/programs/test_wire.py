"""Plain values over the wire: the same on the other side, and nothing but values whatever is sent."""

from __future__ import annotations

import collections
import math
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluralign.policy.rewards.programs import wire

ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(),
    st.complex_numbers(allow_nan=False), st.integers(min_value=-(2**3000), max_value=2**3000),
)  # fmt: skip
KEYS = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.tuples(st.integers(), st.text()))
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(KEYS, inner), st.sets(KEYS), st.frozensets(KEYS)
    ),
)  # fmt: skip


def keep(value):
    raise TypeError(type(value).__name__)


def there_and_back(value):
    return wire.decode(wire.encode(value, {}, keep), keep, keep, keep)


def same_types(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return all(map(same_types, a, b))
    return not isinstance(a, dict) or all(
        same_types(x, y) for x, y in zip(a.values(), b.values(), strict=True)
    )


@given(VALUES)
def test_plain_values_arrive_as_they_were(value):
    found = there_and_back(value)
    assert found == value
    assert same_types(found, value)


@given(st.lists(st.integers(-(2**64), 2**64), min_size=16), st.lists(st.floats(allow_nan=False), min_size=16))
def test_long_lists_of_numbers_arrive_as_they_were(whole, floats):
    for value in (
        whole,
        floats,
        [whole, floats],
        tuple(whole),
        dict(enumerate(floats)),
        [True] * 16,
        [*whole, 0.5],
    ):
        found = there_and_back(value)
        assert found == value
        assert same_types(found, value)


def test_containers_of_the_standard_library_arrive_as_they_were():
    moved = collections.OrderedDict(a=1, b=2)
    moved.move_to_end("a")
    point = collections.namedtuple("Point", "x y")
    values = [
        collections.Counter("aab"),
        moved,
        collections.defaultdict(set, a={1}),
        point(1, [2]),
        {"a": 1}.keys(),
    ]
    for value, found in zip(values, there_and_back(values), strict=True):
        assert found == value
        assert list(found) == list(value)
    counter, _, default, named, _ = there_and_back(values)
    assert (counter["z"], default["z"], named.y, type(named).__name__) == (0, set(), [2], "Point")
    assert there_and_back(point._make([1, 2])) == (1, 2)
    assert type(there_and_back(collections.defaultdict(lambda: 3))) is dict


def test_floats_arrive_bit_by_bit():
    assert math.isnan(there_and_back(math.nan))
    assert math.copysign(1, there_and_back(-0.0)) == -1


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_broken(raw):
    try:
        wire.decode(raw, keep, keep, lambda ident, kind: None)
    except wire.Broken:
        return


@given(VALUES, st.randoms(use_true_random=False))
def test_damaged_frames_are_a_value_or_broken(value, rng: random.Random):
    raw = bytearray(wire.encode(value, {}, keep))
    for _ in range(3):
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    try:
        wire.decode(bytes(raw), keep, keep, lambda ident, kind: None)
    except wire.Broken:
        return


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"NN",
        b"s\xff\xff\xff\xff",
        b"l\xff\xff\xff\xff",
        b"G\0\0\0\0",
        b"N" + b"t\0\0\0\1" * 100_000,
        b"X" + struct.pack("!I", 0),
        wire.encode(["os", "system", "true"], {}, keep)[:-5] + b"X\0\0\0\3",
        b"q\0\0\0\1",
        b"r\0\0\0\1",
        b"Pi\xff\xff\xff\xff\0\0\0\0",
        b"Ps\0\0\0\1N",
        b"l\0\0\0\0M\0\0\0\6system",
        b"d\0\0\0\0M\0\0\0\4keys",
        b"t\0\0\0\0M\0\0\0\x0enamedtuple T x",
        b"l\0\0\0\0S\0\0\0\1",
    ],
)
def test_malformed_frames_are_broken(raw):
    with pytest.raises(wire.Broken):
        wire.decode(raw, keep, keep, keep)


def test_subclasses_are_what_they_hold():
    class Lying(dict):
        def __eq__(self, other):
            return True

        def items(self):
            return [("x", 1)]

        __hash__ = None

    class Number(int):
        def __int__(self):
            return 3

    found = there_and_back([Lying(a=1), Number(7)])
    assert found == [{"a": 1}, 7]
    assert type(found[0]) is dict
    assert type(found[1]) is int


def test_a_value_that_holds_itself_is_refused():
    loop: list[object] = []
    loop.append({"x": loop})
    with pytest.raises(ValueError, match="contains itself"):
        wire.encode(loop, {}, keep)
    twice = [1]
    assert there_and_back([twice, twice]) == [[1], [1]]


def test_instances_of_shared_classes_keep_their_cycles():
    class Node:
        def __init__(self):
            self.next = None
            self.val = 1

    first, second = Node(), Node()
    first.next, second.next = second, first
    raw = wire.encode(first, {"Node": True}, keep)
    found = wire.decode(
        raw, lambda name: Node.__new__(Node), lambda node, held: node.__dict__.update(held), keep
    )
    assert found.next.next is found
    assert found.next is not found
    assert found.val == 1
