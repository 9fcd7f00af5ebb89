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
from collections.abc import Iterator, Mapping
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
    num_positions,
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
from pluralign.policy.offline.config import OfflineConfig
from pluralign.policy.offline.data import Collator, packed_of, prepare_all
from pluralign.policy.offline.measurements import RunningMeans, batch_values, qrpo_constants
from pluralign.policy.offline.objectives import Objective, Responses, Settings, find_objective
from pluralign.policy.offline.optimum import Optimum, optimum_of
from pluralign.policy.offline.reference_stage import fingerprints_of, score_rows
from pluralign.policy.rewards.sample_evaluator import SampleEvaluator
from pluralign.policy.rewards.sources import RewardSource
from pluralign.policy.training.sample_files import read_samples, write_samples
from pluralign.policy.training.watch import Watch
from pluralign.training.distributed import keep_float32, new_rows
from pluralign.training.resumable import ResumableTrainer

__all__ = ["OfflineTrainer"]

_log = logging.getLogger("pluralign.policy")


class OfflineTrainer(ResumableTrainer):
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
        self.data_collator = Collator(self.sides, 1)  # each sequence alone, until the model is tested
        self._examined = False
        self._constants = qrpo_constants(self.settings) if self._one_partition() else {}
        self._sampled: SampleEvaluator | None = None
        self._watch = Watch(self.is_world_process_zero())
        if reward is not None:
            self._sampled = self._evaluator(reward, {k: v for k, v in tables.items() if k != "train"})
        if not self._sharded:
            self._examine()
        self.add_callback(_ReferenceFirst(self))

    def create_accelerator_and_postprocess(self) -> None:
        """As in `Trainer`; sharding does not round gradients or log-probabilities."""
        super().create_accelerator_and_postprocess()
        if self.is_fsdp_enabled:
            keep_float32(self.accelerator.state.fsdp_plugin)

    @property
    def _sharded(self) -> bool:
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

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

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: Any
    ) -> tuple[list[Any], Any]:
        """The batches of one optimiser step and their number of counted rows, over all processes."""
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
        state, row = self.accelerator.gradient_state, inputs["row"]
        return new_rows(state, len(row), self.args.process_index, row.device)

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
        means = self._means["train" if model.training else "eval"]
        means.add(batch_values(sides, losses, inputs["cut_off"], self.settings), new)
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

    # ---- measurements -------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the measurements since the last log line; `loss` marks a line of training."""
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
        """Loss and measurements on an evaluation table that was passed to the trainer.

        Raises:
            ArgumentError: another table is given, whose reference log-probabilities are not known.
        """
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            raise ArgumentError("pass evaluation tables to the trainer's constructor; here pass their names")
        if self.is_fsdp_enabled and not hasattr(self.model, "reshard"):
            raise ConfigError(
                "FSDP shards the model when training begins: evaluate after that, or with eval_on_start"
            )
        self.ensure_reference()
        result: dict[str, float] = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        return result

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **options: Any) -> Any:
        """As in `Trainer`; means are over rows, also with a smaller last batch, and samples are measured."""
        self._means["eval"].take()
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **options)
        found = self._means["eval"].take(self._over_processes)
        name = metric_key_prefix.removeprefix("eval_")
        if self._sampled is not None and name in self._sampled.prompts:
            found |= self._measure_samples(self._sampled, name)
        output.metrics.update({f"{metric_key_prefix}_{key}": value for key, value in found.items()})
        return output

    def _measure_samples(self, evaluator: SampleEvaluator, name: str) -> dict[str, float]:
        """Measures of samples; the first process stores their texts and logs warnings."""
        folder, step = Path(self.args.output_dir), self.state.global_step
        if step > 0 and not evaluator.knows_heads:  # the run was resumed
            evaluator.remember_heads([one["profile"] for one in read_samples(folder, 0, name)])
        model = self.accelerator.unwrap_model(self.model)
        found, samples = evaluator.measure(model, name, is_reference=step == 0)
        if self.is_world_process_zero():
            write_samples(folder, step, samples, name)
        self._watch.read(found)
        return found

    def _evaluator(self, reward: RewardSource, tables: Mapping[str, Any]) -> SampleEvaluator:
        """The evaluator that samples at each evaluation; made while the model is still the reference."""
        if self.is_deepspeed_enabled or (self.is_fsdp_enabled and self._ref_model is not None):
            raise ConfigError(
                "a sharded model can be sampled only with FSDP, and compared only with its initial weights; "
                "with DeepSpeed or a ref_model leave out reward, and sample from checkpoints"
            )
        made = SampleEvaluator(
            self.processing_class,
            reward,
            self.args,
            tables,
            num_positions(self.model),
            self._ref_model,
            self._sharded,
            self._constants.get("optimum_kl"),
            self.accelerator.autocast,
        )
        if not self._sharded:
            made.remember(self.model)
        return made

    def _remember(self) -> None:
        """Keeps the weights of the reference; called before the first step."""
        if self._sampled is not None:
            self._sampled.remember(self.accelerator.unwrap_model(self.model))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._remember()  # a sharded model is loaded after sharding, and then is no longer the reference
        super()._load_from_checkpoint(resume_from_checkpoint, model)


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
        self._trainer._remember()
