"""Which folders of evaluations a path stands for: itself, or those next to the run of a fit.

In: a folder that a user names. Out: folders with `results.json`, or a message about what the folder is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pluralign.cli.parsing import UsageError
from pluralign.cli.run_folder import digest
from pluralign.run_layout import model_folder

__all__ = ["evaluations_of"]


def evaluations_of(folder: Path) -> list[Path]:
    """The folder itself, or for the folder of a fit, the finished evaluations of its model next to it."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; pass the folder of a finished `pluralign evaluate`")
    if (folder / "results.json").is_file():
        return [folder]
    record = _record(folder)
    if record.get("verb") == "evaluate":
        raise UsageError(f"{folder} is not finished; run its `pluralign evaluate` again")
    if record.get("verb") != "fit":
        raise UsageError(
            f"{folder} is not an evaluation; pass the folder of a finished `pluralign evaluate`, or of a run "
            "of `pluralign align`"
        )
    model = model_folder(str(folder))
    if not (model / "config.json").is_file():
        raise UsageError(
            f"{folder} is not finished; run its `pluralign fit` again, then `pluralign evaluate`"
        )
    fingerprint = digest(str(model))
    places = {folder.resolve(), model.resolve()}
    beside = [
        other
        for other in sorted(folder.parent.iterdir())
        if (other / "results.json").is_file() and _evaluated(_record(other), places, fingerprint)
    ]
    if not beside:
        raise UsageError(
            f"{folder} is a fit, and there is no evaluation of it next to it; "
            f"run `pluralign evaluate --model {folder} ...` and pass that folder"
        )
    return beside


def _evaluated(record: Mapping[str, Any], places: set[Path], fingerprint: str) -> bool:
    """Whether a run evaluated the model at one of these paths, or one with the same content."""
    try:
        model = record["config"]["model"]
        return record["inputs"].get("model") == fingerprint or Path(model).resolve() in places
    except (KeyError, TypeError, AttributeError):
        return False


def _record(folder: Path) -> dict[str, Any]:
    """The content of `run.json`; empty if it is missing or damaged."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
