"""The reference stage: from prompts to N completions each, on disk; it can be interrupted and continued.

In: prompts and a sampler. Out: a folder of Parquet shards (`shards`) with one row per completion:

    prompt_id    16 hexadecimal digits of the prompt's content
    prompt       messages {role, content}
    index        number of the completion, 0 to N - 1
    completion   text, without special tokens
    num_tokens   number of sampled tokens, including the end token; null if not known
    cut_off      whether it reached the token limit; null if not known
    reward       null, or the reward given with imported completions
    token_ids    the sampled tokens, including the end token: their text, tokenized again, may give tokens
                 that the policy would hardly sample; null if not known
    tokenizer    digest of the tokenizer whose ids these are; null if not known

Completions of other programs are imported by `imported`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.backbones.progress import Progress
from pluralign.conversations import tokenizer_digest
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.policy.sampling.settings import Completion, Prompt, Sampler, SamplingSettings, prompt_key
from pluralign.policy.sampling.shards import ShardFolder, read_shards

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

__all__ = ["describe_samples", "read_samples", "sample_columns", "sample_references", "sample_schema"]

_NEEDED = ("prompt_id", "prompt", "index", "completion")
_LATER = ("token_ids", "tokenizer")  # folders of earlier versions lack them

# text, num_tokens, cut_off and reward of a completion of another program
CompletionRow = tuple[str, int | None, bool | None, float | None]


def sample_references(
    prompts: Sequence[Prompt],
    sampler: Sampler,
    path: str | Path,
    settings: SamplingSettings | None = None,
    *,
    prompts_per_shard: int = 64,
    progress: Progress | None = None,
) -> Path:
    """Samples N completions of each prompt into a folder of shards; finished shards are kept.

    Args:
        prompts: distinct message lists.
        sampler: a `Sampler`.
        path: the folder; the same call continues an unfinished one, and does nothing for a finished one.
        settings: N, lengths, temperature, seed.
        prompts_per_shard: maximum number of prompts that are lost by an interruption; it does not change the
            completions.
        progress: called with (prompts done, total prompts) after each shard.

    Returns:
        The folder.

    Raises:
        ArgumentError: there are no prompts, or one is given twice.
        RunError: the folder was made with other settings, another model or other prompts.
        DataError: a prompt is too long for the model.
    """
    settings = settings or SamplingSettings()
    description = describe_samples(prompts, sampler.describe(), settings, prompts_per_shard)
    count = len(prompts)
    parts = [range(i, min(i + prompts_per_shard, count)) for i in range(0, count, prompts_per_shard)]
    folder = ShardFolder(path, description, len(parts), sample_schema())
    missing = folder.missing()
    if missing:
        sampler.check(prompts, settings)
        folder.begin()
    tokenizer = getattr(sampler, "tokenizer", None)
    digest = None if tokenizer is None else tokenizer_digest(tokenizer)
    done = count - sum(len(parts[number]) for number in missing)
    for number in missing:
        part = [prompts[row] for row in parts[number]]
        folder.write(number, sample_columns(part, sampler.sample(part, settings), digest))
        done += len(part)
        if progress is not None:
            progress(done, count)
    return folder.path


def describe_samples(
    prompts: Sequence[Prompt], sampler: Mapping[str, Any], settings: SamplingSettings, prompts_per_shard: int
) -> dict[str, Any]:
    """Everything that determines the shards of `sample_references`; JSON types.

    Args:
        prompts: as there, like the others.
        sampler: what `describe` of the sampler says.
        settings: N, lengths, temperature, seed.
        prompts_per_shard: prompts of a shard.

    Raises:
        ArgumentError: as there.
    """
    keys = [prompt_key(prompt) for prompt in prompts]
    if not keys or len(set(keys)) < len(keys):
        what = "the same prompt twice" if keys else "no prompts"
        raise ArgumentError(f"sample_references: received {what}; allowed: distinct prompts (load_prompts)")
    if prompts_per_shard < 1:
        raise ArgumentError(f"prompts_per_shard must be at least 1, received {prompts_per_shard}")
    return {
        "stage": "samples",
        "sampler": dict(sampler),
        "settings": asdict(settings),
        "prompts": {"count": len(keys), "digest": hashlib.sha256("".join(keys).encode()).hexdigest()},
        "prompts_per_shard": prompts_per_shard,
    }


def read_samples(path: str | Path) -> datasets.Dataset:
    """The completions of a finished folder, in the order of the prompts.

    Raises:
        ArtifactError: it is not such a folder, is not finished, or lacks prompts or texts.
    """
    rows = read_shards(path)
    absent = set(sample_schema().names) - set(rows.column_names) - set(_LATER)
    gaps = [name for name in _NEEDED if name not in absent and rows.data.column(name).null_count]
    if absent or gaps:
        raise ArtifactError(
            f"{path} does not have complete samples: columns with missing values: "
            f"{', '.join([*sorted(absent), *gaps])}. Import completions of other programs (--shards)"
        )
    return rows


def sample_columns(
    prompts: Sequence[Prompt],
    answers: Sequence[Sequence[Completion | CompletionRow]],
    tokenizer: str | None = None,
) -> dict[str, list[Any]]:
    """The columns of a shard.

    Args:
        prompts: message lists.
        answers: the completions of each prompt, in order.
        tokenizer: digest of the tokenizer whose ids the completions have; None where it is unknown, and
            their ids are not kept.
    """
    columns: dict[str, list[Any]] = {name: [] for name in sample_schema().names}
    for prompt, completions in zip(prompts, answers, strict=True):
        key, messages = prompt_key(prompt), [dict(message) for message in prompt]
        for index, one in enumerate(completions):
            stored = (one.text, one.num_tokens, one.cut_off, None) if isinstance(one, Completion) else one
            ids = one.token_ids if isinstance(one, Completion) and tokenizer is not None else None
            drawn = (None, None) if ids is None else (list(ids), tokenizer)
            row = (key, messages, index, *stored, *drawn)
            for name, value in zip(columns, row, strict=True):
                columns[name].append(value)
    return columns


def sample_schema() -> pa.Schema:
    """Arrow types of the columns."""
    import pyarrow as pa

    text = pa.string()
    return pa.schema(
        {
            "prompt_id": text,
            "prompt": pa.list_(pa.struct({"role": text, "content": text})),
            "index": pa.int32(),
            "completion": text,
            "num_tokens": pa.int32(),
            "cut_off": pa.bool_(),
            "reward": pa.float64(),
            "token_ids": pa.list_(pa.int32()),
            "tokenizer": text,
        }
    )
