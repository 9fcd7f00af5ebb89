"""Where `sample` and `select` find completions, and which files named by flags determine the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.cli.parsing import UsageError
from pluralign.cli.program_flags import named_tables
from pluralign.cli.run_folder import digest
from pluralign.run_layout import model_folder

if TYPE_CHECKING:
    from pluralign.cli.sample_flags import SampleFlags
    from pluralign.cli.select_flags import SelectFlags

__all__ = ["SAMPLES", "imported", "input_digests", "refuse_own_samples", "samples_folder"]

SAMPLES = "samples"  # in the run folder


def input_digests(
    names: Iterable[str], given: Mapping[str, Any], programs: tuple[str, ...] | str
) -> dict[str, str]:
    """Digests of the files that determine the result.

    Args:
        names: flags that may name a file.
        given: the values of flags, by name.
        programs: value of --programs.
    """
    files = {key: _file_of(key, given[key]) for key in names if given.get(key) is not None}
    return {key: digest(file) for key, file in (files | named_tables(programs)).items()}


def _file_of(key: str, value: str) -> str:
    """The file or folder whose content determines the result, of a flag with a value."""
    if key == "reward_function":
        return value.rpartition(":")[0]
    if key == "reward_model":
        return str(model_folder(value))
    return str(samples_folder(value)) if key == "samples" else value


def samples_folder(path: str) -> Path:
    """The samples folder itself, or the one inside a run folder."""
    inner = Path(path) / SAMPLES
    return inner if inner.is_dir() else Path(path)


def refuse_own_samples(shards: str) -> None:
    """Rejects a folder of our own samples as --shards, which are completions of other programs.

    Raises:
        UsageError: it is one.
    """
    if (samples_folder(shards) / "manifest.json").is_file():
        raise UsageError(f"--shards: {shards} contains samples written by pluralign; pass it as --samples")


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
