"""Values of the standard library that count as plain: dates, named tuples, Counter and its like.

In: a value and its class. Out: words and plain values from which the other side makes the same again, of its
own class. Words come from whoever sends them, so they choose among what is listed here and nothing else.
Like `wire`, which writes the values, this file is sent into the sandbox and imports nothing before it must.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`; for what this process imports see `wire`
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["BASES", "METHODS_OF_PLAIN", "arguments_of", "container_words", "from_arguments", "from_container"]

BASES = (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)
METHODS_OF_PLAIN = frozenset(name for kind in BASES for name in dir(kind))
"""What a test may ask of a built-in value; nothing of a program answers to these names."""

# (module, class) -> the method that makes it, "" for the class itself, and the arguments of that.
_MADE_BY: dict[tuple[str, str], tuple[str, Callable[[Any], tuple[int | str, ...]]]] = {
    ("decimal", "Decimal"): ("", lambda v: (str(v),)),
    ("fractions", "Fraction"): ("", lambda v: (int(v.numerator), int(v.denominator))),
    ("datetime", "date"): ("fromisoformat", lambda v: (v.isoformat(),)),
    ("datetime", "time"): ("fromisoformat", lambda v: (v.isoformat(),)),  # with its offset from UTC, if any
    ("datetime", "datetime"): ("fromisoformat", lambda v: (v.isoformat(),)),
    ("datetime", "timedelta"): ("", lambda v: (v.days, v.seconds, v.microseconds)),
}
_VIEWS = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}
_FACTORIES = {kind.__name__: kind for kind in BASES}  # of a defaultdict
_named_tuples: dict[tuple[str, ...], Any] = {}


def arguments_of(value: Any, kind: type) -> list[Any] | None:
    """Module, class and arguments of a value that is made from numbers or text; None for any other."""
    name = (kind.__module__, kind.__name__)
    return [*name, *_MADE_BY[name][1](value)] if name in _MADE_BY else None


def from_arguments(parts: list[Any]) -> Any:
    """The value of `arguments_of`.

    Raises:
        ValueError: there is no such class here.
    """
    import importlib

    module, name, *arguments = parts
    if (module, name) not in _MADE_BY or not all(type(a) in (int, str) for a in arguments):
        raise ValueError("an unknown type")
    made: Any = getattr(importlib.import_module(module), name)
    method = _MADE_BY[module, name][0]
    return (getattr(made, method) if method else made)(*arguments)


def container_words(value: Any, kind: type) -> tuple[str, ...]:
    """What a container is, beyond the list, tuple or dict that holds the same; () for these and their kin."""
    if kind in _VIEWS:
        return (_VIEWS[kind],)
    if kind.__module__ == "collections" and kind.__name__ in ("Counter", "OrderedDict"):
        return (kind.__name__,)
    if kind.__module__ == "collections" and kind.__name__ == "defaultdict":
        return "defaultdict", str(getattr(value.default_factory, "__name__", ""))
    fields = getattr(kind, "_fields", None) if tuple in kind.__mro__ else None
    if type(fields) is tuple and all(type(field) is str for field in fields):
        return "namedtuple", kind.__name__, *fields
    return ()


def from_container(words: tuple[str, ...], value: Any) -> Any:
    """The container that the words say, of what it holds.

    Raises:
        ValueError: there is none such.
    """
    import collections

    what, *about = words
    if type(value) is dict and what in ("Counter", "OrderedDict"):
        return getattr(collections, what)(value)
    if type(value) is dict and what == "defaultdict":
        return collections.defaultdict(_FACTORIES[about[0]], value) if about[0] in _FACTORIES else value
    if type(value) is list and what == "keys":
        return dict.fromkeys(value).keys()
    if type(value) is list and what == "values":
        return dict(enumerate(value)).values()
    if type(value) is list and what == "items":
        return dict(value).items()
    if type(value) is tuple and what == "namedtuple" and len(about) == len(value) + 1:
        named = zip(about[1:], value, strict=True)
        lies = any(name in METHODS_OF_PLAIN and callable(held) for name, held in named)
        return value if lies else _named(tuple(about), value)
    raise ValueError("an unknown type")


def _named(names: tuple[str, ...], value: tuple[Any, ...]) -> tuple[Any, ...]:
    """A named tuple, whose class is made once; without names where they are none."""
    import collections

    if names not in _named_tuples:
        make: Any = collections.namedtuple
        if len(_named_tuples) > 99:
            _named_tuples.clear()
        try:
            _named_tuples[names] = make(names[0], names[1:])
        except ValueError:
            return value
    found: tuple[Any, ...] = _named_tuples[names]._make(value)
    return found
