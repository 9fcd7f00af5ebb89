"""`pluralign align --method ppo`: prompts, a reward and a policy to an aligned policy in a run folder.

The run folder holds `training/` (checkpoints, the best policy, samples of evaluations), `model/`, and
`metrics.jsonl` with a line per step and per evaluation. The same command continues from the last complete
checkpoint; Ctrl-C and a reward that fails leave one behind. Under `accelerate launch` the first process holds
the folder.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.cli.align_online_flags import OnlineFlags, check_online
from pluralign.cli.align_policy import (
    MODEL,
    TRAINING,
    PolicyFlags,
    adapter,
    in_run_folder,
    load,
    settings_named,
)
from pluralign.cli.argument_words import in_flags
from pluralign.cli.console import Console
from pluralign.cli.objects import quiet_datasets
from pluralign.cli.parsing import UsageError, early_value, parse
from pluralign.cli.program_flags import ProgramFlags, named_tables
from pluralign.cli.run_folder import RunFolder
from pluralign.errors import ArgumentError, ConfigError, DataError, RunError
from pluralign.run_layout import model_folder

if TYPE_CHECKING:
    from pluralign.policy.online.config import PPOConfig
    from pluralign.policy.online.trainer import PPOTrainer

__all__ = ["run"]

_BEST = f"{TRAINING}/best"

# What does not change what is trained.
_IGNORED = {
    *("out", "json", "cache", "output_dir", "use_cpu", "logging_steps", "reward_device", "reward_retries"),
    *("save_steps", "save_total_limit", "sandbox", "program_workers"),
}
_OFFLINE = dict.fromkeys(
    ("data", "num_train_epochs", "per_device_train_batch_size", "max_length", "report_to"),
    "the methods that train on a table: qrpo, dpo, rebel, simpo",
)


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments, trains and saves."""
    if early_value(arguments, "output_dir", ""):
        raise UsageError("--output_dir: use --out to name the run folder")
    from pluralign.policy.online.config import PPOConfig

    kinds = (PolicyFlags, OnlineFlags, ProgramFlags, PPOConfig)
    try:
        policy, flags, programs, config = parse(
            "align", OnlineFlags.__doc__ or "", arguments, *kinds, elsewhere=_OFFLINE
        )
    except ConfigError as error:
        raise UsageError(in_flags(str(error), *kinds)) from None
    check_online(flags, programs, policy, config)
    console = Console(flags.json)
    quiet_datasets()
    merged = asdict(policy) | asdict(flags) | asdict(programs) | asdict(config)
    decisive = {key: value for key, value in sorted(merged.items()) if key not in _IGNORED}
    decisive = json.loads(json.dumps(decisive))

    def make(out: Path, folder: RunFolder | None) -> dict[str, Any]:
        try:
            return _align(policy, flags, programs, config, out, folder, console)
        except (ConfigError, ArgumentError, DataError) as error:
            error.args = (in_flags(str(error), *kinds),)
            raise

    in_run_folder("ppo", flags.out, decisive, policy.files | flags.files, console, make)


def _align(
    policy: PolicyFlags,
    flags: OnlineFlags,
    programs: ProgramFlags,
    config: PPOConfig,
    out: Path,
    folder: RunFolder | None,
    console: Console,
) -> dict[str, Any]:
    from pluralign.training.checkpoints import last_checkpoint

    prompts = _prompts(flags.prompts, flags)
    held_out = None if flags.eval_data is None else _prompts(flags.eval_data, flags)
    if folder is not None:
        console.say(_plan(policy, flags, config, prompts, out))
        _report_held_out(prompts, held_out, console)
    start = last_checkpoint(out / TRAINING)
    step = 0 if start is None else int(start.name.rpartition("-")[2])
    if start is not None:
        console.say(f"continuing from {start}")
    with redirect_stdout(sys.stderr):  # functions of the user's may print; stdout is for the result
        loggers = [] if folder is None else [_journal(folder, step), _progress(config, step, console)]
        trainer = _trainer(policy, flags, programs, config, out, prompts, held_out, loggers)
        metrics = _train(trainer, start, config)
        trainer.save_model(out / MODEL)
    best = trainer.best
    result = {
        "model": str(out / MODEL),
        "run": str(out),
        "method": flags.method,
        "log_prob_kernel": trainer.log_prob_kernel,
        "metrics": metrics,
        "best": best,
        "best_model": None if best is None else str(out / _BEST),
    }
    if folder is not None:
        if best is not None:
            console.say(
                f"the best evaluation, {best['metric']} {best['value']:.3f}, was after step {best['step']}; "
                f"that policy is in {result['best_model']}"
            )
        folder.finish(MODEL, result=result)
    return result


def _prompts(source: str, flags: OnlineFlags) -> Any:
    from pluralign.policy.sampling.prompt_sets import load_prompts

    return load_prompts(source, columns=flags.columns, split=flags.hub_split)


def _plan(policy: PolicyFlags, flags: OnlineFlags, config: PPOConfig, prompts: Any, out: Path) -> str:
    """What will be done, in one sentence."""
    tests = " and ".join(
        f"the share of passed tests of {table}" for table in named_tables(flags.programs).values()
    )
    reward = flags.reward_function or tests or " and ".join([str(flags.reward_model), *flags.combine])
    return (
        f"PPO ({config.advantages}) with beta {config.beta:g} and {config.risk} of {reward}: {config.steps} "
        f"steps of {config.prompts_per_step} x {config.completions} answers to {len(prompts.prompts):,} "
        f"distinct prompts of {flags.prompts}, policy {policy.model}, into {out}"
    )


