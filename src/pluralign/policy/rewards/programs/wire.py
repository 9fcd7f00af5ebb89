"""The messages between the tests and the program under test: plain data in frames, without code.

In: built-in values. Out: bytes, and the same values made anew on the other side. Nothing that is received is
ever evaluated, imported by name or unpickled, so whoever sends can lie about values and do nothing else. It
is also loaded into the sandbox, where there is no package and no site folder: the standard library alone, and
of that only what starts fast (`socket`, `typing` and `enum` would triple the time that a new Python takes).

A value is written for a small stack machine, so that depth costs no recursion. Plain are None, bools,
numbers, text, bytes, lists, tuples, dicts and their views, sets, frozensets, ranges, and of the standard
library deques, named tuples, Counter, OrderedDict, defaultdict of a built-in type, Decimal, Fraction and
dates (`standard_types`). Any other subclass of a plain type (a dict whose `__eq__` lies) is written as that
type holds it. Instances of classes that both sides know (`shared`) are written by name and attributes, also
in cycles. Everything else stays where it is, and the other side gets a number for it.
"""

from __future__ import annotations

import os
import struct

from pluralign.policy.rewards.programs.standard_types import (
    BASES,
    arguments_of,
    container_words,
    from_arguments,
    from_container,
)

TYPE_CHECKING = False  # as in `typing`
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Connection(Protocol):
        """What frames are read from and written to: a socket or a `Stream`."""

        def recv(self, size: int, /) -> bytes: ...

        def sendall(self, data: bytes, /) -> None: ...


__all__ = ["Broken", "Closed", "Stream", "decode", "encode", "receive", "send"]

MAX_FRAME = 16 << 20
MAX_ITEMS = 2_000_000
MAX_DEPTH = 500  # comparing and hashing deeper values ends processes

_SIZE = struct.Struct("!I")
_FLOAT = struct.Struct("!d")


class Broken(Exception):
    """The other side sent an invalid frame: malformed, too long or too deep."""


class Closed(Exception):
    """The other side is gone."""


