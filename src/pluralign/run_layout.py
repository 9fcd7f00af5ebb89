"""Where the model of a run lies: in the folder `model` inside that of a finished `fit` or `align`.

In: a path that a user gives as a model. Out: the folder that holds it. It reads nothing; what else a run
folder holds is known to the command line alone.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["model_folder"]


def model_folder(path: str | os.PathLike[str]) -> Path:
    """The model folder itself, or the one inside a run folder of `fit` or `align`."""
    folder = Path(path)
    inner = folder / "model"
    return inner if not (folder / "config.json").exists() and inner.is_dir() else folder