def _report_held_out(prompts: Any, held_out: Any, console: Console) -> None:
    """Says how many held-out prompts are trained on, and where nothing will be evaluated."""
    from pluralign.policy.sampling.settings import prompt_key

    if held_out is None:
        console.say("without --eval_data nothing is evaluated: no gold, no best policy, no samples to read")
        return
    shared = {*map(prompt_key, prompts.prompts)} & {*map(prompt_key, held_out.prompts)}
    if shared:
        console.say(f"{len(shared):,} of {len(held_out.prompts):,} prompts of --eval_data are trained on")


def _trainer(
    policy: PolicyFlags,
    flags: OnlineFlags,
    programs: ProgramFlags,
    config: PPOConfig,
    out: Path,
    prompts: Any,
    held_out: Any,
    loggers: Sequence[Callable[[int, Mapping[str, float]], None]],
) -> PPOTrainer:
    from dataclasses import replace

    from pluralign.cli.sample_rewards import check_prompts, load_function
    from pluralign.policy.online.trainer import PPOTrainer

    gold = None
    if flags.gold_function is not None:  # before a model is loaded, so that a wrong file fails at once
        file, _, name = flags.gold_function.rpartition(":")
        gold = _of_conversations(load_function(file, name, "gold_function"))
    reward = _reward(flags, programs)
    check_prompts(reward, prompts.prompts, "--prompts")
    if held_out is not None:
        check_prompts(reward, held_out.prompts, "--eval_data")
    model, tokenizer = load(policy)
    with settings_named():
        return PPOTrainer(
            model,
            replace(config, output_dir=str(out / TRAINING)),
            prompts=[{"prompt": prompt} for prompt in prompts.prompts],
            reward=reward,
            processing_class=tokenizer,
            eval_prompts=None if held_out is None else [{"prompt": one} for one in held_out.prompts],
            gold=gold,
            peft_config=adapter(policy),
            ref_model=None if flags.ref_model is None else str(model_folder(flags.ref_model)),
            critic_model=None if flags.critic_model is None else str(model_folder(flags.critic_model)),
            loggers=loggers,
        )


def _reward(flags: OnlineFlags, programs: ProgramFlags) -> Any:
    from pluralign.cli.sample_rewards import reward_source
    from pluralign.cli.scorers import load_scorer

    if flags.reward_model is None:
        return reward_source(flags.rewards, programs, columns=flags.columns, split=flags.hub_split)
    return load_scorer(
        flags.reward_model,
        device=flags.reward_device,
        cache=flags.cache,
        combine=flags.combine,
        reference=flags.reference,
        how=flags.how,
    )


def _of_conversations(function: Callable[[list[Any], list[str]], Any]) -> Callable[[list[Any]], Any]:
    """A function of prompts and completions as one of conversations."""

    def gold(conversations: list[Any]) -> Any:
        prompts = [list(one[:-1]) for one in conversations]
        return function(prompts, [str(one[-1]["content"]) for one in conversations])

    return gold


def _train(trainer: PPOTrainer, start: Path | None, config: PPOConfig) -> dict[str, float]:
    """Trains; an error that cannot be retried is reported in terms of the command line.

    Raises:
        RunError: the reward cannot be reached any more; the state is saved.
    """
    from pluralign.policy.online.scoring import unreachable

    try:
        return trainer.train(resume_from_checkpoint=start)
    except Exception as error:
        if not unreachable(error):
            raise
        saved = f"the state after step {trainer.step} is saved; " if trainer.step else ""
        raise RunError(
            f"the reward cannot be reached ({' '.join(str(error).split()) or type(error).__name__}), also "
            f"after {config.reward_retries} more tries; {saved}the same command continues from there"
        ) from error


def _journal(folder: RunFolder, step: int) -> Callable[[int, Mapping[str, float]], None]:
    """A logger that writes each line of the trainer into the run folder."""
    folder.rewind(step)

    def log(step: int, metrics: Mapping[str, float]) -> None:
        folder.log(step=step, **{k: v for k, v in metrics.items() if math.isfinite(v)})

    return log


def _progress(config: PPOConfig, start: int, console: Console) -> Callable[[int, Mapping[str, float]], None]:
    """A logger that says in one line how a step or an evaluation went, and how long the rest will take."""
    begun = time.perf_counter()

    def print_line(step: int, metrics: Mapping[str, float]) -> None:
        if any(name.startswith("eval/") for name in metrics):
            names = [name for name in ("reward", "gold", "kl_k3", "length") if f"eval/{name}" in metrics]
            values = ", ".join(f"{n.removesuffix('_k3')} {metrics[f'eval/{n}']:.3f}" for n in names)
            console.say(f"held-out prompts after step {step}: {values}")
            return
        left = (time.perf_counter() - begun) / (step - start) * (config.steps - step)
        console.say(
            f"step {step} of {config.steps}: utility {metrics['reward/utility']:.3f} "
            f"± {metrics['reward/utility_std']:.3f}, KL {metrics['kl_k3']:.3f}, "
            f"{metrics['length']:.0f} tokens, {100 * metrics['cut_off']:.0f} % cut off; "
            f"{_duration(left)} left"
        )

    return print_line


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
