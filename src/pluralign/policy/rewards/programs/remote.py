"""The judge's end of the socket to a program, and stand-ins for what stays in the program.

In: requests of tests (a call, an attribute). Out: plain values, rebuilt from what was sent, or a `Remote`,
which forwards each request to the program. It runs in the judge, with the standard library alone.

A `Remote` answers no comparison: `==` is identity, decided here, whatever `__eq__` the program wrote. Nor
does it pass on `in`, or a method that built-in types have (`startswith`, `issubset`, ...): a test would hand
over the value that it expects. Those are for instances of a class that the test itself makes (a name in
capitals, `Stack().pop()`).
"""

from __future__ import annotations

import builtins
import socket
from collections import deque
from typing import Any, TypeVar

from pluralign.policy.rewards.programs import wire
from pluralign.policy.rewards.programs.standard_types import METHODS_OF_PLAIN

__all__ = ["Channel", "Gone", "ProgramFailed", "Remote", "in_place"]

_T = TypeVar("_T")
# With these a program could have code run among the tests.
_NEVER_PASSED = tuple(
    getattr(builtins, name)
    for name in ("eval", "exec", "compile", "__import__", "open", "getattr", "setattr", "delattr", "globals")
)


class Gone(BaseException):
    """The program has ended or broken the protocol; a test cannot catch this by `except Exception`."""


class ProgramFailed(Exception):
    """An exception of the program of a type that is not built in."""


