"""The side of the sandbox of `packages`: imports of modules that came as code.

It is sent into the sandbox, and imports nothing before a program does.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in `typing`; for what this process imports see `wire`
if TYPE_CHECKING:
    from typing import Any

__all__ = ["provide"]


class _Finder:
    """Finds and loads modules of the given names."""

    def __init__(self, modules: dict[str, tuple[bool, bytes]]) -> None:
        self._modules = modules

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self._modules:
            return None
        from importlib.machinery import ModuleSpec

        loader: Any = self
        return ModuleSpec(name, loader, is_package=self._modules[name][0])

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        import marshal

        exec(marshal.loads(self._modules[module.__name__][1]), module.__dict__)


def provide(modules: dict[str, tuple[bool, bytes]]) -> None:
    """Makes the modules importable; those of the standard library come first."""
    finder: Any = _Finder(modules)
    sys.meta_path.append(finder)
