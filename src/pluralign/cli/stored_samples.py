"""Where `sample` and `select` find completions, and what of their flags' files determines the result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pluralign.run_layout import model_folder

if TYPE_CHECKING:
    from pluralign.cli.sample_flags import SampleFlags
    from pluralign.cli.select_flags import SelectFlags

__all__ = ["SAMPLES", "imported", "input_file", "samples_folder"]

SAMPLES = "samples"  # in the run folder


def input_file(key: str, value: str) -> str:
    """The file or folder whose content determines the result.

    Args:
        key: name of a flag.
        value: of that flag.
    """
    if key == "reward_function":
        return value.rpartition(":")[0]
    if key == "reward_model":
        return str(model_folder(value))
    return str(samples_folder(value)) if key == "samples" else value


def samples_folder(path: str) -> Path:
    """The samples folder itself, or the one inside a run folder."""
    inner = Path(path) / SAMPLES
    return inner if inner.is_dir() else Path(path)


def imported(flags: SampleFlags | SelectFlags, folder: Path) -> Path:
    """The completions of --shards, checked and stored in a run folder."""
    from pluralign import policy

    target = folder / SAMPLES
    policy.import_samples(
        str(flags.shards),
        target,
        columns=flags.columns,
        split=flags.hub_split,
        note={"source": flags.shards},
        prompts_per_shard=flags.prompts_per_shard,
    )
    return target
