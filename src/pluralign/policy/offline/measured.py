"""A `transformers.Trainer` that measures: means over rows in log lines and evaluations, and samples.

In: numbers of each row of a batch, from the loss. Out: their means over the rows since the last log line, or
of an evaluation, over all processes; each row counts once, also where the last batch is filled up. With a
reward the policy is also sampled at each evaluation, and its texts are stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pluralign.errors import ArgumentError, ConfigError
from pluralign.policy.logprobs.loading import num_positions
from pluralign.policy.offline.config import OfflineConfig
from pluralign.policy.offline.measurements import RunningMeans
from pluralign.policy.rewards.sample_evaluator import SampleEvaluator
from pluralign.policy.rewards.sources import RewardSource
from pluralign.policy.training.sample_files import read_samples, write_samples
from pluralign.policy.training.watch import Watch
from pluralign.training.resumable import ResumableTrainer

__all__ = ["MeasuredTrainer"]


class MeasuredTrainer(ResumableTrainer):
    """A `Trainer`, with the same arguments; a subclass has the loss, and calls `_measure` in it."""

    args: OfflineConfig
    _ref_model: Any = None  # the reference, if it is not the initial model and still needed

    def __init__(self, *args: Any, **options: Any) -> None:
        self._constants: dict[str, float] = {}  # in every log line of training
        self._sampled: SampleEvaluator | None = None
        self._means = {"train": RunningMeans(), "eval": RunningMeans()}
        super().__init__(*args, **options)
        self._watch = Watch(self.is_world_process_zero())

    @property
    def _sharded(self) -> bool:
        """Whether weights are spread over processes."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def ensure_reference(self) -> None:
        """Called before the first step and before each evaluation."""

    def _measure(self, values: Mapping[str, Tensor], new: Tensor, training: bool) -> None:
        """Adds the numbers of a batch, [B] each, for its new rows, to the means."""
        self._means["train" if training else "eval"].add(values, new)

    # ---- log and evaluations ------------------------------------------------------------------------------

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

    # ---- samples ------------------------------------------------------------------------------------------

    def _sample_at_evaluations(self, reward: RewardSource, tables: Mapping[str, Any]) -> None:
        """Samples the policy at each evaluation; called while the model is still the reference.

        Args:
            reward: the reward of samples.
            tables: evaluation tables, by name.

        Raises:
            ConfigError: a model that is sharded like this cannot be sampled.
        """
        if self.is_deepspeed_enabled or (self.is_fsdp_enabled and self._ref_model is not None):
            raise ConfigError(
                "a sharded model can be sampled only with FSDP, and compared only with its initial weights; "
                "with DeepSpeed or a ref_model leave out reward, and sample from checkpoints"
            )
        self._sampled = SampleEvaluator(
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
            self._sampled.remember(self.model)

    def _remember_reference(self) -> None:
        """Keeps the weights of the reference for samples; called before the first step."""
        if self._sampled is not None:
            self._sampled.remember(self.accelerator.unwrap_model(self.model))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._remember_reference()  # a sharded model is loaded after sharding: then it is not the reference
        super()._load_from_checkpoint(resume_from_checkpoint, model)

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
