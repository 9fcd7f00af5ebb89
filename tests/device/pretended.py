"""A pretended accelerator, by which tests on a CPU find what would fail or wait on a real one.

A tensor on it holds a tensor of the CPU, and every operation is the CPU's own, so that numbers are equal. As
on a real device

- operations do not take tensors of the CPU beside its own, but for copies, indices, and single numbers that
  go into elementwise operations;
- some operations make the host wait until the device has finished: reading values, sizes that depend on
  values, copies to and from it. `waits()` lists them, each with the place in pluralign that caused it.

`install` registers it with torch as the backend for private use, for the whole process and for good; so the
tests that need it run in a process of their own.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_map_only

import pluralign
from pluralign import precision

__all__ = ["DEVICE", "NAME", "OnDevice", "install", "on_cpu", "waits", "without_float64"]

NAME = "pretended"
DEVICE = torch.device("privateuseone", 0)  # called NAME once installed

_SOURCE = str(Path(pluralign.__file__).parent)
_aten = torch.ops.aten
_libraries: list[torch.library.Library] = []
_listeners: list[list[str]] = []
_lacks_float64 = False

# What reads values or makes a size of them, and so waits for the device.
_READS = {
    *(
        "_local_scalar_dense",
        "item",
        "equal",
        "is_nonzero",
        "nonzero",
        "masked_select",
        "_unique2",
        "unique_dim",
    ),
    *("unique_consecutive", "bincount", "repeat_interleave", "_linalg_check_errors", "_assert_async"),
    *("linalg_lstsq", "multinomial", "histc", "argwhere"),
}
# What makes tensors; torch composes the other functions that do of `empty` and what fills it.
_MAKERS = [
    *(_aten.empty.memory_format, _aten.empty_strided.default, _aten.eye.default, _aten.eye.m),
    *(_aten.arange.default, _aten.arange.start, _aten.arange.start_step, _aten.linspace.default),
    *(_aten.randperm.default, _aten.randperm.generator),
]
_INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class OnDevice(Tensor):
    """A tensor on the pretended device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        made = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({self.held!r})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


