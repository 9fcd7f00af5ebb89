"""Where an evaluation without `--out` goes: beside the model, where `pluralign report` looks for it."""

from __future__ import annotations

import os
from pathlib import Path

from pluralign.run_layout import model_folder

__all__ = ["beside"]


def beside(model: str | None, name: str) -> str:
    """The run folder of an evaluation.

    Args:
        model: the path that the user gave as the model; None where there is none.
        name: what tells this evaluation from others of the same model.
    """
    if model is not None:
        folder = model_folder(model)
        run = folder.parent if folder != Path(model) or (folder.parent / "run.json").is_file() else folder
        if os.access(run.parent, os.W_OK):
            return str(run.parent / f"{run.resolve().name}-evaluate-{name}")
    return f"runs/evaluate-{name}"
