"""`pluralign sample`: prompts -> N completions each -> rewards -> a table to train a policy on.

The run folder holds `samples/` (shards of completions), `rewards/` if a source of rewards is given, and
`train.parquet`, the table for `pluralign align`. Each stage continues where it was interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.cli.console import Console
from pluralign.cli.engine_flags import WORKPLACE, RayFlags
from pluralign.cli.engine_runs import check_workers
from pluralign.cli.objects import check_device, quiet_datasets
from pluralign.cli.parsing import UsageError, parse
from pluralign.cli.program_flags import ProgramFlags
from pluralign.cli.run_folder import RunFolder, made_once
from pluralign.cli.sample_engine import sample_on_ray
from pluralign.cli.sample_flags import RewardFlags, SampleFlags
from pluralign.cli.sample_rewards import (
    REWARDS,
    TABLE,
    check_prompts,
    check_rewards,
    progress_printer,
    reward,
    reward_source,
)
from pluralign.cli.stored_samples import SAMPLES, imported, input_digests, refuse_own_samples, samples_folder
from pluralign.errors import PluralignError
from pluralign.report.wording import counted
from pluralign.run_layout import model_folder

if TYPE_CHECKING:
    from pluralign.policy.rewards.sources import RewardSource
    from pluralign.policy.sampling.settings import Sampler

__all__ = ["run"]

_KEY_VARIABLE = "PLURALIGN_SERVER_KEY"
_ALPACA = "alpaca_eval.json"

# Flags that do not change the result.
_IGNORED = {
    *("out", "json", "device", "batch_size", "concurrency", "cache", "beta", "transform"),
    *("server", "key_over_http", "sandbox", "program_workers", *WORKPLACE),
}
_INPUTS = ("prompts", "shards", "samples", "reward_model", "reward_function")


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments, samples, scores and writes."""
    kinds = (SampleFlags, RewardFlags, ProgramFlags, RayFlags)
    flags, rewards, programs, ray = parse("sample", SampleFlags.__doc__ or "", arguments, *kinds)
    _check(flags, rewards, programs)
    check_workers(flags.engine, ray)
    console = Console(flags.json)
    given = asdict(flags) | asdict(rewards) | asdict(programs)
    inputs = input_digests(_INPUTS, given, rewards.programs)
    decisive = {key: value for key, value in given.items() if key not in _IGNORED}

    def make(folder: RunFolder) -> dict[str, Any]:
        return _make(flags, rewards, programs, ray, folder, console)

    result = made_once("sample", flags.out, decisive, inputs, console, make)
    console.result(result, str(result.get("table", result["samples"])))


def _make(
    flags: SampleFlags,
    rewards: RewardFlags,
    programs: ProgramFlags,
    ray: RayFlags,
    folder: RunFolder,
    console: Console,
) -> dict[str, Any]:
    quiet_datasets()
    # A user's function is resolved before hours of sampling; a reward model is loaded only when memory is
    # free.
    early = bool(rewards.sources) and rewards.reward_model is None
    named = (rewards, programs, flags.device, flags.columns, flags.hub_split)
    source = reward_source(*named) if early else None
    samples = _samples(flags, ray, folder.path, console, source)
    made = [] if flags.samples is not None else _files(folder.path, SAMPLES)
    result = {"run": str(folder.path), "samples": str(samples), **_counts(samples, console)}
    if flags.alpaca_eval is not None:
        from pluralign.policy import read_samples, write_alpaca_eval

        file = write_alpaca_eval(read_samples(samples), folder.path / _ALPACA, generator=flags.alpaca_eval)
        made.append(_ALPACA)
        result["alpaca_eval"] = str(file)
    if rewards.sources:
        try:
            source = source or reward_source(*named)
            result |= reward(rewards, source, samples, folder.path, console)
        except PluralignError:
            if flags.samples is None:
                console.say(
                    f"the completions are kept: to score them, pass --samples {folder.path} and another --out"
                )
            raise
        made += [*_files(folder.path, REWARDS), TABLE]
    folder.finish(*made, result=result)
    return result


def _files(folder: Path, part: str) -> list[str]:
    """The files of a stage, so that a finished run notices a missing one."""
    return sorted(str(file.relative_to(folder)) for file in (folder / part).iterdir())