class Stream:
    """A connected socket by its descriptor, without the module `socket`; it blocks."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def recv(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        return os.read(self.descriptor, size)

    def sendall(self, data: bytes) -> None:
        """Writes all of it."""
        left = memoryview(data)
        while left:
            left = left[os.write(self.descriptor, left) :]

    def close(self) -> None:
        """Closes the descriptor."""
        os.close(self.descriptor)


def encode(value: Any, shared: dict[str, Any], keep: Callable[[Any], tuple[int, str]]) -> bytes:
    """The value as bytes.

    Args:
        value: anything.
        shared: names of classes whose instances are written out.
        keep: gives a number and a kind to a value that is not plain and stays here.

    Raises:
        ValueError: a list that holds itself, or more than `MAX_ITEMS` values or `MAX_FRAME` bytes.
    """
    out: list[bytes] = []
    memo: dict[int, int] = {}
    open_containers: set[int] = set()
    alive: list[Any] = []  # numbers of objects stay theirs while this runs
    work: list[tuple[int, Any]] = [(0, value)]  # 0: to be written; 1: ready bytes; 2: a container is done
    count = size = 0
    while work:
        step, item = work.pop()
        if step == 1:
            out.append(item)
            size += len(item)
            continue
        if step == 2:
            open_containers.discard(item)
            continue
        count += 1
        if count > MAX_ITEMS or size > MAX_FRAME:
            break
        kind = type(item)
        plain = _atom(item, kind)
        if plain is not None:
            out.append(plain)
            size += len(plain)
            continue
        name = kind.__name__
        if name in shared and kind.__module__ != "builtins":
            if id(item) in memo:
                out.append(b"G" + _SIZE.pack(memo[id(item)]))
                continue
            memo[id(item)] = len(memo)
            alive.append(item)
            out.append(b"O" + _counted(name))
            attributes = _attributes(item)
            work.append((1, b"A" + _SIZE.pack(len(attributes))))
            for key, entry in attributes.items():
                work += [(0, entry), (0, key)]
            continue
        parts = _parts(item, kind)
        if parts is None:
            ident, word = keep(item)
            raw = word.encode("utf-8", "surrogatepass")[:80]
            out.append(b"R" + _SIZE.pack(ident) + _SIZE.pack(len(raw)) + raw)
            continue
        if id(item) in open_containers:
            raise ValueError("a value that contains itself")
        open_containers.add(id(item))
        alive.append(item)
        tag, entries = parts
        work.append((2, id(item)))
        work.append((1, tag))
        packed = _packed(entries)
        if packed is None:
            work.extend((0, entry) for entry in reversed(entries))
        else:
            work.append((1, packed))
            count += len(entries)
    if count > MAX_ITEMS or size > MAX_FRAME:
        raise ValueError(f"a value has more than {MAX_ITEMS} parts or {MAX_FRAME >> 20} MiB")
    return b"".join(out)


def _packed(entries: list[Any]) -> bytes | None:
    """Many entries that are all whole numbers of 64 bits, or all floats, at once."""
    kinds = set(map(type, entries)) if len(entries) > 15 else set()
    if kinds == {float}:
        code = b"d"
    elif kinds == {int} and min(entries) >= -(1 << 63) and max(entries) < 1 << 63:
        code = b"i" if min(entries) >= -(1 << 31) and max(entries) < 1 << 31 else b"q"
    else:
        return None
    count = len(entries)
    return b"P" + code + _SIZE.pack(count) + struct.pack(f"!{count}{code.decode()}", *entries)


def _atom(value: Any, kind: type) -> bytes | None:
    if value is None:
        return b"N"
    if kind is bool:
        return b"T" if value else b"F"
    if kind is int:
        raw: bytes = value.to_bytes((value.bit_length() + 8) // 8, "big", signed=True)
        return b"i" + _SIZE.pack(len(raw)) + raw
    if kind is float:
        return b"f" + _FLOAT.pack(value)
    if kind is str:
        return b"s" + _counted(value)
    if kind is bytes:
        return b"b" + _SIZE.pack(len(value)) + bytes(value)
    if kind is bytearray:
        return b"B" + _SIZE.pack(len(value)) + bytes(value)
    if kind is complex:
        return b"c" + _FLOAT.pack(value.real) + _FLOAT.pack(value.imag)
    return None


def _parts(value: Any, kind: type) -> tuple[bytes, list[Any]] | None:
    """Tag and entries of a container; None where the value is not plain."""
    made_from = arguments_of(value, kind)
    if made_from is not None:
        return b"X" + _SIZE.pack(len(made_from)), made_from
    if kind is range:
        return b"r" + _SIZE.pack(3), [value.start, value.stop, value.step]
    if kind.__module__ == "collections" and kind.__name__ == "deque":
        entries = list(value)
        return b"q" + _SIZE.pack(len(entries)), entries
    words = container_words(value, kind)
    more = b"M" + _counted(" ".join(words)) if words else b""
    if words and words[0] in ("keys", "values", "items"):
        entries = list(value)
        return b"l" + _SIZE.pack(len(entries)) + more, entries
    for base in kind.__mro__:
        if base is list or base is tuple or base is set or base is frozenset:
            entries = list(base.__iter__(value))
            tag = {list: b"l", tuple: b"t", set: b"S", frozenset: b"Z"}[base]
            return tag + _SIZE.pack(len(entries)) + more, entries
        if base is dict:
            ordered = words[:1] == ("OrderedDict",)  # which has an order of its own
            pairs = list(value.items() if ordered else dict.items(value))
            return b"d" + _SIZE.pack(len(pairs)) + more, [part for pair in pairs for part in pair]
        if base in BASES:  # what a number or a text of a subclass holds
            held = {int: int.__int__, float: float.__float__, str: str.__str__, complex: complex.__complex__}
            make = held.get(base, base)
            return b"v" + _SIZE.pack(1), [make(value)]
    return None


def _counted(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    return _SIZE.pack(len(raw)) + raw


def _attributes(value: Any) -> dict[str, Any]:
    """What an instance holds, in its dict and its slots, without asking the instance."""
    found = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot not in ("__dict__", "__weakref__") and hasattr(value, slot):
                found[slot] = getattr(value, slot)
    return {key: entry for key, entry in found.items() if type(key) is str}


def decode(
    raw: bytes, instance: Callable[[str], Any], fill: Callable[[Any, dict[str, Any]], None], foreign: Any
) -> Any:
    """The value in the bytes.

    Args:
        raw: what `encode` gave, or anything.
        instance: makes an empty instance of a shared class.
        fill: gives it its attributes.
        foreign: called with number and kind of something that stayed on the other side.

    Raises:
        Broken: it is not what `encode` gives.
    """
    try:
        return _decode(memoryview(raw), instance, fill, foreign)
    except Broken:
        raise
    except Exception as error:  # whatever a malformed frame runs into
        raise Broken(f"{type(error).__name__}: {error}") from None


def _decode(
    raw: memoryview, instance: Callable[[str], Any], fill: Callable[[Any, dict[str, Any]], None], foreign: Any
) -> Any:
    stack: list[Any] = []
    depths: list[int] = []  # of the first entries of the stack; the rest are atoms
    made: list[Any] = []
    place, end = 0, len(raw)

    def number() -> int:
        nonlocal place
        place += 4
        return int(_SIZE.unpack_from(raw, place - 4)[0])

    def take() -> bytes:
        nonlocal place
        length = number()
        if length > end - place:
            raise Broken("a frame is cut off")
        place += length
        return bytes(raw[place - length : place])

    def pop(count: int) -> list[Any]:
        if count > len(stack):
            raise Broken("a container claims more items than its frame holds")
        first = len(stack) - count
        entries = stack[first:]
        deepest = max(depths[first:], default=0) + 1
        if deepest > MAX_DEPTH:
            raise Broken(f"containers {MAX_DEPTH} deep")
        del stack[first:]
        del depths[first:]
        depths.extend([0] * (first - len(depths)))
        depths.append(deepest)
        return entries

    while place < end:
        tag = raw[place : place + 1].tobytes()
        place += 1
        if tag == b"i":
            stack.append(int.from_bytes(take(), "big", signed=True))
        elif tag == b"s":
            stack.append(take().decode("utf-8", "surrogatepass"))
        elif tag == b"f":
            stack.append(_FLOAT.unpack_from(raw, place)[0])
            place += 8
        elif tag in (b"N", b"T", b"F"):
            stack.append({b"N": None, b"T": True, b"F": False}[tag])
        elif tag == b"l":
            stack.append(pop(number()))
        elif tag == b"t":
            stack.append(tuple(pop(number())))
        elif tag == b"d":
            entries = pop(2 * number())
            stack.append(dict(zip(entries[::2], entries[1::2], strict=True)))
        elif tag == b"S":
            stack.append(set(pop(number())))
        elif tag == b"Z":
            stack.append(frozenset(pop(number())))
        elif tag == b"b":
            stack.append(take())
        elif tag == b"B":
            stack.append(bytearray(take()))
        elif tag == b"c":
            stack.append(complex(*struct.unpack_from("!dd", raw, place)))
            place += 16
        elif tag == b"P":
            code, count = raw[place : place + 1].tobytes().decode("ascii"), 0
            place += 1
            count = number()
            if code not in ("i", "q", "d") or count > end - place:
                raise Broken("a frame is cut off")
            stack.extend(struct.unpack_from(f"!{count}{code}", raw, place))
            place += struct.calcsize(f"!{count}{code}")
        elif tag == b"M":
            words = tuple(take().decode("utf-8").split(" "))
            stack.append(from_container(words, pop(1)[0]))
        elif tag == b"v":
            number()
        elif tag == b"q":
            from collections import deque

            stack.append(deque(pop(number())))
        elif tag == b"r":
            start, stop, step = pop(3 if number() == 3 else -1)
            stack.append(range(start, stop, step))
        elif tag == b"X":
            stack.append(from_arguments(pop(number())))
        elif tag == b"R":
            ident = number()
            stack.append(foreign(ident, take().decode("utf-8", "replace")))
        elif tag == b"O":
            made.append(instance(take().decode("utf-8")))
            stack.append(made[-1])
        elif tag == b"A":
            entries = pop(2 * number())
            depths.pop()  # of the attributes; what they hold goes with the instance
            attributes = dict(zip(entries[::2], entries[1::2], strict=True))
            if not all(type(key) is str and not key.startswith("__") for key in attributes):
                raise Broken("an attribute has no name")
            fill(stack[-1], attributes)
        elif tag == b"G":
            stack.append(made[number()])
        else:
            raise Broken(f"an unknown tag {tag!r}")
    if len(stack) != 1:
        raise Broken("a frame holds several values")
    return stack[0]


def send(connection: Connection, frame: bytes) -> None:
    """Writes a frame.

    Raises:
        Closed: the other side no longer reads.
        TimeoutError: as the socket's timeout says.
    """
    try:
        connection.sendall(_SIZE.pack(len(frame)) + frame)
    except (BrokenPipeError, ConnectionError, OSError) as error:
        if isinstance(error, TimeoutError):
            raise
        raise Closed from None


def receive(connection: Connection, limit: int = MAX_FRAME + (1 << 20)) -> bytes:
    """Reads a frame.

    Raises:
        Closed: the other side is gone.
        Broken: it announces more than `limit` bytes.
        TimeoutError: as the socket's timeout says; per read, so callers watch the whole.
    """
    (length,) = _SIZE.unpack(_exactly(connection, 4))
    if length > limit:
        raise Broken(f"a frame of {length} bytes; at most {limit} are read")
    return _exactly(connection, length)


def _exactly(connection: Connection, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        try:
            part = connection.recv(min(length - len(parts), 1 << 20))
        except TimeoutError:
            raise
        except OSError:
            raise Closed from None
        if not part:
            raise Closed
        parts += part
    return bytes(parts)
