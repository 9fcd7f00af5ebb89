"""Finding the checkpoint that a run continues from, and removing one that could not be written.

In: a trainer's output folder. Out: the last complete checkpoint.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pluralign.errors import RunError
from pluralign.files import finish_folder

__all__ = ["STATE", "last_checkpoint", "written_completely"]

_log = logging.getLogger("pluralign.training")

STATE = "trainer_state.json"  # transformers writes it last; online training renames the folder last


def last_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint with the most steps whose state can be read; None if there is none.

    A run that was killed while saving leaves a checkpoint without a state: it is skipped, with a warning.
    """
    found = {}
    for path in Path(folder).glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        if path.is_dir() and number.isdecimal():
            found[int(number)] = path
    for _, path in sorted(found.items(), reverse=True):
        try:
            json.loads((path / STATE).read_text(encoding="utf-8"))["global_step"]
        except (OSError, ValueError, KeyError, TypeError):
            _log.warning("%s was not written completely; skipped", path)
            continue
        return path
    return None


@contextmanager
def written_completely(folder: Path, remove: bool, advice: str) -> Iterator[None]:
    """Ensures that a folder is on the disk, or is removed if it could not be written completely.

    Args:
        folder: folder of a checkpoint or a model.
        remove: whether this process removes the folder.
        advice: what the user can do, for the message.

    Raises:
        RunError: it could not be written.
    """
    try:
        yield
        if remove and folder.is_dir():
            finish_folder(folder)
    except Exception as error:  # safetensors has its own error for a full disk
        if remove:
            shutil.rmtree(folder, ignore_errors=True)
        free = shutil.disk_usage(folder.parent).free / 2**30
        raise RunError(
            f"{folder} could not be written ({error}); {free:.1f} GiB are free on its disk. {advice}"
        ) from error
