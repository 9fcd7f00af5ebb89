"""`pluralign align`: from a training table and a policy to an aligned policy in a run folder.

The run folder holds `training/` (checkpoints, reference log-probabilities), `model/`, and `metrics.jsonl`
with every log line. The same command continues from the last complete checkpoint. Under `accelerate launch`
the first process holds the folder. `--method ppo` is in `align_online`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.cli.align_flags import AlignFlags, check_flags
from pluralign.cli.align_policy import (
    MODEL,
    TRAINING,
    PolicyFlags,
    adapter,
    in_run_folder,
    load,
    settings_named,
)
from pluralign.cli.align_tables import check_shape, read_table, table_path
from pluralign.cli.console import Console
from pluralign.cli.objects import quiet_datasets
from pluralign.cli.parsing import UsageError, choice_from, early_value, help_topic, parse
from pluralign.cli.program_flags import ProgramFlags, named_tables
from pluralign.cli.run_folder import RunFolder
from pluralign.errors import PluralignError

if TYPE_CHECKING:
    from pluralign.policy.offline.config import OfflineConfig
    from pluralign.policy.offline.trainer import OfflineTrainer

__all__ = ["run"]

# What people may ask for under the name of another trainer, and flags that only online training has.
_ADVANTAGES = ("rloo", "grpo")
_ONLINE = dict.fromkeys(
    ("prompts", "advantages", "steps", "prompts_per_step", "completions", "gold_function"), "--method ppo"
)

_CONFIG = "pluralign.policy.offline.config"
_MORE = (
    "Every field of transformers.TrainingArguments is a flag too, such as --per_device_train_batch_size, "
    "--gradient_accumulation_steps, --max_steps, --seed, --save_steps, --eval_strategy and --report_to: "
    "`pluralign align --help trainer` lists them. `pluralign align --method ppo --help` lists the flags of "
    "online training."
)

# Fields of the trainer's configuration that do not change what is trained.
_IGNORED = {
    *("out", "json", "cache", "output_dir", "use_cpu", "disable_tqdm", "report_to", "logging_steps"),
    *("sandbox", "program_workers"),
}


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments, trains and saves."""
    method = early_value(arguments, "method", "")
    topic = help_topic(arguments)
    if topic is not None:
        _help(method, topic)
    if method == "ppo":
        from pluralign.cli import align_online

        align_online.run(arguments)
        return
    if method in _ADVANTAGES:
        raise UsageError(f"--method: received {method!r}; that is --method ppo --advantages {method}")
    if early_value(arguments, "output_dir", ""):
        raise UsageError("--output_dir: use --out to name the run folder")
    from pluralign.policy.offline.config import OfflineConfig
    from pluralign.policy.offline.objectives import OBJECTIVES

    choice_from(arguments, "method", [*OBJECTIVES, "ppo"], default="qrpo")  # before what else is missing
    try:
        kinds = (PolicyFlags, AlignFlags, ProgramFlags, OfflineConfig)
        purpose = AlignFlags.__doc__ or ""
        policy, flags, programs, config = parse("align", purpose, arguments, *kinds, elsewhere=_ONLINE)
    except PluralignError:
        raise
    except (ValueError, ImportError) as error:  # from transformers' own settings
        raise UsageError(" ".join(str(error).split())) from error
    check_flags(flags, programs, policy, config)
    console = Console(flags.json)
    quiet_datasets()

    def make(out: Path, folder: RunFolder | None) -> dict[str, Any]:
        return _align(policy, flags, programs, config, out, folder, console)

    settings = _result_settings(policy, flags, programs, config)
    in_run_folder(config.method, flags.out, settings, _inputs(policy, flags), console, make)


def _help(method: str, topic: str) -> None:
    """Prints the flags and ends; those of transformers' trainer, which are many, only on request."""
    from pluralign.cli.align_online_flags import OnlineFlags
    from pluralign.cli.declared import declared

    if method == "ppo":
        config = declared("pluralign.policy.online.config", "PPOConfig")
        parse(
            "align --method ppo",
            OnlineFlags.__doc__ or "",
            ["--help"],
            PolicyFlags,
            OnlineFlags,
            ProgramFlags,
            config,
        )
    if topic == "trainer":
        from pluralign.policy.offline.config import OfflineConfig

        own = [field.name for field in fields(declared(_CONFIG, "OfflineConfig"))]
        purpose = "Fields of transformers.TrainingArguments, which `pluralign align` takes beside its own."
        parse("align", purpose, ["--help"], OfflineConfig, skip=[*own, "output_dir"])
    kinds = (PolicyFlags, AlignFlags, ProgramFlags, declared(_CONFIG, "OfflineConfig"))
    parse("align", f"{AlignFlags.__doc__}", ["--help"], *kinds, more=_MORE)


def _inputs(policy: PolicyFlags, flags: AlignFlags) -> dict[str, str]:
    found = {"data": table_path(flags.data)} | policy.files | named_tables(flags.programs)
    return found if flags.eval_data is None else found | {"eval_data": table_path(flags.eval_data)}


