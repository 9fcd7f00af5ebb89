"""The flags of `pluralign fit --tune`: those of `TuningConfig`, each with `tune_` before its name.

So a learning rate of the backbone (`--tune_lr`) is never taken for one of a head (`--lr`). Nothing heavy is
imported here.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, get_type_hints

from pluralign.fitting.tuning.config import TuningConfig

__all__ = ["TuningFlags", "tuning_from"]

_PREFIX = "tune_"


def _flag(name: str) -> str:
    return name if name.startswith(_PREFIX) else f"{_PREFIX}{name}"


def _flags() -> type:
    """A dataclass with the fields of `TuningConfig` under the names of the flags."""
    types = get_type_hints(TuningConfig)
    own = [
        (_flag(field.name), types[field.name], dataclasses.field(default=field.default))
        for field in dataclasses.fields(TuningConfig)
    ]
    text = TuningConfig.__doc__ or ""
    for field in dataclasses.fields(TuningConfig):
        text = re.sub(rf"^(\s+){field.name}:", rf"\1{_flag(field.name)}:", text, flags=re.MULTILINE)
    return dataclasses.make_dataclass("TuningFlags", own, frozen=True, namespace={"__doc__": text})


TuningFlags: Any = _flags()


def tuning_from(flags: Any) -> TuningConfig:
    """The settings that the flags state.

    Raises:
        ConfigError: a value is out of range.
    """
    names = [field.name for field in dataclasses.fields(TuningConfig)]
    return TuningConfig(**{name: getattr(flags, _flag(name)) for name in names})
