"""From flags to objects: checked tables, a loaded backbone, the cache, a model folder."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.cli.console import Console
from pluralign.cli.flags import BackboneFlags, DataFlags
from pluralign.cli.parsing import UsageError
from pluralign.report.wording import counted
from pluralign.run_layout import model_folder

if TYPE_CHECKING:
    import datasets

    from pluralign.backbones import Backbone, EmbeddingCache
    from pluralign.data import LoadReport
    from pluralign.model import RewardModel

__all__ = [
    "cache_from",
    "check_device",
    "counts",
    "load_backbone",
    "load_model",
    "load_tables",
    "quiet_datasets",
]

_SHAPES: dict[str, Any] = {"ratings": "ratings", "pairs": "pairs", "votes": "comparisons"}


def load_tables(flags: DataFlags, console: Console, folder: Path) -> dict[str, datasets.Dataset]:
    """Reads and checks every named table, by kind, and prints how many rows it has.

    Args:
        flags: which files, and how to read them.
        console: where counts are printed.
        folder: where bad rows go, if the flags ask for a quarantine.

    Raises:
        DataError: a table has problems.
    """
    from pluralign import data

    quiet_datasets()
    tables = {}
    for kind, source in flags.sources.items():
        options: dict[str, Any] = {"where": flags.where, "columns": flags.columns, "split": flags.hub_split}
        if kind == "ratings":
            names = ("scale", "attribute", "attribute_columns", "rater_columns")
            options |= {name: getattr(flags, name) for name in names}
        if flags.on_bad_row == "quarantine":
            aside = folder / f"quarantine-{kind}.jsonl"
            options |= {"on_bad_row": "quarantine", "quarantine_path": aside}
        tables[kind], report = data.read_table(source, _SHAPES[kind], **options)
        console.say(f"{kind} {source}: {counts(report)}")
    return tables


def counts(report: LoadReport) -> str:
    """What loading kept, left out and set aside, in one line."""
    parts = [counted(report.rows_kept, "row")]
    if report.rows_filtered:
        parts.append(f"{report.rows_filtered:,} left out by where")
    if report.rows_quarantined:
        parts.append(f"{counted(report.rows_quarantined, 'bad row')} set aside in {report.quarantine_path}")
    parts += [f"read from {'; '.join(report.read_as)}"] if report.read_as else []
    parts += [f"{count:,} x {note} (kept)" for note, count in report.notes.items()]
    return ", ".join(parts)


def quiet_datasets() -> None:
    """Disables progress bars for short steps, and log lines that repeat `counts`."""
    import datasets

    datasets.disable_progress_bars()
    logging.getLogger("pluralign.data").setLevel(logging.ERROR)


def _quiet_transformers() -> None:
    """Disables the progress bar for loading weights, but not for downloads."""
    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils import logging as of_transformers

    of_transformers.disable_progress_bar()
    enable_progress_bars()


def load_backbone(flags: BackboneFlags) -> Backbone:
    """Loads the named backbone."""
    from pluralign import backbones

    _quiet_transformers()
    backbones.use_idle_cores()
    options = asdict(flags)
    options.pop("cache")
    return backbones.load(options.pop("backbone"), **options)


def load_model(path: str, device: str | None, cache: str | None) -> RewardModel:
    """Loads a model folder, or the one inside a run folder of `fit`."""
    from pluralign.backbones import use_idle_cores
    from pluralign.model import RewardModel

    if (Path(path) / "run.json").is_file() and not (model_folder(path) / "config.json").is_file():
        raise UsageError(f"{path} is a run folder without a finished model: run its command again")
    _quiet_transformers()
    use_idle_cores()
    return RewardModel.from_pretrained(model_folder(path), device=device, cache=cache_from(cache))


def cache_from(path: str | None) -> EmbeddingCache | None:
    """The embedding cache: the default one, one at a path, or none."""
    from pluralign.backbones import EmbeddingCache

    return None if path == "none" else EmbeddingCache(path)


def check_device(name: str | None, flag: str = "device") -> None:
    """Rejects a device that this machine does not have.

    Raises:
        UsageError: torch does not know it, or cannot use it.
    """
    from pluralign.backbones.load import device_problem

    problem = device_problem(name)
    if problem is not None:
        raise UsageError(f"--{flag}: received {name!r}; allowed: cpu, cuda, cuda:1 ... ({problem})")
