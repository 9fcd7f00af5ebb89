"""The flags of tuning, for `fit` and `evaluate --folds`: those of `TuningConfig`, with `tune_` before them.

So a learning rate of the backbone (`--tune_lr`) is never taken for one of a head (`--lr`). Nothing heavy is
imported here.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, get_type_hints

from pluralign.cli.argument_words import in_tuning_flags
from pluralign.cli.parsing import UsageError
from pluralign.errors import ConfigError
from pluralign.fitting.tuning.config import TuningConfig

__all__ = ["TuningFlags", "training_settings", "tuning_from"]

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


def tuning_from(flags: Any, tune: str | None, ensemble: int) -> TuningConfig | None:
    """The settings that the flags state; None if nothing is tuned.

    Args:
        flags: of tuning.
        tune: value of `--tune`.
        ensemble: value of `--ensemble`.

    Raises:
        UsageError: a value is out of range, or settings are stated and nothing is tuned.
    """
    if ensemble < 1:
        raise UsageError(f"--ensemble: received {ensemble}; allowed: a whole number, at least 1")
    names = [field.name for field in dataclasses.fields(TuningConfig)]
    try:
        made = TuningConfig(**{name: getattr(flags, _flag(name)) for name in names})
    except ConfigError as error:
        raise UsageError(in_tuning_flags(str(error))) from None
    if tune is None and made != TuningConfig():
        raise UsageError("flags that begin with --tune_ need --tune lora or --tune full")
    return None if tune is None else made


def training_settings(tune: str | None, ensemble: int, tuning: TuningConfig | None) -> dict[str, Any]:
    """The settings that determine a result.

    Flags that are not used leave no entry, so that the runs of versions without these flags are found.
    """
    found: dict[str, Any] = {} if ensemble == 1 else {"ensemble": ensemble}
    return found if tuning is None else found | {"tune": tune, "tuning": dataclasses.asdict(tuning)}
