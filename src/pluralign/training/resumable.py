"""A `transformers.Trainer` whose result does not depend on interruptions, with complete checkpoints.

In: the arguments of `Trainer`, and batches with the number of each row as `row`. Out: a run that can be
resumed from a checkpoint, with the mean loss of all its steps, and checkpoints that are complete or absent.
Rows that only fill up a batch are marked, so that none counts twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainerState

from pluralign.training.checkpoints import STATE, checkpoint_at, usable, written_completely
from pluralign.training.distributed import new_rows
from pluralign.training.resuming import NothingLeft, RunLoss

__all__ = ["ResumableTrainer"]


class ResumableTrainer(Trainer):
    """A `Trainer`, with the same arguments."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._end = NothingLeft()
        for callback in (RunLoss(), self._end):
            self.add_callback(callback)

    @property
    def nothing_left(self) -> bool:
        """Whether the checkpoint that this run resumed from is that of the last step."""
        return self._end.reached

    def train(self, resume_from_checkpoint: Any = None, **options: Any) -> Any:
        """As in `Trainer`; `True` resumes from the last complete checkpoint.

        A checkpoint of the last step gives its model unchanged, and `train_loss` is the mean over all steps
        of the run, including those before an interruption.

        Raises:
            RunError: there is no checkpoint.
            ArtifactError: it is damaged, or of another model; with `True`, a damaged one is skipped.
        """
        if resume_from_checkpoint:
            found = checkpoint_at(self.args.output_dir, resume_from_checkpoint)
            with usable(found, "state"):
                RunLoss.carried(TrainerState.load_from_json(str(found / STATE)))
            resume_from_checkpoint = str(found)
        done = super().train(resume_from_checkpoint=resume_from_checkpoint, **options)
        return done._replace(training_loss=done.metrics["train_loss"])

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: Any
    ) -> tuple[list[Any], Any]:
        """The batches of one optimiser step and their number of counted rows, over all processes.

        Each batch gets `new`, [B]: the rows that were not in an earlier one of the epoch.
        """
        if self.nothing_left:
            return [], None
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        for batch in batches:
            batch["new"] = torch.ones_like(batch["row"], dtype=torch.bool)
        if batches:  # only the last one of an epoch can be filled up
            batches[-1]["new"] = self._new_rows(batches[-1])
        counts = [batch["new"].sum().to(device) for batch in batches] or [torch.tensor(0, device=device)]
        return batches, self.accelerator.gather(torch.stack(counts).sum()).sum()

    def _new_rows(self, inputs: Mapping[str, Any]) -> Tensor:
        """The rows of a batch that were not in an earlier one of the epoch, [B]."""
        state, row = self.accelerator.gradient_state, inputs["row"]
        return new_rows(state, len(row), self.args.process_index, row.device)

    def training_step(self, *args: Any, **options: Any) -> Tensor:
        """As in `Trainer`; the loss is also added to the mean of the whole run."""
        loss: Tensor = super().training_step(*args, **options)
        self._run_loss.add(loss, self.args.logging_nan_inf_filter)
        return loss

    @property
    def _run_loss(self) -> RunLoss:
        """Looked up each time, because transformers may replace it by the one that it restored."""
        return next(each for each in self.callback_handler.callbacks if isinstance(each, RunLoss))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As in `Trainer`, whose `train_loss` would only be that of the steps since the run was resumed."""
        if "train_loss" in logs:
            self._run_loss.settle(self._mean_over_processes)
            if self._run_loss.mean is not None:
                logs["train_loss"] = self._run_loss.mean
        super().log(logs, start_time)

    def _mean_over_processes(self, value: Tensor) -> Tensor:
        mean: Tensor = self.accelerator.reduce(value, "mean")
        return mean

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in `Trainer`; a model for `from_pretrained` even if checkpoints are sharded."""
        plugin = self.accelerator.state.fsdp_plugin if self.is_fsdp_enabled else None
        if plugin is not None and not _internal_call and "FULL" not in str(plugin.state_dict_type):
            self._save(output_dir, state_dict=self.accelerator.get_state_dict(self.model))
        super().save_model(output_dir, _internal_call)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with usable(Path(resume_from_checkpoint), "weights"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """As in `Trainer`, but weights of another model are an error."""
        named, missing = self._named_weights(), set(load_result.missing_keys)
        there = {id(weight) for name, weight in named if name not in missing}  # of tied weights, one name is
        absent = [name for name, weight in named if name in missing and id(weight) not in there]
        if absent or load_result.unexpected_keys:
            odd = [*(f"{name} is missing" for name in absent), *load_result.unexpected_keys]
            raise ValueError(f"they are of another model: {odd[0]}, {len(odd)} in all")
        super()._issue_warnings_after_load(load_result)

    def _named_weights(self) -> list[tuple[str, Any]]:
        return list(self.model.named_parameters(remove_duplicate=False))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with usable(Path(checkpoint or ""), "optimizer or schedule"):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with usable(Path(checkpoint or ""), "random numbers"):
            super()._load_rng_state(checkpoint)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._run_loss.settle(self._mean_over_processes)
        folder = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        advice = "Earlier checkpoints are complete: free some space and resume"
        with written_completely(folder, self.args.should_save, advice):
            super()._save_checkpoint(model, trial)
