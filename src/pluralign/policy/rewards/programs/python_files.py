"""The Python that runs programs: its command, the folders it needs, and our few files as compiled code."""

from __future__ import annotations

import functools
import marshal
import os
import sys
from importlib import util
from pathlib import Path

from pluralign.errors import SandboxError

__all__ = ["compiled_files", "python_command", "python_folders"]

_PACKAGE = "pluralign.policy.rewards.programs"
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
_FILES = {
    "forks": ("standard_types", "wire", "plain", "confine", "importing", "forking", "agent", "entry"),
    "judge": ("standard_types", "wire", "plain", "confine", "importing", "remote", "judge", "entry"),
    "probe": ("standard_types", "wire", "plain", "confine", "importing", "entry"),
}
# Reads compiled modules from a socket, and runs the last.
_BOOTSTRAP = """
import sys, os, marshal
Module = type(sys)
n = int(sys.argv[1])
def read(count):
    found = b''
    while len(found) < count:
        part = os.read(n, count - len(found))
        if not part:
            os._exit(1)
        found += part
    return found
for name, code in marshal.loads(read(int.from_bytes(read(8), 'big'))):
    module = sys.modules[name] = Module(name)
    exec(code, module.__dict__)
    parent, _, last = name.rpartition('.')
    setattr(sys.modules.setdefault(parent, Module(parent)), last, module)
module.main(n)
"""


@functools.cache
def python_command() -> tuple[str, ...]:
    """Python itself, not that of an environment, without site folders; the descriptor comes next."""
    executable = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    return executable, "-s", "-S", "-P", "-B", "-c", _BOOTSTRAP


@functools.cache
def python_folders() -> tuple[str, ...]:
    """What Python and its libraries need to see, by the names that it has here.

    Raises:
        SandboxError: Python lives in a folder that holds more than Python.
    """
    places = [os.path.realpath(place) for place in (sys.base_prefix, sys.base_exec_prefix)]
    places.append(os.path.dirname(python_command()[0]))
    own = [p for p in dict.fromkeys(places) if not any(p == s or p.startswith(s + "/") for s in _SYSTEM)]
    kept = [p for p in own if not any(p != other and p.startswith(other + "/") for other in own)]
    for place in kept:
        if len(Path(place).parts) < 3 or place == os.path.realpath(Path.home()):
            raise SandboxError(f"Python is installed in {place}, a folder too broad to expose to a program")
    return tuple(place for place in (*_SYSTEM, *kept) if os.path.exists(place))


@functools.cache
def compiled_files(role: str) -> bytes:
    """The files that a role needs, in the order of their imports, with their length before them."""
    codes = []
    for name in _FILES.get(
        role, ("standard_types", "wire", "plain", "confine", "importing", "agent", "entry")
    ):
        spec = util.find_spec(f"{_PACKAGE}.{name}")
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).read_text(encoding="utf-8")
        codes.append((f"{_PACKAGE}.{name}", compile(source, f"<{name}>", "exec", dont_inherit=True)))
    raw = marshal.dumps(codes)
    return len(raw).to_bytes(8, "big") + raw