def _check(flags: SampleFlags, rewards: RewardFlags, programs: ProgramFlags) -> None:
    found = [name for name in ("model", "shards", "samples") if getattr(flags, name) is not None]
    if len(found) != 1:
        received = " and ".join(f"--{name}" for name in found) or "no source of completions"
        raise UsageError(
            f"received {received}; needed: exactly one of --model (with --prompts), --shards, --samples"
        )
    if flags.model is not None and flags.prompts is None:
        raise UsageError("--model needs --prompts: a file, folder or hub id with prompts")
    if flags.model is None and flags.server is not None:
        raise UsageError("--server needs --model: the folder or hub id of the policy's tokenizer")
    if flags.server is not None:
        from pluralign.policy.sampling.server_requests import check_address

        has_key = bool(os.environ.get(_KEY_VARIABLE, "").strip())
        check_address(flags.server, has_key=has_key, key_over_http=flags.key_over_http)
    if flags.server is not None and flags.end_tokens:
        raise UsageError("--end_tokens: a server ends completions at the policy's own end tokens")
    if flags.samples is not None and not rewards.sources and flags.alpaca_eval is None:
        raise UsageError(
            "--samples needs a task: --reward_model, --reward_function, --programs, --reward_column or "
            "--alpaca_eval"
        )
    if flags.limit is not None and flags.limit < 1:
        raise UsageError(f"--limit must be at least 1, received {flags.limit}")
    if flags.alpaca_eval is not None and not flags.alpaca_eval.strip():
        raise UsageError("--alpaca_eval: received an empty name; AlpacaEval shows the name in its table")
    if flags.shards is not None:
        refuse_own_samples(flags.shards)
    if flags.engine == "ray" and (flags.model is None or flags.server is not None):
        raise UsageError(
            "--engine ray samples with the policy of --model on its workers; with --server the server does "
            "the work, and --shards and --samples are sampled already"
        )
    if flags.engine == "local":
        check_device(flags.device)
    if flags.model is not None and rewards.reward_column:
        raise UsageError(
            "--reward_column uses rewards that came with --shards; sampled completions have none"
        )
    if flags.model is not None and rewards.sources and flags.completions < 2:
        raise UsageError("--completions must be at least 2 to rank rewards: a single completion has no rank")
    check_rewards(rewards, programs)


def _samples(
    flags: SampleFlags, ray: RayFlags, folder: Path, console: Console, source: RewardSource | None
) -> Path:
    """The folder of completions: from an earlier run, imported, or sampled now."""
    from pluralign import policy

    if flags.samples is not None:
        return samples_folder(flags.samples)
    if flags.shards is not None:
        return imported(flags, folder)
    target = folder / SAMPLES
    found = policy.load_prompts(
        flags.prompts, columns=flags.columns, split=flags.hub_split, limit=flags.limit
    )
    if source is not None:
        check_prompts(source, found.prompts, "--prompts")
    if flags.alpaca_eval is not None:
        policy.instructions(found.prompts)  # before hours of sampling, not after
    settings = policy.SamplingSettings(
        completions=flags.completions,
        max_new_tokens=flags.max_new_tokens,
        temperature=flags.temperature,
        top_p=flags.top_p,
        seed=flags.seed,
    )
    console.say(
        f"{counted(len(found.prompts), 'distinct prompt')} in {counted(found.rows, 'row')}; "
        f"{counted(flags.completions, 'completion')} each from {flags.server or flags.model}, into {target}"
    )
    if flags.engine == "ray":
        return sample_on_ray(flags, ray, found.prompts, settings, folder, target, console)
    policy.sample_references(
        found.prompts,
        _sampler(flags),
        target,
        settings,
        prompts_per_shard=flags.prompts_per_shard,
        progress=progress_printer(console, "prompts"),
    )
    return target


def _sampler(flags: SampleFlags) -> Sampler:
    from transformers.utils import logging

    from pluralign import policy

    logging.disable_progress_bar()  # for loading weights
    name = str(model_folder(str(flags.model)))
    if flags.server is None:
        sampler: Sampler = policy.LocalSampler.from_pretrained(
            name,
            revision=flags.revision,
            dtype=flags.dtype,
            device=flags.device,
            batch_size=flags.batch_size,
            end_tokens=flags.end_tokens or None,
        )
        return sampler
    remote: Sampler = policy.ServerSampler(
        flags.server,
        policy.load_tokenizer(name, revision=flags.revision),
        model=flags.served_model,
        api_key=os.environ.get(_KEY_VARIABLE),
        key_over_http=flags.key_over_http,
        concurrency=flags.concurrency,
    )
    return remote


def _counts(samples: Path, console: Console) -> dict[str, Any]:
    """How many completions there are, were cut off, or are empty."""
    from pluralign.policy import read_samples

    rows = read_samples(samples)
    cut_off = sum(bool(flag) for flag in rows["cut_off"])
    empty = sum(not text.strip() for text in rows["completion"])
    counts = {
        "completions": len(rows),
        "prompts": len(set(rows["prompt_id"])),
        "cut_off": cut_off,
        "empty": empty,
    }
    unknown = sum(flag is None for flag in rows["cut_off"])
    line = f"{counted(len(rows), 'completion')} of {counted(counts['prompts'], 'prompt')}; "
    line += f"{cut_off:,} cut off, {empty:,} empty"
    console.say(line + (f"; for {unknown:,} it is unknown whether they were cut off" if unknown else ""))
    return counts
