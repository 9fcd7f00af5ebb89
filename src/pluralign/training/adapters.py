"""Adapters of peft: the package itself, and which layers get one.

In: what a user writes. Out: what peft takes.
"""

from __future__ import annotations

import re
from typing import Any

from pluralign.errors import MissingDependencyError

__all__ = ["lora_targets", "peft"]


def lora_targets(target_modules: str) -> str | list[str]:
    """The layers that get an adapter, as peft's `LoraConfig` takes them.

    Args:
        target_modules: `all-linear`, names of layers separated by commas, or a regular expression for their
            full paths.
    """
    names = re.fullmatch(r"\w[\w.]*(\s*,\s*\w[\w.]*)*", target_modules)
    return re.split(r"\s*,\s*", target_modules) if names else target_modules


def peft() -> Any:
    """The package `peft`.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import peft
    except ImportError:
        raise MissingDependencyError("adapters need peft: pip install peft") from None
    return peft
