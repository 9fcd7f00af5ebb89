"""Finding the checkpoint that a run continues from, and removing one that could not be written.

In: a trainer's output folder. Out: the last complete checkpoint. Checkpoints are not trusted: nothing in them
is executed, and one with a damaged file is skipped.
"""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pluralign.errors import ArtifactError, PluralignError, RunError
from pluralign.files import finish_folder

__all__ = ["STATE", "checkpoint_at", "damage_of", "last_checkpoint", "usable", "written_completely"]

_log = logging.getLogger("pluralign.training")

STATE = "trainer_state.json"  # transformers writes it last; online training renames the folder last


_PICKLES = (".pt", ".pth", ".bin")
_UNREAD = "training_args.bin"  # transformers writes it; it is never read
# Files that a trainer would go on without, with another result, or that it cannot do without.
_TOGETHER = ({"trained.safetensors", "optimizer.pt", "random.pt"}, {"optimizer.pt", "scheduler.pt"})


def last_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint with the most steps whose files can be read; None if there is none.

    A run that was killed while saving leaves a checkpoint without a state, and disks lose files: such a
    checkpoint is skipped, with a warning that names the file.
    """
    for path in _checkpoints(folder):
        damage = damage_of(path)
        if damage is None:
            return path
        _log.warning("%s was not written completely or is damaged: %s; skipped", path, damage)
    return None


def checkpoint_at(folder: str | Path, source: bool | str | Path) -> Path:
    """The checkpoint that a run continues from.

    Args:
        folder: the trainer's output folder.
        source: a checkpoint, or True for the last complete one of the folder.

    Raises:
        RunError: the folder has none.
        ArtifactError: the checkpoint is damaged, or all of the folder are.
    """
    if source is not True:
        path, damage = Path(str(source)), damage_of(Path(str(source)))
        if damage is not None:
            raise ArtifactError(
                f"{path} is not a complete checkpoint: {damage}. Continue from an earlier one, or start again"
            )
        return path
    found = last_checkpoint(folder)
    if found is not None:
        return found
    for path in _checkpoints(folder):
        raise ArtifactError(f"{path} is not a complete checkpoint: {damage_of(path)}, and none before it is")
    raise RunError(f"{folder} has no complete checkpoint to resume from")


def damage_of(folder: Path) -> str | None:
    """What is wrong with the files of a checkpoint, with a file's name; None if all can be read.

    The tensors of pickles are not loaded, and nothing but tensors and plain values is allowed in them.
    """
    try:
        names = sorted(file.name for file in folder.iterdir() if file.is_file())
    except OSError as error:
        return f"{folder.name} cannot be read ({error.strerror})"
    for name in (STATE, *names):
        try:
            _read(folder / name)
        except Exception as error:  # safetensors, torch and zipfile have errors of their own
            return f"{name} {_reason(error)}"
    parts = next((parts for parts in _TOGETHER if len(parts & set(names)) > 1), set())
    return next((f"{name} is missing" for name in sorted(parts - set(names))), None)


@contextmanager
def usable(folder: Path, what: str) -> Iterator[None]:
    """Explains why the content of a checkpoint cannot be used.

    Args:
        folder: the checkpoint.
        what: what of it is used.

    Raises:
        ArtifactError: instead of any error that is not one of ours.
    """
    try:
        yield
    except (PluralignError, MemoryError):
        raise
    except Exception as error:
        if "out of memory" in str(error):
            raise
        raise ArtifactError(
            f"{folder}: its {what} cannot be used ({_reason(error)}); the folder is damaged or belongs to "
            "another run. Remove it to continue from the checkpoint before it, or train into another folder"
        ) from error


def _checkpoints(folder: str | Path) -> list[Path]:
    """Those with most steps first."""
    found = {}
    for path in Path(folder).glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        if path.is_dir() and number.isdecimal():
            found[int(number)] = path
    return [path for _, path in sorted(found.items(), reverse=True)]


def _read(file: Path) -> None:
    """Reads a file as far as is needed to see that it is whole; raises whatever its reader raises."""
    if file.name == STATE:
        _check_state(file)
    elif file.suffix == ".json":
        json.loads(file.read_text(encoding="utf-8"))
    elif file.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(file, framework="pt") as tensors:
            tensors.keys()
    elif file.suffix in _PICKLES and file.name != _UNREAD:
        import torch
        from transformers.trainer import safe_globals  # whose place differs between versions

        with zipfile.ZipFile(file) as parts:
            if (name := parts.testzip()) is not None:
                raise ValueError(f"{name} has another checksum")
        with safe_globals():  # of numpy, for its generator
            torch.load(file, map_location="meta", weights_only=True)


def _check_state(file: Path) -> None:
    step: Any = json.loads(file.read_text(encoding="utf-8"))["global_step"]
    number = file.parent.name.removeprefix("checkpoint-")
    if type(step) is not int or (number.isdecimal() and step != int(number)):
        raise ValueError(f"global_step is {step!r}")


def _reason(error: BaseException) -> str:
    """Why a file is not read; torch itself would advise to run its content."""
    if isinstance(error, pickle.UnpicklingError):
        return "holds more than tensors and plain values; it was not opened, since it could run code"
    if isinstance(error, FileNotFoundError):
        return "is missing"
    if isinstance(error, KeyError | TypeError | AttributeError | IndexError):
        return f"has other contents than expected ({type(error).__name__}: {error})"
    return f"cannot be read ({(str(error).splitlines() or [type(error).__name__])[0][:200]})"


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