def _result_settings(
    policy: PolicyFlags, flags: AlignFlags, programs: ProgramFlags, config: OfflineConfig
) -> dict[str, Any]:
    """The settings that determine the result, without where it goes and how it is shown."""
    given = asdict(policy) | asdict(flags) | asdict(programs) | config.to_dict()
    merged = json.loads(json.dumps(given, default=str))
    return {key: value for key, value in sorted(merged.items()) if key not in _IGNORED}


def _align(
    policy: PolicyFlags,
    flags: AlignFlags,
    programs: ProgramFlags,
    config: OfflineConfig,
    out: Path,
    folder: RunFolder | None,
    console: Console,
) -> dict[str, Any]:
    from pluralign.training.checkpoints import last_checkpoint

    tables = {"data": read_table(flags.data, flags.hub_split)}
    if flags.eval_data is not None:
        tables["eval_data"] = read_table(flags.eval_data, flags.hub_split)
    for name, table in tables.items():
        check_shape(table, f"--{name}", str(getattr(flags, name)), config.method)
    if folder is not None:
        console.say(
            f"{config.method} with beta {config.settings.beta:g} on {len(tables['data']):,} rows of "
            f"{flags.data}, policy {policy.model}, into {out}"
        )
        _diagnose(tables["data"], config, console)
    config.output_dir = str(out / TRAINING)
    trainer = _trainer(policy, flags, programs, config, tables, console)
    if folder is not None:
        console.say(str(trainer.optimum))
    start = last_checkpoint(config.output_dir)
    if start is not None:
        console.say(f"continuing from {start}")
    if folder is not None:
        folder.rewind(0 if start is None else int(start.name.rpartition("-")[2]))
        trainer.add_callback(_journal(folder))
    with redirect_stdout(sys.stderr):  # transformers prints its log lines; stdout is for the result
        done = trainer.train(resume_from_checkpoint=str(start) if start is not None else None)
        _save(trainer, out / MODEL)  # first: evaluation calls the user's code
        (out / MODEL / "training_args.bin").unlink(missing_ok=True)  # a pickle; the folder has the settings
        metrics = dict(done.metrics)
        if flags.eval_data is not None:
            metrics |= trainer.evaluate()
    result = {
        "model": str(out / MODEL),
        "run": str(out),
        "method": config.method,
        "log_prob_kernel": trainer.log_prob_kernel,
        "metrics": metrics,
    }
    if folder is not None:
        folder.finish(MODEL, result=result)
    return result


def _save(trainer: OfflineTrainer, folder: Path) -> None:
    """Saves the policy; a file that could not be written completely is removed."""
    from pluralign.training.checkpoints import written_completely

    advice = "Free some space; the same command continues from the last checkpoint"
    with written_completely(folder, trainer.args.should_save, advice):
        trainer.save_model(str(folder))


def _diagnose(table: Any, config: OfflineConfig, console: Console) -> None:
    """Prints the diagnosis of QRPO's targets before any compute is spent."""
    from pluralign.policy.offline.objectives import find_objective
    from pluralign.policy.rewards.diagnostics import diagnose_table

    if not find_objective(config.method).ranks or config.length_normalized:
        return
    options: dict[str, Any] = {
        "partition": config.partition,
        "estimator": config.estimator,
        "leave_one_out": config.leave_one_out,
    }
    diagnosis = diagnose_table(table, config.settings.beta, transform=config.transform, **options)
    console.say(str(diagnosis))


def _trainer(
    policy: PolicyFlags,
    flags: AlignFlags,
    programs: ProgramFlags,
    config: OfflineConfig,
    tables: dict[str, Any],
    console: Console,
) -> OfflineTrainer:
    from pluralign.policy.logprobs.loading import num_positions
    from pluralign.policy.offline.trainer import OfflineTrainer

    reward = _reward(flags, programs, tables)
    model, tokenizer = load(policy)
    limit = num_positions(model)
    if limit is not None and (config.max_length is None or config.max_length > limit):
        console.say(f"--max_length becomes {limit}, the policy's maximum number of positions")
        config.max_length = limit
    with settings_named():
        return OfflineTrainer(
            model,
            config,
            train_dataset=tables["data"],
            eval_dataset=tables.get("eval_data"),
            processing_class=tokenizer,
            peft_config=adapter(policy),
            reward=reward,
        )


def _reward(flags: AlignFlags, programs: ProgramFlags, tables: dict[str, Any]) -> Any:
    if not flags.rewards.sources:
        return None
    from pluralign.cli.sample_rewards import check_prompts, reward_source
    from pluralign.data import conversation

    source = reward_source(flags.rewards, programs, split=flags.hub_split)
    evaluated = [conversation(prompt, "")[:-1] for prompt in tables["eval_data"]["prompt"]]
    check_prompts(source, evaluated, "--eval_data")
    return source


def _journal(folder: RunFolder) -> Any:
    """A callback that writes each log line of the trainer into the run folder."""
    from transformers import TrainerCallback

    class Journal(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **options: Any) -> None:
            finite = {k: v for k, v in (logs or {}).items() if isinstance(v, int | float) and v == v}
            folder.log(step=state.global_step, **finite)

    return Journal()
