"""`pluralign sample --engine ray`: the same shards of completions, sampled by workers of a Ray cluster."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.cli.console import Console
from pluralign.cli.engine_flags import RayFlags
from pluralign.cli.engine_runs import ROWS, engine_from, progress_lines, worker_device
from pluralign.cli.sample_flags import SampleFlags
from pluralign.run_layout import model_folder

if TYPE_CHECKING:
    from pluralign.policy.sampling.settings import SamplingSettings

__all__ = ["sample_on_ray"]


def sample_on_ray(
    flags: SampleFlags,
    ray: RayFlags,
    prompts: Sequence[Sequence[Mapping[str, str]]],
    settings: SamplingSettings,
    folder: Path,
    target: Path,
    console: Console,
) -> Path:
    """Samples, and returns the folder of completions.

    Args:
        flags: of the command.
        ray: the workers.
        prompts: distinct.
        settings: of the sampling.
        folder: the run folder.
        target: folder of the completions.
        console: where progress is printed.

    Raises:
        PluralignError: a prompt is too long, or a shard cannot be made.
    """
    from pluralign.engines import Job, finish, prompt_rows, sample_stage, store_rows
    from pluralign.policy import LocalSampler
    from pluralign.policy.sampling.stage import describe_samples

    engine = engine_from("ray", ray)
    policy: dict[str, Any] = {
        "name_or_path": str(model_folder(str(flags.model))),
        "revision": flags.revision,
        "dtype": flags.dtype,
        "end_tokens": flags.end_tokens or None,
    }
    sampler = LocalSampler.without_weights(**policy)
    description = describe_samples(prompts, sampler.describe(), settings, flags.prompts_per_shard)
    sampler.check(prompts, settings)
    tables = prompt_rows(prompts, flags.prompts_per_shard)
    rows = store_rows(tables, folder / ROWS, flags.prompts_per_shard, description)
    policy |= {"device": worker_device("ray", flags.device, ray), "batch_size": flags.batch_size}
    stage = sample_stage(settings, policy, sampler.describe(), flags.prompts_per_shard)
    job = Job(stage, rows.path, target, description)
    finish(job, engine, progress_lines(console, "shards"))
    shutil.rmtree(folder / ROWS)
    return target
