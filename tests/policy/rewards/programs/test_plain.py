"""Plain values cross a socket as they are; whatever would have to stay on a side is refused there."""

from __future__ import annotations

import socket

import pytest

from pluralign.policy.rewards.programs import plain, wire


@pytest.fixture
def ends():
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_a_value_arrives_and_has_the_bytes_that_framed_says(ends):
    value = {"tests": ["assert f(1) == 2"], "seconds": 0.5, "nested": [(1, None), {"a": b"\x00"}]}
    plain.send(ends[0], value)
    assert plain.receive(ends[1]) == value
    ends[0].sendall(plain.framed(value))
    assert plain.receive(ends[1]) == value


def test_what_is_not_plain_is_not_sent(ends):
    for write in (lambda value: plain.send(ends[0], value), plain.framed):
        with pytest.raises(TypeError, match="function is not plain"):
            write([len, lambda: None][1:])


def test_what_is_not_plain_or_too_long_is_not_read(ends):
    wire.send(ends[0], wire.encode([print], {}, lambda value: (7, "function")))
    with pytest.raises(wire.Broken, match="only plain values"):
        plain.receive(ends[1])
    plain.send(ends[0], "a" * 100)
    with pytest.raises(wire.Broken, match="at most 50 are read"):
        plain.receive(ends[1], 50)
