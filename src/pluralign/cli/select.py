"""`pluralign select`: sampled completions -> the best by any risk measure, as rows or pairs to train on.

The run folder holds `samples/` (completions made elsewhere, checked), `rewards/`, `novelty/` and the table
`selected.parquet` or `selected.jsonl`. Scoring continues where it was interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.cli.console import Console
from pluralign.cli.objects import check_device, load_model, quiet_datasets
from pluralign.cli.parsing import UsageError, parse
from pluralign.cli.program_flags import ProgramFlags
from pluralign.cli.run_folder import RunFolder, made_once
from pluralign.cli.sample_flags import RewardFlags
from pluralign.cli.sample_rewards import REWARDS, check_rewards, progress_printer, reward_source
from pluralign.cli.scorers import conversations_of
from pluralign.cli.select_flags import SelectFlags
from pluralign.cli.stored_samples import SAMPLES, imported, input_digests, refuse_own_samples, samples_folder
from pluralign.policy.selection.config import SelectionConfig
from pluralign.report.wording import counted

if TYPE_CHECKING:
    from pluralign.policy.rewards.sources import RewardSource
    from pluralign.policy.selection.tables import Selection, SelectionCounts

__all__ = ["run"]

_NOVELTY = "novelty"
_IGNORED = {"out", "json", "device", "cache", "sandbox", "program_workers"}  # do not change the result
_SOURCES = "--reward_model, --reward_function, --programs or --reward_column"
_INPUTS = ("samples", "rewards", "shards", "reward_model", "reward_function", "training_data")


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments, scores, selects and writes."""
    kinds = (SelectFlags, ProgramFlags, SelectionConfig)
    flags, programs, config = parse("select", SelectFlags.__doc__ or "", arguments, *kinds)
    rewards = RewardFlags(
        reward_model=flags.reward_model,
        risk=flags.risk,
        reward_function=flags.reward_function,
        programs=flags.programs,
        reward_column=flags.reward_column,
        beta=None,
        cache=flags.cache,
    )
    _check(flags, rewards, programs)
    console = Console(flags.json)
    given = asdict(flags) | asdict(programs) | asdict(config)
    decisive = {key: value for key, value in given.items() if key not in _IGNORED}
    if not rewards.sources:
        given["rewards"] = str(_own_rewards(str(flags.samples)))
    inputs = input_digests(_INPUTS, given, flags.programs)

    def make(folder: RunFolder) -> dict[str, Any]:
        return _make(flags, config, rewards, programs, folder, console)

    result = made_once("select", flags.out, decisive, inputs, console, make)
    console.result(result, str(result["table"]))


def _check(flags: SelectFlags, rewards: RewardFlags, programs: ProgramFlags) -> None:
    if (flags.samples is None) == (flags.shards is None):
        received = "both" if flags.samples else "neither"
        raise UsageError(f"needed: exactly one of --samples and --shards; received {received}")
    if flags.samples is not None and flags.columns:
        raise UsageError("--columns is for --shards; the columns of --samples have fixed names")
    if flags.shards is not None:
        refuse_own_samples(flags.shards)
    if flags.shards is not None and not rewards.sources:
        raise UsageError(f"--shards needs rewards: {_SOURCES}")
    if flags.samples is not None and not rewards.sources and not _own_rewards(flags.samples).is_dir():
        raise UsageError(f"{flags.samples} has no rewards of its own; pass {_SOURCES}")
    if rewards.risk != "mean" and rewards.reward_model is None:
        raise UsageError("--risk needs --reward_model: it is a measure of its distributions")
    if flags.novelty is not None and flags.reward_model is None:
        raise UsageError("--novelty needs --reward_model: it is novelty to that model")
    if (flags.novelty == "distance") != (flags.training_data is not None):
        raise UsageError("--novelty distance and --training_data go together: the distance is from that data")
    if flags.neighbours < 1:
        raise UsageError(f"--neighbours must be at least 1, received {flags.neighbours}")
    if flags.prompts_per_shard < 1:
        raise UsageError(f"--prompts_per_shard must be at least 1, received {flags.prompts_per_shard}")
    check_device(flags.device)
    check_rewards(rewards, programs)


def _own_rewards(path: str) -> Path:
    """Where a run of `sample` has its rewards."""
    return Path(path) / REWARDS


def _make(
    flags: SelectFlags,
    config: SelectionConfig,
    rewards: RewardFlags,
    programs: ProgramFlags,
    folder: RunFolder,
    console: Console,
) -> dict[str, Any]:
    from pluralign import policy

    quiet_datasets()
    made = []
    if flags.samples is not None:
        samples = samples_folder(flags.samples)
    else:
        samples = imported(flags, folder.path)
        made.append(SAMPLES)
    novelty = None
    if rewards.sources:
        reward = policy.reward_samples(
            samples,
            reward_source(rewards, programs, flags.device, flags.columns, flags.hub_split),
            folder.path / REWARDS,
            progress=progress_printer(console, "shards rewarded"),
        )
        made.append(REWARDS)
        if flags.novelty is not None:
            novelty = policy.reward_samples(
                samples,
                _novelty_source(flags),
                folder.path / _NOVELTY,
                progress=progress_printer(console, "shards checked for novelty"),
            )
            made.append(_NOVELTY)
    else:
        reward = _own_rewards(str(flags.samples))
    selection = policy.Selection(samples, reward, config, novelty)
    target = folder.path / f"selected.{flags.format}"
    counts = policy.write_selection(selection, target)
    _print_counts(selection, counts, config, console)
    result = {"run": str(folder.path), "samples": str(samples), "table": str(target), **_result(counts)}
    if selection.threshold is not None:
        result["threshold"] = selection.threshold
    folder.finish(*made, target.name, result=result)
    return result


def _novelty_source(flags: SelectFlags) -> RewardSource:
    from pluralign import data
    from pluralign.policy.selection.novelty import Disagreement, TrainingDistance

    model = load_model(str(flags.reward_model), flags.device, flags.cache)
    if flags.training_data is None:
        return Disagreement(model)
    distinct = data.DistinctConversations()
    for one in conversations_of(data.load_responses(flags.training_data)):
        distinct.add(one[:-1], one[-1]["content"])
    return TrainingDistance(model, distinct.conversations, flags.neighbours)


def _result(counts: SelectionCounts) -> dict[str, Any]:
    means = {"mean_utility": counts.mean_utility, "mean_selected": counts.mean_selected}
    return {
        "rows": counts.rows,
        "prompts": counts.prompts,
        "prompts_without_rows": counts.without,
        "completions": counts.completions,
        "left_out": {reason: count for reason, count in counts.left_out.items() if count},
        **{name: None if value != value else value for name, value in means.items()},  # JSON has no NaN
    }


def _print_counts(
    selection: Selection, counts: SelectionCounts, config: SelectionConfig, console: Console
) -> None:
    console.say(
        f"{counted(counts.rows, 'pair' if config.pairs else 'row')} from "
        f"{counted(counts.completions, 'completion')} of {counted(counts.prompts, 'prompt')}; "
        f"{counted(counts.without, 'prompt')} without any"
    )
    if selection.threshold is not None and config.share is not None:
        console.say(
            f"the best {config.share:g} of the completions have a utility of {selection.threshold:.4g}"
        )
    for reason, count in counts.left_out.items():
        if count:
            console.say(f"left out: {count:,} x {reason}")
    if counts.rows:
        side = "of the chosen ones" if config.pairs else "of the selected ones"
        console.say(f"mean utility {counts.mean_utility:.4g}; {side} {counts.mean_selected:.4g}")
    else:
        console.say("warning: nothing was selected, so the table is empty")