def install() -> None:
    """Registers the device with torch; from then on `device="pretended"` makes tensors there."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    module: Any = getattr(torch, NAME)
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    library = torch.library.Library("aten", "IMPL", "PrivateUse1")
    for func in _MAKERS:
        name = func.name().removeprefix("aten::")
        library.impl(name, lambda *args, func=func, **kwargs: _made(func, args, kwargs))
    library.impl("_copy_from", _copied)  # within `torch.tensor`, where torch asks no subclass
    _libraries.append(library)


@contextmanager
def waits() -> Iterator[list[str]]:
    """Lists what makes the host wait inside, as `losses/quantile.py:46 _local_scalar_dense`."""
    found: list[str] = []
    _listeners.append(found)
    try:
        yield found
    finally:
        _listeners.remove(found)


@contextmanager
def without_float64() -> Iterator[None]:
    """The device has no float64 inside, as some have not."""
    global _lacks_float64
    _lacks_float64 = True
    kinds = precision._WITHOUT_FLOAT64
    kinds.add(DEVICE.type)
    try:
        yield
    finally:
        _lacks_float64 = False
        kinds.discard(DEVICE.type)


def on_cpu(value: Any) -> Any:
    """The same with tensors of the CPU; everything must have been on the device."""

    def bring(tensor: Tensor) -> Tensor:
        assert isinstance(tensor, OnDevice), f"left on the {tensor.device.type}: {tensor}"
        return tensor.held

    return tree_map_only(Tensor, bring, value)


def _made(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> OnDevice:
    _check_width([kwargs.get("dtype")], "make")
    return OnDevice(func(*args, **kwargs | {"device": torch.device("cpu"), "pin_memory": None}))


def _copied(source: Tensor, target: OnDevice, non_blocking: bool = False) -> OnDevice:
    _note_wait("copy_", (target, source, non_blocking), {}, True, True)
    target.held.copy_(source)
    return target


def _run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    name = func.overloadpacket.__name__
    asked = kwargs.get("device")
    given = list(_tensors((args, kwargs)))
    here = any(isinstance(one, OnDevice) for one in given)
    there = here if asked is None else torch.device(asked).type == NAME
    if asked is not None:
        kwargs["device"] = torch.device("cpu")
    _check_places(func, name, args, given)
    _note_wait(name, args, kwargs, here, there)
    out = func(*_mapped(_held, args), **_mapped(_held, kwargs))
    if func is _aten.copy_.default or (given and func._schema.is_mutable and not here):
        return args[0]
    if not there:
        return out
    _check_width([one.dtype for one in _tensors(out)], name)
    wrapped = _mapped(OnDevice, out)
    if here and _has_aliases(func):
        wrapped = return_and_correct_aliasing(func, args, kwargs, wrapped)
    for one in given:
        assert not isinstance(one, OnDevice) or one.shape == one.held.shape, (
            f"{func} changed a shape in place"
        )
    return wrapped


def _check_width(dtypes: Sequence[Any], name: str) -> None:
    if _lacks_float64 and torch.float64 in dtypes:
        raise TypeError(f"the device has no float64: {_place()} {name}")


def _held(tensor: Tensor) -> Tensor:
    return tensor.held if isinstance(tensor, OnDevice) else tensor


# What torch's pytree does, for what operators take and return, in a fraction of the time.


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _mapped(function: Callable[[Tensor], Any], value: Any) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, (tuple, list)):
        return type(value)([_mapped(function, one) for one in value])
    if isinstance(value, dict):
        return {name: _mapped(function, one) for name, one in value.items()}
    return value


@functools.cache
def _has_aliases(func: Any) -> bool:
    """Whether what an operator returns may be, or share memory with, what it was given."""
    return any(one.alias_info is not None for one in (*func._schema.arguments, *func._schema.returns))


def _check_places(func: Any, name: str, args: Sequence[Any], given: list[Tensor]) -> None:
    """Raises where tensors of the CPU stand beside those of the device, as a device does."""
    if name in ("copy_", "_to_copy", "_copy_from") or not any(isinstance(one, OnDevice) for one in given):
        return
    if name in _INDEXED:  # indices may be anywhere
        given = [one for one in (args[0], *args[2:3]) if isinstance(one, Tensor)]
    single = torch.Tag.pointwise in func.tags or name in _INDEXED
    strangers = [one for one in given if not isinstance(one, OnDevice) and not (single and one.ndim == 0)]
    if strangers:
        places = ", ".join(str(one.device) for one in given)
        raise RuntimeError(f"Expected all tensors to be on the same device: {func} received {places}")


def _note_wait(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], here: bool, there: bool) -> None:
    if not _listeners:
        return
    free = bool(kwargs.get("non_blocking"))
    if name == "copy_":
        source, free = args[1], len(args) > 2 and bool(args[2])
        wait = isinstance(source, OnDevice) != isinstance(args[0], OnDevice) and not free
    elif name == "_to_copy":
        wait = here != there and not free
    elif name in _INDEXED:
        indices = [one for one in args[1] if isinstance(one, Tensor)]
        by_mask = any(one.dtype in (torch.bool, torch.uint8) for one in indices)
        filled = name.startswith(("index_put", "_index_put")) and args[2].numel() == 1
        uploaded = any(not isinstance(one, OnDevice) for one in indices)
        wait = here and (uploaded or (by_mask and not filled))
    else:
        wait = here and name in _READS
    if wait:
        place = _place()
        for listener in _listeners:
            listener.append(f"{place} {name}")


def _place() -> str:
    """The innermost line of pluralign that is running, as `losses/quantile.py:46`."""
    frame: Any = sys._getframe()
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_SOURCE):
            return f"{file[len(_SOURCE) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
