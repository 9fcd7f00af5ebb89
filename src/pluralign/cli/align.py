"""`pluralign align`: a training table and a policy to an aligned policy in a run folder.

The run folder holds `training/` (checkpoints, reference log-probabilities), `model/`, and `metrics.jsonl`
with every log line. The same command continues from the last whole checkpoint. Under `accelerate launch` the
first process holds the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.cli.console import Console
from pluralign.cli.objects import quiet_datasets
from pluralign.cli.parsing import UsageError, early_value, parse
from pluralign.cli.run_folder import RunFolder, digest

if TYPE_CHECKING:
    from pluralign.policy.offline_config import OfflineConfig
    from pluralign.policy.offline_trainer import OfflineTrainer

__all__ = ["run"]

_TABLE = "train.parquet"  # in a run folder of `sample`
_TRAINING, _MODEL = "training", "model"

# Fields of the trainer's configuration that do not change what is trained.
_IGNORED = {"out", "json", "cache", "output_dir", "use_cpu", "disable_tqdm", "report_to", "logging_steps"}


@dataclass(frozen=True)
class AlignFlags:
    """Fit a policy to rewards or preferences that were collected before.

    Attributes:
        model: Folder or hub id of the policy; it is also the reference.
        data: Training table: a file, a run folder of `sample`, or a hub id.
        eval_data: Evaluation table of the same shape; null evaluates nothing.
        tokenizer: Folder or hub id of the tokenizer; null for the model's own.
        dtype: Precision of the weights; null for float32, and the stored precision under an adapter.
        attn_implementation: Passed on to transformers, e.g. flash_attention_2.
        lora_r: Rank of a LoRA adapter; 0 trains all weights.
        lora_alpha: Its scale; null for twice the rank.
        lora_dropout: Its dropout.
        lora_target_modules: Which layers it changes.
        reward_model: Judges samples at each evaluation: a reward model folder, or the run folder of a fit.
        risk: Risk measure that makes its distributions numbers.
        reward_function: FILE.py:NAME of a function of (prompts, completions) that judges samples instead.
        cache: Embedding cache of the reward model; null for the default one, none to keep nothing.
        hub_split: Which split of a hub set.
        out: Run folder; null for runs/align-METHOD-DIGEST, the same for the same command.
        json: Print the result as JSON.
    """

    model: str
    data: str
    eval_data: str | None = None
    tokenizer: str | None = None
    dtype: str | None = None
    attn_implementation: str | None = None
    lora_r: int = 0
    lora_alpha: int | None = None
    lora_dropout: float = 0.0
    lora_target_modules: str = "all-linear"
    reward_model: str | None = None
    risk: str = "mean"
    reward_function: str | None = None
    cache: str | None = None
    hub_split: str | None = None
    out: str | None = None
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Parses, trains, saves."""
    if early_value(arguments, "output_dir", ""):
        raise UsageError("--output_dir: the run folder is named by --out")
    from pluralign.policy.offline_config import OfflineConfig

    flags, config = parse("align", AlignFlags.__doc__ or "", arguments, AlignFlags, OfflineConfig)
    _check(flags, config)
    console = Console(flags.json)
    quiet_datasets()
    decisive = _decisive(flags, config)
    inputs = {key: digest(value) for key, value in _inputs(flags).items()}
    name = hashlib.sha256(json.dumps([decisive, inputs], sort_keys=True).encode()).hexdigest()[:8]
    out = Path(flags.out or f"runs/align-{config.method}-{name}")
    first = int(os.environ.get("RANK", "0")) == 0
    with RunFolder(out, "align", decisive, inputs) if first else nullcontext() as folder:
        if folder is not None and folder.finished:
            console.say(f"{out} already holds this run; nothing to do")
            result = json.loads((out / "done.json").read_text(encoding="utf-8"))["result"]
        else:
            result = _align(flags, config, out, folder, console)
    if first:
        console.result(result, result["model"])


def _check(flags: AlignFlags, config: OfflineConfig) -> None:
    if flags.reward_model is not None and flags.reward_function is not None:
        raise UsageError("received --reward_model and --reward_function; samples have one judge")
    if (flags.reward_model or flags.reward_function) and flags.eval_data is None:
        raise UsageError("samples are drawn for the prompts of --eval_data, which is missing")
    if flags.lora_r < 0:
        raise UsageError(f"--lora_r: received {flags.lora_r}; allowed: 0 for all weights, or a rank")


def _inputs(flags: AlignFlags) -> dict[str, str]:
    found = {"data": _table_path(flags.data), "model": flags.model, "tokenizer": flags.tokenizer}
    if flags.eval_data is not None:
        found["eval_data"] = _table_path(flags.eval_data)
    return {key: value for key, value in found.items() if value is not None}


def _table_path(source: str) -> str:
    """The table itself, or the one inside a run folder of `sample`."""
    inner = Path(source) / _TABLE
    return str(inner) if inner.is_file() else source


