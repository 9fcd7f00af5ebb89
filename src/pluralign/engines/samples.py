"""Completions as a stage: rows with prompts in, rows of `policy.sampling.stage` out, several per prompt.

Each completion has its own stream of random numbers, so it does not matter which worker samples it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.conversations import tokenizer_digest
from pluralign.engines.stages import Batch, Stage, text_column
from pluralign.errors import FingerprintError
from pluralign.policy.sampling.local import LocalSampler
from pluralign.policy.sampling.settings import Prompt, SamplingSettings
from pluralign.policy.sampling.stage import sample_columns, sample_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

__all__ = ["SampleRows", "prompt_rows", "sample_stage"]


class SampleRows:
    """Samples completions with a policy that it loads once; see `stages.RowFunction`.

    Args:
        settings: of the sampling.
        policy: arguments of `LocalSampler.from_pretrained`, `name_or_path` among them.
        identity: what `describe` of the sampler says elsewhere; None for anything.

    Raises:
        ArtifactError: there is no such policy on this machine.
        FingerprintError: it is another policy than that of `identity`.
    """

    def __init__(
        self,
        settings: SamplingSettings,
        policy: Mapping[str, Any],
        *,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings = settings
        self._sampler = LocalSampler.from_pretrained(**policy)
        found = self._sampler.describe()
        expected = found if identity is None else identity
        changed = [
            key for key in sorted({*found, *expected} - {"model"}) if found.get(key) != expected.get(key)
        ]
        if changed:
            raise FingerprintError(
                f"{policy['name_or_path']} is not the policy that the command was started with "
                f"(different {', '.join(changed)}); copy the same one to all machines, or put it on storage "
                "that they share"
            )
        self._tokenizer = tokenizer_digest(self._sampler.tokenizer)

    def __call__(self, batch: Batch) -> Batch:
        """The completions of the prompts of a batch, one row each."""
        prompts = [[dict(message) for message in prompt] for prompt in batch["prompt"]]
        found = sample_columns(prompts, self._sampler.sample(prompts, self._settings), self._tokenizer)
        return {name: text_column(values) for name, values in found.items()}


def sample_stage(
    settings: SamplingSettings, policy: Mapping[str, Any], identity: Mapping[str, Any], prompts_per_shard: int
) -> Stage:
    """Sampling as a stage of a job.

    Args:
        settings: of the sampling.
        policy: as for `SampleRows`, as for the next.
        identity: of the policy.
        prompts_per_shard: prompts that are sampled together.
    """
    name = str(policy["name_or_path"])
    place = Path(name).expanduser()
    found = str(place.resolve()) if place.is_dir() else name  # workers are in other folders
    arguments = {
        "settings": settings,
        "policy": {**policy, "name_or_path": found},
        "identity": dict(identity),
    }
    return Stage(SampleRows, arguments, sample_schema(), prompts_per_shard)


def prompt_rows(prompts: Sequence[Prompt], rows_per_table: int) -> Iterator[pa.Table]:
    """Prompts as tables with one column, `prompt`."""
    import pyarrow as pa

    schema = pa.schema([sample_schema().field("prompt")])
    for start in range(0, len(prompts), rows_per_table):
        rows = [[dict(message) for message in prompt] for prompt in prompts[start : start + rows_per_table]]
        yield pa.table({"prompt": rows}, schema=schema)
