"""pluralign's rewards in other libraries; one file per library.

A file is imported on first use, and does not import the library that calls it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["openrlhf", "trl", "verl"]

if TYPE_CHECKING:
    from pluralign.integrations import openrlhf, trl, verl


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"pluralign.integrations.{name}")
    raise AttributeError(f"module 'pluralign.integrations' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