def _decisive(flags: AlignFlags, config: OfflineConfig) -> dict[str, Any]:
    """What decides the result; not where it goes or how it is shown."""
    merged = json.loads(json.dumps(asdict(flags) | config.to_dict(), default=str))
    return {key: value for key, value in sorted(merged.items()) if key not in _IGNORED}


def _align(
    flags: AlignFlags, config: OfflineConfig, out: Path, folder: RunFolder | None, console: Console
) -> dict[str, Any]:
    from pluralign.policy.checkpoints import last_checkpoint

    tables = {"data": _read(flags.data, flags.hub_split)}
    if flags.eval_data is not None:
        tables["eval_data"] = _read(flags.eval_data, flags.hub_split)
    if folder is not None:
        console.say(
            f"{config.method} with beta {config.settings.beta:g} on {len(tables['data']):,} rows of "
            f"{flags.data}, policy {flags.model}, into {out}"
        )
        _diagnose(tables["data"], config, console)
    config.output_dir = str(out / _TRAINING)
    trainer = _trainer(flags, config, tables)
    start = last_checkpoint(config.output_dir)
    if start is not None:
        console.say(f"continuing from {start}")
    if folder is not None:
        trainer.add_callback(_journal(folder))
    with redirect_stdout(sys.stderr):  # transformers prints its log lines; stdout is for the result
        done = trainer.train(resume_from_checkpoint=str(start) if start is not None else None)
        metrics = dict(done.metrics)
        if flags.eval_data is not None:
            metrics |= trainer.evaluate()
        trainer.save_model(str(out / _MODEL))
    (out / _MODEL / "training_args.bin").unlink(missing_ok=True)  # a pickle; the run folder has the settings
    result = {"model": str(out / _MODEL), "run": str(out), "method": config.method, "metrics": metrics}
    if folder is not None:
        folder.finish(_MODEL, result=result)
    return result


def _read(source: str, split: str | None) -> Any:
    """A training table; `check_training_table` looks at its rows."""
    import datasets

    from pluralign.data.formats import BadRow
    from pluralign.data.problems import raise_problems
    from pluralign.data.sources import find_tables

    path = _table_path(source)
    if path.endswith(".parquet") and Path(path).is_file():
        return datasets.Dataset.from_parquet(path, keep_in_memory=True)
    rows, problems = [], []
    for table in find_tables(path, split):
        for _, row in table.rows():
            if isinstance(row, BadRow):
                problems.append(row.problem)
            else:
                rows.append(row)
    if problems:
        raise_problems(source, problems)
    return datasets.Dataset.from_list(rows)


def _diagnose(table: Any, config: OfflineConfig, console: Console) -> None:
    """What QRPO will ask of the policy, before anything is spent."""
    from pluralign.policy.diagnostics import diagnose_table
    from pluralign.policy.objectives import find_objective

    if not find_objective(config.method).ranks or config.length_normalized:
        return
    options = {} if config.leave_one_out is None else {"leave_one_out": config.leave_one_out}
    diagnosis = diagnose_table(
        table, config.settings.beta, transform=config.transform, estimator=config.estimator, **options
    )
    console.say(str(diagnosis))


def _trainer(flags: AlignFlags, config: OfflineConfig, tables: dict[str, Any]) -> OfflineTrainer:
    from pluralign.policy.model_setup import load_policy
    from pluralign.policy.offline_trainer import OfflineTrainer

    peft_config = _lora(flags) if flags.lora_r else None
    model, tokenizer = load_policy(
        flags.model,
        flags.tokenizer,
        dtype=flags.dtype or ("auto" if peft_config is not None else "float32"),
        attn_implementation=flags.attn_implementation,
    )
    return OfflineTrainer(
        model,
        config,
        train_dataset=tables["data"],
        eval_dataset=tables.get("eval_data"),
        processing_class=tokenizer,
        peft_config=peft_config,
        reward=_reward(flags),
    )


def _lora(flags: AlignFlags) -> Any:
    from pluralign.policy.model_setup import lora_config

    alpha = 2 * flags.lora_r if flags.lora_alpha is None else flags.lora_alpha
    return lora_config(flags.lora_r, alpha, flags.lora_dropout, flags.lora_target_modules)


def _reward(flags: AlignFlags) -> Any:
    if flags.reward_model is None and flags.reward_function is None:
        return None
    from pluralign.cli.sample_flags import RewardFlags
    from pluralign.cli.sample_rewards import reward_source

    named = RewardFlags(
        reward_model=flags.reward_model,
        risk=flags.risk,
        reward_function=flags.reward_function,
        cache=flags.cache,
    )
    return reward_source(named, None)


def _journal(folder: RunFolder) -> Any:
    """A callback that writes each log line of the trainer into the run folder."""
    from transformers import TrainerCallback

    class Journal(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **options: Any) -> None:
            finite = {k: v for k, v in (logs or {}).items() if isinstance(v, int | float) and v == v}
            folder.log(step=state.global_step, **finite)

    return Journal()