class Remote:
    """Something that stays in the program."""

    __slots__ = ("_channel", "_ident", "_kind", "_made_by_test", "_name")

    def __init__(self, channel: Channel, ident: int, kind: str) -> None:
        self._channel = channel
        self._ident = ident
        self._kind = kind
        self._made_by_test = False
        self._name = ""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the program's function returns."""
        result = self._channel.ask("call", self, args, kwargs, False)
        if type(result) is Remote and self._kind == "class" and self._name[:1].isupper():
            result._made_by_test = True
        return result

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or (name in METHODS_OF_PLAIN and not self._made_by_test):
            raise AttributeError(f"a {self._kind} of the program has no {name!r} that a test may use")
        found = self._channel.ask("getattr", self, name)
        if type(found) is Remote:
            found._name = name
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        if name in Remote.__slots__:
            object.__setattr__(self, name, value)
        else:
            self._channel.ask("setattr", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._channel.ask("getitem", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._channel.ask("setitem", self, key, value)

    def __delitem__(self, key: Any) -> None:
        self._channel.ask("delitem", self, key)

    def __iter__(self) -> Any:
        iterator = self._channel.ask("iter", self)
        return iter(iterator) if type(iterator) is not Remote else _elements(iterator)

    def __next__(self) -> Any:
        return self._channel.ask("next", self)

    def __len__(self) -> int:
        return _of_type(self._channel.ask("len", self), int)

    def __bool__(self) -> bool:
        return _of_type(self._channel.ask("bool", self), bool)

    def __str__(self) -> str:
        return _of_type(self._channel.ask("str", self), str)

    def __repr__(self) -> str:
        return _of_type(self._channel.ask("repr", self), str)

    def __instancecheck__(self, instance: Any) -> bool:
        return type(instance) is Remote and _of_type(self._channel.ask("isinstance", self, instance), bool)

    def __contains__(self, value: Any) -> bool:
        return any(value is element or value == element for element in self)

    def __eq__(self, other: object) -> bool:
        return type(other) is Remote and self._channel is other._channel and self._ident == other._ident

    def __hash__(self) -> int:
        return hash((id(self._channel), self._ident))


def _elements(iterator: Remote) -> Any:
    while True:
        try:
            yield iterator._channel.ask("next", iterator)
        except StopIteration:
            return


def _of_type(value: Any, kind: type[_T]) -> _T:
    if type(value) is not kind:
        raise TypeError(f"the program gave a {type(value).__name__} where a {kind.__name__} is needed")
    assert isinstance(value, kind)
    return value


class Channel:
    """Requests to one running program.

    Args:
        connection: the socket.
        classes: classes that both sides define, by name.
    """

    def __init__(self, connection: socket.socket, classes: dict[str, type]) -> None:
        self.connection = connection
        self.classes = classes
        self.functions: list[Any] = []
        self.dead = False
        self.nonsense = ""

    def ask(self, verb: str, *arguments: Any) -> Any:
        """What the program answers.

        Raises:
            Gone: it does not.
            Exception: what the program raised, by its built-in type.
        """
        answer = self._exchange((verb, *arguments))
        while answer[0] == "callback" and len(answer) == 4:
            answer = self._exchange(self._call_back(*answer[1:]))
        if answer[0] == "value" and len(answer) == 2:
            return answer[1]
        if answer[0] == "raised":
            raise self._failure(answer)
        raise self.lost("a malformed answer")

    def ready(self) -> BaseException | None:
        """Waits until the program has been run; the exception that ended it, if one did.

        Raises:
            Gone: it ended otherwise.
        """
        answer = self._read()
        if answer[0] == "raised":
            return self._failure(answer)
        if answer[0] != "ready":
            raise self.lost("an answer that nothing asked for")
        return None

    def _failure(self, answer: tuple[Any, ...]) -> BaseException:
        if [type(part) for part in answer] != [str, str, str, str, tuple]:
            raise self.lost("a malformed answer")
        return failure(*answer[1:])

    def _exchange(self, request: Any) -> tuple[Any, ...]:
        if self.dead:
            raise Gone
        frame = wire.encode(request, self.classes, self._keep)
        try:
            wire.send(self.connection, frame)
        except wire.Closed:
            raise self.lost("") from None
        return self._read()

    def _read(self) -> tuple[Any, ...]:
        try:
            answer = wire.decode(wire.receive(self.connection), self._instance, _fill, self._foreign)
        except wire.Closed:
            raise self.lost("") from None
        except wire.Broken as error:
            raise self.lost(str(error)) from None
        if type(answer) is not tuple or not answer or type(answer[0]) is not str:
            raise self.lost("a malformed answer")
        return answer

    def lost(self, why: str) -> Gone:
        """Gives up on the program; with the reason if it sent invalid data."""
        self.dead = True
        self.nonsense = why
        return Gone()

    def _call_back(self, ident: Any, args: Any, kwargs: Any) -> tuple[bool, Any]:
        if type(ident) is not int or not 0 <= ident < len(self.functions):
            raise self.lost("a call to a function that it was never given")
        try:
            return True, self.functions[ident](*args, **kwargs)
        except Exception as error:
            return False, (type(error).__name__, str(error)[:500])

    def _keep(self, value: Any) -> tuple[int, str]:
        if type(value) is Remote:
            if value._channel is not self:
                raise Gone
            return value._ident, "yours"
        if not callable(value):
            kind = type(value).__name__
            raise TypeError(f"a test passes a {kind} to the program; allowed: plain values and functions")
        if any(value is one for one in _NEVER_PASSED):
            raise TypeError(
                f"a test passes {value.__name__} to the program, which could run code in the tests"
            )
        self.functions.append(value)
        return len(self.functions) - 1, "function"

    def _foreign(self, ident: int, kind: str) -> Any:
        if kind == "yours":
            return self.functions[ident]
        return Remote(self, ident, kind)

    def _instance(self, name: str) -> Any:
        return object.__new__(self.classes[name])


def _fill(instance: Any, attributes: dict[str, Any]) -> None:
    """Gives an instance of the tests' class its attributes, none of which takes the place of a method."""
    for name, value in attributes.items():
        own = next((vars(base)[name] for base in type(instance).__mro__ if name in vars(base)), None)
        binds = hasattr(type(own), "__get__") and not hasattr(type(own), "__set__")
        if not (binds or callable(own) or (name in METHODS_OF_PLAIN and callable(value))):
            object.__setattr__(instance, name, value)


def failure(name: str, text: str, own_name: str, arguments: tuple[Any, ...]) -> BaseException:
    """The exception that a program raised, of its built-in type where that is an Exception."""
    kind = getattr(builtins, name, None)
    error: BaseException = ProgramFailed(text)
    if isinstance(kind, type) and issubclass(kind, Exception):
        for given in (arguments, (text,)):
            try:
                made = kind(*given)
                if given is not arguments or str(made)[:500] == text:
                    error = made
                    break
            except Exception:  # UnicodeDecodeError and its like need other arguments than a text
                continue
    setattr(error, "of_program", (name, own_name))  # noqa: B010
    return error


def in_place(function: Any) -> Any:
    """A function whose changes to its arguments are carried back to the test's lists, dicts and sets."""
    if type(function) is not Remote:
        return function

    def call(*args: Any, **kwargs: Any) -> Any:
        answer = function._channel.ask("call", function, args, kwargs, True)
        if type(answer) is not tuple or len(answer) != 3:
            raise function._channel.lost("a malformed answer")
        result, after, named = answer
        if type(after) is tuple and type(named) is dict and len(after) == len(args):
            for before, now in [*zip(args, after, strict=True), *((kwargs[k], named.get(k)) for k in kwargs)]:
                _carry(before, now, function._channel.classes)
        if type(result) is Remote and function._kind == "class" and function._name[:1].isupper():
            result._made_by_test = True
        return result

    return call


def _carry(before: Any, now: Any, classes: dict[str, type]) -> None:
    kind = type(before)
    if kind is not type(now):
        return
    if isinstance(before, list | bytearray):
        before[:] = now
    elif isinstance(before, dict | set):
        before.clear()
        before.update(now)
    elif isinstance(before, deque):
        before.clear()
        before.extend(now)
    elif classes.get(kind.__name__) is kind and hasattr(before, "__dict__"):  # such as the head of a list
        before.__dict__.update(now.__dict__)
