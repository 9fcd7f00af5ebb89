"""The second half of `pluralign sample`: scores stored completions and writes the training table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.cli.console import Console
from pluralign.cli.objects import load_model
from pluralign.cli.parsing import UsageError
from pluralign.cli.program_flags import ProgramFlags, check_programs, program_reward
from pluralign.cli.run_folder import digest
from pluralign.cli.sample_flags import RewardFlags
from pluralign.files import whole_file
from pluralign.run_layout import model_folder

if TYPE_CHECKING:
    from pluralign.backbones.progress import Progress
    from pluralign.policy.rewards.sources import RewardSource
    from pluralign.risk import RiskMeasure

__all__ = [
    "REWARDS",
    "TABLE",
    "check_function",
    "check_prompts",
    "check_rewards",
    "load_function",
    "progress_printer",
    "reward",
    "reward_source",
]

REWARDS, TABLE = "rewards", "train.parquet"  # in the run folder


def check_rewards(rewards: RewardFlags, programs: ProgramFlags) -> None:
    """Rejects flags that would otherwise fail only after everything has been sampled.

    Args:
        rewards: where rewards come from.
        programs: how programs are run.

    Raises:
        UsageError: flags that do not go together, a function file or a model folder that does not exist.
        ArgumentError: an unknown risk measure or transform, or a beta that is not positive.
    """
    from pluralign import losses, risk

    if len(rewards.sources) > 1:
        named = " and ".join(f"--{name}" for name in rewards.sources)
        raise UsageError(f"received {named}; pass only one source of rewards")
    check_programs(rewards.programs, programs)
    if rewards.smooth and (rewards.reward_model is None or rewards.risk != "mean"):
        raise UsageError("--smooth needs --reward_model and does not take --risk: it compares distributions")
    if rewards.reward_function is not None:
        check_function(rewards.reward_function, "reward_function")
    model = rewards.reward_model
    if model is not None and not (model_folder(model) / "config.json").is_file():
        raise UsageError(f"--reward_model: {model} is not a model folder; pass the folder that `fit` wrote")
    if rewards.per_prompt is not None and rewards.per_prompt < 1:
        raise UsageError(f"--per_prompt must be at least 1, received {rewards.per_prompt}")
    measure = risk.parse(rewards.risk)
    if model is not None:
        _check_risk(measure, model_folder(model))
    if rewards.beta is not None:
        losses.log_partition(rewards.beta, rewards.transform)


def check_function(function: str, flag: str) -> None:
    """Rejects FILE.py:NAME of a file that is not there.

    Raises:
        UsageError: it has another form, or there is no such file.
    """
    if not Path(function.rpartition(":")[0] or "/").is_file():
        raise UsageError(f"--{flag}: received {function!r}; needed: FILE.py:NAME, of a file that exists")


def _check_risk(measure: RiskMeasure, model: Path) -> None:
    """Rejects a measure that compares heads if the model does not have several."""
    from pluralign.distributions import Point
    from pluralign.errors import RiskError
    from pluralign.heads.ensemble import reader_of
    from pluralign.model.combination_folder import is_combination
    from pluralign.model.folder import read_spec

    try:
        measure(Point([0.0]))
    except RiskError as error:
        what = "a combination"  # whose rewards are normal scores, without separate heads
        if not is_combination(model):
            family, spec = read_spec(model)
            if reader_of(family, spec).has_heads(spec):
                return
            what = f"of the family {family}"
        raise UsageError(f"--risk {measure}: {model} is {what}: {error}") from None


def reward(
    rewards: RewardFlags,
    source: RewardSource,
    samples: Path,
    folder: Path,
    console: Console,
) -> dict[str, Any]:
    """Scores the completions, writes the training table, and prints the diagnosis of QRPO's targets.

    Args:
        rewards: the flags.
        source: the source of rewards that they name, from `reward_source`.
        samples: finished folder of completions.
        folder: the run folder.
        console: where progress and the diagnosis are printed.

    Returns:
        The entries for the result of the command.
    """
    from pluralign import policy

    path = policy.reward_samples(
        samples, source, folder / REWARDS, progress=progress_printer(console, "shards rewarded")
    )
    ended = getattr(source, "ended", None)  # of programs
    if ended:
        told = ", ".join(f"{count:,} {reason}" for reason, count in ended.most_common())
        console.say(f"tests of programs: {told}")
    references = policy.References(policy.read_rewards(samples, path), length_control=rewards.length_control)
    if references.control is not None:
        console.say(
            f"length control: slope {references.control.slope:.3f} "
            f"over {references.control.prompts:,} prompts"
        )
    if rewards.table == "pairs":
        made = policy.pairs_table(references, leave_out_cut_off=rewards.leave_out_cut_off)
    else:
        made = policy.unpaired_table(
            references, per_prompt=rewards.per_prompt, leave_out_cut_off=rewards.leave_out_cut_off
        )
    for reason, count in made.left_out.items():
        console.say(f"left out of training: {count:,} x {reason}")
    target = folder / TABLE
    with whole_file(target) as work:
        made.rows.to_parquet(str(work))
    result: dict[str, Any] = {"table": str(target), "rows": len(made.rows), "left_out": dict(made.left_out)}
    if rewards.beta is not None:
        diagnosis = policy.diagnose_table(made.rows, rewards.beta, transform=rewards.transform)
        console.say(f"QRPO with beta {rewards.beta:g}, transform {rewards.transform}:\n{diagnosis}")
        shown = asdict(diagnosis)
        # JSON has no NaN: what cannot be computed is null.
        result["diagnosis"] = {k: None if v != v else v for k, v in shown.items()} | {"beta": rewards.beta}
    return result


def reward_source(
    rewards: RewardFlags,
    programs: ProgramFlags,
    device: str | None = None,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
) -> RewardSource:
    """The source of rewards: a reward model with a risk measure, a user's function, programs, or a column.

    Args:
        rewards: where rewards come from.
        programs: how programs are run.
        device: of a reward model.
        columns: of the table of prompts: our column names to the file's.
        split: split of a hub data set with tests.
    """
    from pluralign import policy

    if rewards.reward_model is not None:
        model = load_model(rewards.reward_model, device, rewards.cache)
        if rewards.smooth:
            return policy.SmoothReward(model)
        return policy.ModelReward(model, rewards.risk)
    if rewards.reward_function is not None:
        file, _, name = rewards.reward_function.rpartition(":")
        stated = f"{name} of {digest(file)[:16]}"
        return policy.FunctionReward(load_function(file, name), stated)
    if rewards.programs:
        source: RewardSource = program_reward(rewards.programs, programs, columns, split)
        return source
    return policy.ColumnReward()


def check_prompts(source: Any, prompts: Sequence[Any], flag: str) -> None:
    """Rejects prompts that the source cannot reward, before anything is sampled for them.

    Raises:
        DataError: programs have no tests for some of them.
    """
    if hasattr(source, "check"):
        source.check(prompts, flag)


def load_function(file: str, name: str, flag: str = "reward_function") -> Callable[..., Any]:
    """A function from the user's file, which is run like any other script of theirs.

    Args:
        file: a Python file.
        name: of the function.
        flag: the flag that named them, for messages.

    Raises:
        UsageError: the file fails, or has no such function.
    """
    import importlib.util

    name_of_module = f"pluralign_{flag}"
    spec = importlib.util.spec_from_file_location(name_of_module, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"--{flag}: {file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Much like a script: what it defines can be pickled for other processes, and neighbouring files can be
    # imported; their folder comes last on the path, so that a neighbouring `datasets.py` does not shadow a
    # package.
    sys.modules[name_of_module] = module
    sys.path.append(str(Path(file).resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"--{flag}: {file} fails: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"--{flag}: {file} has no function {name!r}")
    return function  # type: ignore[no-any-return]


def progress_printer(console: Console, what: str) -> Progress:
    """A function that prints how much is done."""

    def print_progress(done: int, total: int) -> None:
        console.say(f"  {done:,} of {total:,} {what}")

    return print_progress
