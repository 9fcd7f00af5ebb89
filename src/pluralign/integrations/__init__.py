"""The same rewards inside the software that people already run; one file per peer.

Each is imported when it is first used, and none imports the peer: it is called by it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["trl"]

if TYPE_CHECKING:
    from pluralign.integrations import trl


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"pluralign.integrations.{name}")
    raise AttributeError(f"module 'pluralign.integrations' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
