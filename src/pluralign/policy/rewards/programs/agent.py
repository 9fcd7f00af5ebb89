"""The program's side: runs the policy's program inside the sandbox, and executes the judge's requests.

In: a program, and requests (call this, read that) as frames on a socket. Out: plain values, numbers of things
that stay here, or the type and text of an exception. It runs beside the program, which can change all of it:
nothing it says is trusted, and it never learns what a test expects.
"""

from __future__ import annotations

import builtins
import os
import sys

from pluralign.policy.rewards.programs import wire

TYPE_CHECKING = False  # as in `typing`; for what this process imports see `wire`
if TYPE_CHECKING:
    from typing import Any

__all__ = ["run_script", "serve"]

_Module = type(sys)


class _Callback:
    """A function of the tests; calling it asks the judge."""

    def __init__(self, side: _Side, ident: int) -> None:
        self._side = side
        self._ident = ident

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._side.answer(("callback", self._ident, args, kwargs))
        done, value = self._side.read()
        if not done:
            raise getattr(builtins, value[0], RuntimeError)(value[1])
        return value


class _Side:
    """This end of the socket, and the objects that stay here."""

    def __init__(self, connection: wire.Stream, shared: list[str], names: dict[str, Any]) -> None:
        self.connection = connection
        self.shared = dict.fromkeys(shared, True)
        self.names = names
        self.kept: list[Any] = []

    def keep(self, value: Any) -> tuple[int, str]:
        if type(value) is _Callback:
            return value._ident, "yours"
        self.kept.append(value)
        return len(self.kept) - 1, "class" if isinstance(value, type) else type(value).__name__

    def foreign(self, ident: int, kind: str) -> Any:
        return self.kept[ident] if kind == "yours" else _Callback(self, ident)

    def instance(self, name: str) -> Any:
        kind = self.names[name]
        return kind.__new__(kind)

    def answer(self, value: Any) -> None:
        try:
            frame = wire.encode(value, self.shared, self.keep)
        except ValueError as error:
            frame = wire.encode(_raised(OverflowError(str(error))), {}, self.keep)
        wire.send(self.connection, frame)

    def read(self) -> Any:
        return wire.decode(wire.receive(self.connection), self.instance, _fill, self.foreign)


def _fill(instance: Any, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        setattr(instance, name, value)


def _module(name: str) -> Any:
    """Where the program runs, with what a started Python has; `site`, which brings `exit`, is not loaded."""
    builtins.__dict__.update(exit=sys.exit, quit=sys.exit)
    sys.argv = ["program.py"]
    module = sys.modules[name] = _Module(name)
    return module


def serve(connection: wire.Stream, job: dict[str, Any]) -> None:
    """Runs the program as a module, then answers until the socket closes.

    Args:
        connection: to the judge.
        job: setup and source (code), shared (class names of the setup).
    """
    module = _module("program")
    side = _Side(connection, job["shared"], module.__dict__)
    try:
        for name in ("setup", "source"):
            exec(compile(job[name], f"<{name}>", "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        side.answer(_raised(error))
        return
    side.answer(("ready",))
    while True:
        try:
            request = side.read()
        except wire.Closed:
            os._exit(0)
        try:
            answer = ("value", _do(side, request))
        except BaseException as error:
            answer = _raised(error)
        side.answer(answer)


def _raised(error: BaseException) -> Any:
    """Text and type of an exception, by the closest type that the judge knows, and its plain arguments."""
    try:
        text = str(error)
        atoms = (str, bytes, int, float, bool, type(None))
        given = error.args
        if isinstance(error, OSError) and error.filename is not None:
            given = (*given[:2], error.filename)
        given = given if all(type(part) in atoms for part in given) else ()
    except BaseException:
        text, given = "", ()
    known = next((kind for kind in type(error).__mro__ if kind.__module__ == "builtins"), Exception)
    return (
        "raised",
        known.__name__,
        f"{text}"[:500],
        type(error).__name__,
        tuple(given) if len(text) < 500 else (),
    )


def _do(side: _Side, request: Any) -> Any:
    verb, *rest = request
    if verb == "names":
        return {name: side.names[name] for name in rest[0] if name in side.names}
    target, *arguments = rest
    if verb == "call":
        args, kwargs, give_back = arguments
        result = target(*args, **kwargs)
        return (result, args, kwargs) if give_back else result
    if verb == "isinstance":
        return isinstance(arguments[0], target)
    if verb == "setattr":
        return setattr(target, *arguments)
    if verb == "setitem":
        target[arguments[0]] = arguments[1]
        return None
    if verb == "delitem":
        del target[arguments[0]]
        return None
    simple: dict[str, Any] = {
        "getattr": getattr,
        "len": len,
        "iter": iter,
        "next": next,
        "str": str,
        "repr": repr,
        "bool": bool,
    }
    return target[arguments[0]] if verb == "getitem" else simple[verb](target, *arguments)


def run_script(job: dict[str, Any]) -> None:
    """Runs the program as a script that reads its input and prints."""
    module = _module("__main__")
    try:
        for name in ("setup", "source"):
            exec(compile(job[name], f"<{name}>", "exec", dont_inherit=True), module.__dict__)
    finally:
        sys.stdout.flush()
