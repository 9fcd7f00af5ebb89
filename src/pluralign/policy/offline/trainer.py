"""`OfflineTrainer`: fits a policy to rewards or preferences that were collected before.

In: a causal language model, a training table (`columns`), an `OfflineConfig`. Out: a trained model, its
checkpoints and a log. It is a `transformers.Trainer` with another loss and has all its features (optimisers,
schedules, DDP, FSDP, checkpoints, resuming, callbacks, trackers). Formulas are in `losses`, their table in
`objectives`.

Reference log-probabilities are those of the initial model, before the first step; they are stored, so that no
second model is in memory (`references`). A step packs its sequences without padding and never stores logits
of the whole batch (`packing`, `chunked`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from pluralign.conversations import stop_token_ids
from pluralign.errors import ArgumentError, ConfigError, RunError
from pluralign.policy.logprobs.loading import (
    attach_adapter,
    check_vocabulary,
    disable_dropout,
    load_policy,
    stop_at,
)
from pluralign.policy.logprobs.model_checks import (
    check_positions,
    check_precision,
    load_reference,
    warn_about_adapter_dropout,
)
from pluralign.policy.logprobs.scored_forward import (
    attach,
    examine,
    response_log_probs,
    row_tokens,
    use_kernels,
)
from pluralign.policy.offline import references
from pluralign.policy.offline.batches import Collator, packed_of
from pluralign.policy.offline.config import OfflineConfig
from pluralign.policy.offline.data import prepare_all
from pluralign.policy.offline.measured import MeasuredTrainer
from pluralign.policy.offline.measurements import batch_values, qrpo_constants
from pluralign.policy.offline.objectives import Objective, Responses, Settings, find_objective
from pluralign.policy.offline.optimum import Optimum, optimum_of
from pluralign.policy.offline.reference_stage import fingerprints_of, score_rows
from pluralign.policy.rewards.sources import RewardSource
from pluralign.policy.training.sharding import keep_float32

__all__ = ["OfflineTrainer"]

_log = logging.getLogger("pluralign.policy")


class OfflineTrainer(MeasuredTrainer):
    """Trains a policy offline: QRPO, DPO, REBEL, SimPO or your own objective.

    Args:
        model: a causal language model, or a hub id or folder of one.
        args: the configuration; None for the defaults.
        train_dataset: a `datasets.Dataset` with a shape of `columns`.
        eval_dataset: another one, or several by name, with the same shape.
        processing_class: the tokenizer; None loads the model's own.
        peft_config: train this adapter instead of the whole model.
        ref_model: the reference or its name, if it is not the initial model; with the same tokenizer. It is
            used once and not kept, unless samples are compared with it.
        reward: the reward of samples of the policy at each evaluation; None for no samples. For their KL, a
            copy of the trained weights (only an adapter's, if one is trained) is kept in main memory.
        objective: an `Objective` that is not in the table; None for `args.method`.
        callbacks: as in `Trainer`.
        optimizers: as in `Trainer`.

    Attributes:
        log_prob_kernel: kernels for the logits, plain or compiled.
        optimum: distance of the optimum from the reference; None without a train_dataset.

    Raises:
        ConfigError: settings are not compatible.
        DataError: a table is not suitable for the objective.
        ArgumentError: model, tokenizer or objective do not fit.
    """

    args: OfflineConfig

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
        self.settings: Settings = args.settings_of(self.objective)
        ref_model = load_reference(ref_model, model, tokenizer)
        if self.objective.reference:
            self._model_digest = references.model_digest(model if ref_model is None else ref_model)
        self._ref_model = ref_model
        if peft_config is not None:
            model = attach_adapter(model, peft_config)
        if args.disable_dropout:
            warn_about_adapter_dropout(model)
            disable_dropout(model)
        attach(model)
        check_vocabulary(model, tokenizer)
        ends = stop_token_ids(tokenizer, tokens=None if args.end_token is None else [args.end_token])
        stop_at(model, ends[0])
        check_precision(model)
        half = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
        self.log_prob_kernel = use_kernels(model, args.log_prob_kernel, args.device, half)
        tables = _by_name(train_dataset, eval_dataset)
        with args.main_process_first():
            self.prepared = prepare_all(tables, tokenizer, args, self.objective)
        self.optimum: Optimum | None = None
        if "train" in tables:
            self.optimum = optimum_of(tables["train"], self.prepared["train"].rows, args, self.objective)
            if self.optimum.warning is not None:
                _log.warning(self.optimum.warning)
        check_positions(model, max(part.longest for part in self.prepared.values()))
        self.sides = next(iter(self.prepared.values())).sides
        evaluation = {name: part.rows for name, part in self.prepared.items() if name != "train"}
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
        self.data_collator = Collator(self.sides, 1)  # each sequence alone, until the model is tested
        self._examined = False
        if self._one_partition():
            self._constants = qrpo_constants(self.settings)
        if reward is not None:
            self._sample_at_evaluations(reward, {k: v for k, v in tables.items() if k != "train"})
        if not self._sharded:
            self._examine()
        self.add_callback(_ReferenceFirst(self))

    def create_accelerator_and_postprocess(self) -> None:
        """As in `Trainer`; sharding does not round gradients or log-probabilities."""
        super().create_accelerator_and_postprocess()
        if self.is_fsdp_enabled:
            keep_float32(self.accelerator.state.fsdp_plugin)

    def _one_partition(self) -> bool:
        """Whether all responses have the same Z."""
        args = self.args
        return self.objective.ranks and not args.length_normalized and args.partition == "exact"

    def _examine(self) -> None:
        """Tests the model once, as it will be trained, and chooses the packing accordingly.

        Weights that will be sharded are tested after sharding, before the first step.
        """
        spread = hasattr(self.model, "reshard") or self.model_wrapped is not self.model
        if self._examined or (self._sharded and not spread):
            return
        self._examined = True
        model = self.accelerator.unwrap_model(self.model)
        wrapped = self.model_wrapped if self._sharded else None
        with self.accelerator.autocast():
            apart = examine(model, wrapped, without_dropout=self.args.disable_dropout)
        bin_tokens = row_tokens(model, apart, self.args.bin_tokens, self.args.device, self._sharded)
        self.data_collator.bin_tokens = bin_tokens
        if self._sampled is not None:
            self._sampled.bin_tokens = bin_tokens

    # ---- the loss -----------------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """This batch's contribution to the mean loss over all rows of the step.

        Divided by all rows of the step, so that the gradient does not depend on how the step was split over
        batches and processes; DDP and FSDP average over processes, which the factor undoes.
        """
        sides = self._score(model, inputs)
        losses = self.objective.loss(sides, self.settings)
        new = inputs["new"] if "new" in inputs else self._new_rows(inputs)
        self._measure(batch_values(sides, losses, inputs["cut_off"], self.settings), new, model.training)
        if num_items_in_batch is None:
            loss = losses.mean()
        else:
            loss = (losses * new).sum() / num_items_in_batch * self.accelerator.num_processes
        return (loss, {"loss": loss}) if return_outputs else loss

    def _score(self, model: Any, inputs: dict[str, Any]) -> dict[str, Responses]:
        """The batch in the form that objectives take."""
        count = len(inputs["row"])
        log_probs = response_log_probs(model, packed_of(inputs)).reshape(-1, count)
        stored = self._reference
        if stored is not None:
            stored = stored[inputs["row"]].to(log_probs.device)
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
            FingerprintError: the stored ones belong to another model, tokenizer or data.
            RunError: training has begun and they no longer exist.
        """
        from datasets import concatenate_datasets

        self._examine()
        if self._reference is not None or not self.objective.reference:
            return
        rows = concatenate_datasets([part.rows for part in self.prepared.values()])
        prints = fingerprints_of(self._model_digest, self.processing_class, rows, self.sides)
        stored = references.load(self.reference_path, prints, len(rows), len(self.sides))
        self.accelerator.wait_for_everyone()
        if stored is None and self.state.global_step > 0:
            raise RunError(
                f"{self.reference_path} no longer exists, and the model has been trained since; restore the "
                "file, or start again in another output_dir"
            )
        if stored is None:
            model, collator = self.model_wrapped, self.data_collator
            if self._ref_model is not None:
                model = self._ref_model.to(self.args.device)
                attach(model)
                with self.accelerator.autocast():
                    apart = examine(model)
                bin_tokens = row_tokens(model, apart, self.args.bin_tokens, self.args.device)
                collator = Collator(self.sides, bin_tokens)
            autocast = self.accelerator.autocast  # a model other than the policy has no wrapper
            stored = score_rows(model, rows, collator, self.reference_path, prints, self.args, autocast)
            if self._ref_model is not None:
                self._ref_model.to("cpu")
        self._reference, self._ref_model = stored.to(self.args.device), None


def _by_name(train: Any, evaluation: Any) -> dict[str, Any]:
    """The given tables, by name."""
    named = dict(evaluation) if isinstance(evaluation, Mapping) else {"eval": evaluation}
    if "train" in named:
        raise ArgumentError("eval_dataset: an evaluation table is called 'train'; choose another name")
    return {name: table for name, table in ({"train": train} | named).items() if table is not None}


class _ReferenceFirst(TrainerCallback):
    """Computes reference log-probabilities when the model is on its device, before the first step."""

    def __init__(self, trainer: OfflineTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, *args: Any, **options: Any) -> None:
        self._trainer.ensure_reference()
        self._trainer._remember_reference()
