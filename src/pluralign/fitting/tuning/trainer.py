"""The loop that trains backbone and head: `transformers.Trainer` with losses of units.

In: a `TunedModule` with the problems `train` and, to stop early, `held_out`. Out: the same in its best state.
Everything else is Trainer's: schedule, several processes, bfloat16, checkpoints, loggers. A checkpoint has
only the trained tensors, and a resumed run continues as if it had not been interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from pluralign.errors import ConfigError, RunError
from pluralign.fitting.tuning.config import TuningConfig
from pluralign.fitting.tuning.module import TunedModule
from pluralign.training.resumable import ResumableTrainer

__all__ = ["TuningTrainer", "arguments"]

_FILE = "tuned.safetensors"
_NAMED = 5  # units in a message
_EVALUATIONS = 8  # of a whole training


def arguments(
    config: TuningConfig,
    tune: str,
    folder: str,
    units: int,
    held_out: int,
    *,
    width: int,
    on_cpu: bool,
    bar: bool | None,
) -> Any:
    """Trainer's settings.

    Args:
        config: of the tuning.
        tune: `lora` or `full`.
        folder: for checkpoints.
        units: units that are trained on.
        held_out: units that are held out.
        width: of the backbone's states.
        on_cpu: whether the model is on a CPU, and stays there.
        bar: whether to show a bar; None for one on a terminal.
    """
    import os
    import sys

    size = max(1, int(os.environ.get("WORLD_SIZE", "1")))
    steps = units / (config.batch * config.accumulate * size) * config.epochs
    total = config.max_steps if config.max_steps > 0 else steps
    every = config.eval_every or max(1, round(total / _EVALUATIONS))
    return TrainingArguments(
        folder,
        learning_rate=config.rate(tune, width),
        num_train_epochs=config.epochs,
        max_steps=config.max_steps,
        per_device_train_batch_size=config.batch,
        gradient_accumulation_steps=config.accumulate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=config.bf16,
        eval_strategy="steps" if held_out else "no",
        eval_steps=every if held_out else None,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=bool(held_out),
        metric_for_best_model="eval_loss" if held_out else None,
        greater_is_better=False if held_out else None,
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,
        report_to=list(config.loggers) or "none",
        remove_unused_columns=False,
        label_names=[],
        seed=config.tune_seed,
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=False,
        disable_tqdm=not sys.stderr.isatty() if bar is None else not bar,
        use_cpu=on_cpu,  # several processes on CPUs work together only with this
    )


class TuningTrainer(ResumableTrainer):
    """Trains a `TunedModule` in place.

    Args:
        module: with the problem `train`, and `held_out` if groups are held out.
        args: from `arguments`.
        config: of the tuning.
        report: called with a line after each evaluation.
    """

    control: Any  # transformers does not say what these are
    optimizer: Any

    def __init__(
        self,
        module: TunedModule,
        args: Any,
        config: TuningConfig,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._config, self._report = config, report
        if config.gradient_checkpointing:
            module.checkpoint_gradients()
        super().__init__(
            model=module,
            args=args,
            train_dataset=_Rows(len(module.problems["train"])),
            eval_dataset=_Rows(len(module.problems["held_out"])) if "held_out" in module.problems else None,
            data_collator=_rows,
            callbacks=[_Patience(config.patience)],
        )
        self.remove_callback(PrinterCallback)  # `report` says what there is to say
        if args.n_gpu > 1:
            raise ConfigError(
                f"{args.n_gpu} GPUs in one process are not used together; start one process per GPU with "
                "`accelerate launch`, or set CUDA_VISIBLE_DEVICES to one"
            )
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ConfigError(
                "tuning runs in one process per GPU with whole weights (DDP); FSDP and DeepSpeed are not "
                "supported. With tune='lora' the frozen weights may be in bfloat16 or 4 bits"
            )
        self.loss_is_scaled_for_ga = True  # divided by all units of the step
        self.can_return_loss = True
        self.model_accepts_loss_kwargs = True

    @property
    def module(self) -> TunedModule:
        """The module, unwrapped."""
        inner: TunedModule = self.accelerator.unwrap_model(self.model)
        return inner

    # ---- the loss --------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """This batch's share of the mean over all units of the step, however they are divided."""
        row = inputs["row"]
        losses = model(row)
        self._check_finite(losses, row)
        new = inputs.get("new", torch.ones_like(row, dtype=torch.bool))
        count = (
            new.sum() if num_items_in_batch is None else num_items_in_batch / self.accelerator.num_processes
        )
        loss = (losses * new).sum() / count
        return (loss, {"loss": loss}) if return_outputs else loss

    def _check_finite(self, losses: Tensor, row: Tensor) -> None:
        finite = losses.detach().isfinite()
        if bool(finite.all()):
            return
        units = row[~finite].tolist()
        groups = [self.module.problems["train"].groups[unit] for unit in units[:_NAMED]]
        more = f" and {len(units) - _NAMED} more" if len(units) > _NAMED else ""
        names = ", ".join(map(repr, groups))
        raise RunError(
            f"the loss is not finite in step {self.state.global_step + 1}, for {len(units)} of {len(row)} "
            f"units (numbers {', '.join(map(str, units[:_NAMED]))}{more}; groups {names}). "
            "Checkpoints are kept. Try a smaller lr or head_lr, a smaller max_grad_norm, or bf16=False"
        )

    # ---- evaluation ------------------------------------------------------------------------------

    def held_out_loss(self) -> float:
        """Mean loss of the held-out units; each process computes a share of them."""
        module, size = self.module, self.accelerator.num_processes
        mode = module.training
        module.eval()
        count = len(module.problems["held_out"])
        rows = torch.arange(self.accelerator.process_index, count, size)
        total = torch.zeros((), dtype=torch.float64)
        with torch.no_grad(), self.accelerator.autocast():
            for part in torch.split(rows, self._config.batch):
                total += module(part.to(self.args.device), "held_out").cpu().double().sum()
        module.train(mode)
        summed = self.accelerator.reduce(total.float().to(self.args.device), "sum")
        return float(summed) / count

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The loss on the held-out groups."""
        loss = self.held_out_loss()
        metrics = {f"{metric_key_prefix}_loss": loss}
        self.log(metrics)
        if self.is_world_process_zero():
            self._report(f"step {self.state.global_step} of {self.state.max_steps}: held-out loss {loss:.5f}")
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # ---- optimiser and files ---------------------------------------------------------------------

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW with one learning rate for the backbone and one for the head."""
        if self.optimizer is None:
            parts = self.module.trainable()
            body = [p for name, p in parts.items() if not name.startswith("head.")]
            head = [p for name, p in parts.items() if name.startswith("head.")]
            decay, plain = [p for p in body if p.ndim > 1], [p for p in body if p.ndim < 2]
            rate, weight_decay = self.args.learning_rate, self.args.weight_decay
            groups = [
                {"params": decay, "lr": rate, "weight_decay": weight_decay},
                {"params": plain, "lr": rate, "weight_decay": 0.0},
                {"params": head, "lr": self._config.head_lr, "weight_decay": 0.0},
            ]
            self.optimizer = torch.optim.AdamW([group for group in groups if group["params"]], fused=True)
        made: torch.optim.Optimizer = self.optimizer
        return made

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        from safetensors.torch import save_file

        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.module.state(), folder / _FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        from safetensors.torch import load_file

        self.module.restore(load_file(Path(resume_from_checkpoint, _FILE)))

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint is not None:
            self._load_from_checkpoint(self.state.best_model_checkpoint)


class _Rows(Dataset[dict[str, int]]):
    """The numbers of units."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> dict[str, int]:
        return {"row": row}


def _rows(parts: list[dict[str, int]]) -> dict[str, Tensor]:
    return {"row": torch.tensor([part["row"] for part in parts])}


class _Patience(TrainerCallback):
    """Stops after several evaluations without a better one; it reads the log, which checkpoints have."""

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_evaluate(self, args: Any, state: Any, control: Any, **options: Any) -> Any:
        losses = [line["eval_loss"] for line in state.log_history if "eval_loss" in line]
        if losses and len(losses) - 1 - losses.index(min(losses)) >= self._patience:
            control.should_training_stop = True
        return control
