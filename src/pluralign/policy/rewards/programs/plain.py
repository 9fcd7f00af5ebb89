"""Plain values over a connection: numbers, texts and containers of these, nothing that stays on either side.

In: a value and a connection. Out: the same value in the other process. Like `wire`, which turns values into
bytes, this file is sent into the sandbox.
"""

from __future__ import annotations

from pluralign.policy.rewards.programs import wire

TYPE_CHECKING = False  # as in `typing`; for what this process imports see `wire`
if TYPE_CHECKING:
    from typing import Any

__all__ = ["framed", "receive", "send"]


def send(connection: wire.Connection, value: Any) -> None:
    """Writes a value.

    Raises:
        TypeError: it is not plain.
        Closed, TimeoutError: as in `wire.send`.
    """
    wire.send(connection, wire.encode(value, {}, _not_plain))


def receive(connection: wire.Connection, limit: int = wire.MAX_FRAME + (1 << 20)) -> Any:
    """Reads a value.

    Raises:
        Broken: it is not plain, or has more than `limit` bytes.
        Closed, TimeoutError: as in `wire.receive`.
    """
    return wire.decode(wire.receive(connection, limit), _refuse, _refuse, _refuse)


def framed(value: Any) -> bytes:
    """The bytes that `send` writes.

    Raises:
        TypeError: it is not plain.
    """
    frame = wire.encode(value, {}, _not_plain)
    return len(frame).to_bytes(4, "big") + frame


def _not_plain(value: object) -> tuple[int, str]:
    raise TypeError(f"{type(value).__name__} is not plain")


def _refuse(*_: object) -> None:
    raise wire.Broken("only plain values are expected here")
