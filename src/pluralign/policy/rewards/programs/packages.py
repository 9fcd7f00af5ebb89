"""Packages beyond the standard library that programs may import: pure Python, sent along as compiled code.

In: names of packages that are installed here. Out: their modules, with which `agent` and the tests' setup can
import them in a sandbox that sees no file of theirs.
"""

from __future__ import annotations

import marshal
import re
from collections.abc import Sequence
from importlib import metadata, util
from pathlib import Path

from pluralign.data.problems import preview
from pluralign.errors import ArgumentError

__all__ = ["modules_of", "versions_of"]

_COMPILED = (".so", ".pyd", ".dylib")
_MOST = 8 << 20  # bytes; they are sent with each program


def modules_of(names: Sequence[str]) -> dict[str, tuple[bool, bytes]]:
    """Name of each module -> whether it is a package, and its code.

    Args:
        names: of packages or modules that are installed here.

    Raises:
        ArgumentError: one is not installed, has compiled parts, or is too large.
    """
    if isinstance(names, str) or not all(isinstance(n, str) and re.fullmatch(r"\w+", n) for n in names):
        raise ArgumentError(f"packages is {preview(names)}; allowed: a list of names as they are imported")
    found: dict[str, tuple[bool, bytes]] = {}
    for name in names:
        spec = util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ArgumentError(f"packages: {name} is not installed here (`pip install {name}`)")
        origin = Path(spec.origin)
        top = origin.parent if spec.submodule_search_locations else None
        files = sorted(top.rglob("*")) if top else [origin]
        if any(file.suffix in _COMPILED for file in files) or origin.suffix != ".py":
            raise ArgumentError(f"packages: {name} has compiled parts; allowed: packages of Python alone")
        for file in files:
            if file.suffix == ".py":
                parts = file.relative_to(top).with_suffix("").parts if top else ()
                inner = [part for part in parts if part != "__init__"]
                module = ".".join([name, *inner])
                code = compile(file.read_bytes(), f"<{module}>", "exec", dont_inherit=True)
                found[module] = (file.name == "__init__.py", marshal.dumps(code))
    if sum(len(code) for _, code in found.values()) > _MOST:
        raise ArgumentError(f"packages: {', '.join(names)} have more than {_MOST >> 20} MiB of code")
    return found


def versions_of(names: Sequence[str]) -> dict[str, str]:
    """Name -> version, "" where it states none."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found
