"""`OfflineTrainer`: fits a policy to rewards or preferences that were collected before.

In: a causal language model, a training table (`columns`), an `OfflineConfig`. Out: a trained model, its
checkpoints and a log. It is a `transformers.Trainer` with another loss: everything that `Trainer` does
(optimisers, schedules, DDP, FSDP, checkpoints, resuming, callbacks, trackers) it does. It knows no formula:
losses are in `losses`, their table in `objectives`.

Reference log-probabilities are those of the model as it is given, before the first step; they are stored, so
that no second model is held (`reference_log_probs`). A step packs its sequences without padding and never
holds logits of the whole batch (`packing`, `log_probs`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback

from pluralign.errors import ArgumentError, ConfigError, RunError
from pluralign.policy import reference_log_probs as references
from pluralign.policy.measurements import RunningMeans, batch_values, qrpo_constants
from pluralign.policy.model_setup import attach_adapter, check_vocabulary, disable_dropout, load_policy
from pluralign.policy.objectives import Objective, Responses, Settings, find_objective
from pluralign.policy.offline_config import OfflineConfig
from pluralign.policy.offline_data import Collator, packed_of, prepare_all
from pluralign.policy.reference_stage import fingerprints_of, score_rows
from pluralign.policy.rewarding import RewardSource
from pluralign.policy.sample_evaluator import SampleEvaluator, evaluation_prompts
from pluralign.policy.scored_forward import install, response_log_probs

__all__ = ["OfflineTrainer"]

_BIN_TOKENS = {"cpu": 512}


class OfflineTrainer(Trainer):
    """Trains a policy offline: QRPO, DPO, REBEL, SimPO or an objective of your own.

    Args:
        model: a causal language model, or a hub id or folder of one.
        args: the configuration; None for the defaults.
        train_dataset: a `datasets.Dataset`; see `columns` for its shapes.
        eval_dataset: another one, or several by name; same shape.
        processing_class: the tokenizer; None loads the model's own.
        peft_config: train this adapter instead of the whole model.
        ref_model: the reference, where it is not the model as given; it is used once and not kept, unless
            samples are measured against it.
        reward: judges samples of the policy at each evaluation; None samples nothing. Measuring their KL
            keeps a copy of the reference in main memory, unless an adapter is trained.
        objective: an `Objective` that is not in the table; None for `args.method`.
        callbacks: as in `Trainer`.
        optimizers: as in `Trainer`.

    Raises:
        ConfigError: settings that do not go together.
        DataError: a table is not what the objective needs.
        ArgumentError: model, tokenizer or objective do not fit.
    """

    def __init__(
        self,
        model: Any,
        args: OfflineConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        peft_config: Any = None,
        ref_model: Any = None,
        reward: RewardSource | None = None,
        objective: Objective | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
    ) -> None:
        args = OfflineConfig("policy") if args is None else args
        model, tokenizer = load_policy(
            model, processing_class, dtype="float32" if peft_config is None else "auto"
        )
        self.objective = find_objective(args.method) if objective is None else objective
        self.settings: Settings = args.settings
        if args.beta is None:
            self.settings = replace(self.settings, beta=self.objective.beta)
        if self.objective.reference:
            self._model_digest = references.model_digest(model if ref_model is None else ref_model)
        self._ref_model = ref_model
        if peft_config is not None:
            model = attach_adapter(model, peft_config)
        if args.disable_dropout:
            disable_dropout(model)
        isolates = install(model)
        check_vocabulary(model, tokenizer)
        tables = {"train": train_dataset} if train_dataset is not None else {}
        tables |= eval_dataset if isinstance(eval_dataset, Mapping) else {"eval": eval_dataset}
        tables = {name: table for name, table in tables.items() if table is not None}
        with args.main_process_first():
            self.prepared = prepare_all(tables, tokenizer, args, self.objective)
        self.sides = next(iter(self.prepared.values())).sides
        evaluation = {name: part.rows for name, part in self.prepared.items() if name != "train"}
        self._means = {"train": RunningMeans(), "eval": RunningMeans()}
        self._reference: Tensor | None = None
        super().__init__(
            model=model,
            args=args,
            train_dataset=self.prepared["train"].rows if "train" in self.prepared else None,
            eval_dataset=evaluation.get("eval") if list(evaluation) == ["eval"] else evaluation or None,
            processing_class=tokenizer,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        if args.n_gpu > 1:
            raise ConfigError(
                f"{args.n_gpu} GPUs in one process would split packed rows; start one process per GPU with "
                "`accelerate launch`, or set CUDA_VISIBLE_DEVICES to one"
            )
        # The loss is already divided by all rows of the step, so Trainer must not divide it again.
        self.loss_is_scaled_for_ga = True
        self.can_return_loss = True
        self.data_collator = Collator(self.sides, self._bin_tokens(isolates))
        self._constants = qrpo_constants(self.settings) if self._one_partition() else {}
        self._eval_prompts: dict[str, list[dict[str, Any]]] = {}
        self._sampled = self._evaluator(reward, tables)
        self.add_callback(_ReferenceFirst(self))

    def _one_partition(self) -> bool:
        """Whether all responses share one Z."""
        args = self.args
        return self.objective.ranks and not args.length_normalized and args.partition == "exact"

    def _bin_tokens(self, isolates: bool) -> int | None:
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        if sharded or "flash" in (getattr(self.model.config, "_attn_implementation", None) or ""):
            return None  # one call of each layer per step: ranks of a sharded model must make the same calls
        if not isolates:
            return 1
        return self.args.bin_tokens or _BIN_TOKENS.get(self.args.device.type, 2048)

    # ---- the loss -----------------------------------------------------------------------------------------

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: Any
    ) -> tuple[list[Any], Any]:
        """The batches of one optimiser step and how many rows they have over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        rows = torch.tensor(sum(len(batch["row"]) for batch in batches), device=device)
        return batches, self.accelerator.gather(rows).sum()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Mean loss over the rows of the whole step, as far as this batch contributes to it.

        Divided by all rows of the step, so that the gradient does not depend on how the step was split over
        batches and processes; DDP and FSDP average over processes, which the factor undoes.
        """
        sides = self._score(model, inputs)
        losses = self.objective.loss(sides, self.settings)
        means = self._means["train" if model.training else "eval"]
        means.add(batch_values(sides, losses, inputs["cut_off"], self.settings))
        if num_items_in_batch is None:
            loss = losses.mean()
        else:
            loss = losses.sum() / num_items_in_batch * self.accelerator.num_processes
        return (loss, {"loss": loss}) if return_outputs else loss

    def _score(self, model: Any, inputs: dict[str, Any]) -> dict[str, Responses]:
        """The batch as objectives see it."""
        count = len(inputs["row"])
        log_probs = response_log_probs(model, packed_of(inputs)).reshape(-1, count)
        stored = self._reference
        if stored is not None:
            stored = stored[inputs["row"].cpu()].to(log_probs.device)
        return {
            side: Responses(
                log_probs=log_probs[i],
                num_tokens=inputs[f"tokens_{side}"].long(),
                reference_log_probs=None if stored is None else stored[:, i],
                rewards=inputs.get(f"reward_{side}"),
                quantile_rewards=inputs.get(f"rank_{side}"),
                log_partition=inputs.get(f"log_partition_{side}"),
            )
            for i, side in enumerate(self.sides)
        }

    # ---- reference log-probabilities ----------------------------------------------------------------------

    @property
    def reference_path(self) -> Path:
        """Where the reference log-probabilities of all tables are stored."""
        named = self.args.reference_path
        return Path(named or Path(self.args.output_dir, "reference_log_probs.safetensors"))

    def ensure_reference(self) -> None:
        """Reads the reference log-probabilities, or computes and stores them before the first step.

        Raises:
            FingerprintError: the stored ones are of another model, tokenizer or data.
            RunError: training has begun and they are gone.
        """
        from datasets import concatenate_datasets

        if self._reference is not None or not self.objective.reference:
            return
        rows = concatenate_datasets([part.rows for part in self.prepared.values()])
        prints = fingerprints_of(self._model_digest, self.processing_class, rows, self.sides)
        stored = references.load(self.reference_path, prints, len(rows), len(self.sides))
        self.accelerator.wait_for_everyone()
        if stored is None and self.state.global_step > 0:
            raise RunError(
                f"{self.reference_path} is gone, and the model has been trained since; restore the file, or "
                "start again in another output_dir"
            )
        if stored is None:
            model, collator = self.model_wrapped, self.data_collator
            if self._ref_model is not None:
                model = self._ref_model.to(self.args.device)
                collator = Collator(self.sides, self._bin_tokens(install(model)))
            stored = score_rows(
                model,
                rows,
                collator,
                self.reference_path,
                prints,
                self.args,
                self.compute_loss_context_manager,
            )
        self._reference, self._ref_model = stored, None

    # ---- measurements -------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds what was measured since the last log line; `loss` marks a line of training."""
        if "loss" in logs:
            means = self._means["train"].take(self._over_processes)
            means.pop("loss", None)
            logs |= means | self._constants | {"num_tokens": float(self.state.num_input_tokens_seen)}
        super().log(logs, start_time)

    def _over_processes(self, sums: Tensor) -> Tensor:
        total: Tensor = self.accelerator.reduce(sums, "sum")
        return total

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Loss and measurements on an evaluation table that the trainer was made with.

        Raises:
            ArgumentError: another table is given; its reference log-probabilities are not known any more.
        """
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            raise ArgumentError("pass evaluation tables when the trainer is made; here name one of them")
        self.ensure_reference()
        result: dict[str, float] = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        return result

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **options: Any) -> Any:
        """As in `Trainer`; means are over rows, however the last batch came out, and samples are measured."""
        self._means["eval"].take()
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **options)
        found = self._means["eval"].take(self._over_processes)
        name = metric_key_prefix.removeprefix("eval_")
        if self._sampled is not None and name in self._eval_prompts:
            found |= self._measure_samples(self._sampled, self._eval_prompts[name])
        output.metrics.update({f"{metric_key_prefix}_{key}": value for key, value in found.items()})
        return output

    def _measure_samples(self, evaluator: SampleEvaluator, rows: Any) -> dict[str, float]:
        from accelerate.utils import gather_object

        many = self.args.world_size > 1
        found = evaluator.measure(
            self.accelerator.unwrap_model(self.model),
            rows,
            rank=self.args.process_index,
            world=self.args.world_size,
            gather=gather_object if many else lambda samples: samples,
        )
        optimum = {"optimum_kl": self._constants["optimum_kl"]} if self._constants else {}
        return {f"samples/{key}": value for key, value in (found | optimum).items()}

    def _evaluator(self, reward: RewardSource | None, tables: Mapping[str, Any]) -> SampleEvaluator | None:
        """What samples at each evaluation; called while the model is still the reference."""
        if reward is None:
            return None
        args: OfflineConfig = self.args
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ConfigError(
                "samples cannot be drawn from a sharded model while it is trained; leave out reward, and "
                "sample from its checkpoints"
            )
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        self._eval_prompts = {
            name: evaluation_prompts(
                table, self.processing_class, args.eval_prompts, args.eval_max_new_tokens, limit
            )
            for name, table in tables.items()
            if name != "train"
        }
        bins = self.data_collator.bin_tokens
        return SampleEvaluator(self.model, self.processing_class, reward, args, bins, self._ref_model)

    # ---- checkpoints --------------------------------------------------------------------------------------

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """As in `Trainer`; a checkpoint that could not be written does not stay half written."""
        folder = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        try:
            super()._save_checkpoint(model, trial)
        except Exception as error:
            if self.args.should_save:
                shutil.rmtree(folder, ignore_errors=True)
            free = shutil.disk_usage(self.args.output_dir).free / 2**30
            raise RunError(
                f"{folder} could not be written ({error}); {free:.1f} GiB are free there. Earlier "
                "checkpoints are whole: free some space and resume"
            ) from error


class _ReferenceFirst(TrainerCallback):
    """Sees to the reference log-probabilities when the model is where it will be trained, before it moves."""

    def __init__(self, trainer: OfflineTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, *args: Any, **options: Any) -> None:
        self._trainer.ensure_reference()
