"""The flags of `OfflineTrainer`: transformers' `TrainingArguments` and what offline objectives add.

In: numbers and names. Out: a checked configuration.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Literal

from transformers import TrainingArguments

from pluralign.errors import ConfigError
from pluralign.losses.transforms import parse_transform
from pluralign.policy.offline.objectives import Objective, Settings, find_objective
from pluralign.policy.rewards.ranks import ESTIMATORS

__all__ = ["OfflineConfig"]

_CHOICES = {
    "partition": ("exact", "finite"),
    "estimator": tuple(ESTIMATORS),
    "pair_responses": ("both", "chosen", "rejected"),
    "log_prob_kernel": ("auto", "plain", "compiled"),
}
_COUNTS = ("bin_tokens", "reference_batch_tokens", "eval_prompts", "eval_completions", "eval_max_new_tokens")


@dataclass
class OfflineConfig(TrainingArguments):
    """Settings of `OfflineTrainer`, in addition to all fields of `TrainingArguments`.

    Defaults that differ from `TrainingArguments`: one epoch, learning rate 1e-6 with cosine decay after 10 %
    warm-up, a log line every 10 steps in which NaN is shown as NaN, bfloat16 autocast if the GPU supports it,
    all tokens counted.

    Attributes:
        method: qrpo, qrpo_absolute, dpo, rebel or simpo.
        beta: Weight of the KL penalty (SimPO: of the margin); null for the objective's default.
        transform: QRPO's transformation of quantile rewards: identity, log, square, sqrt, normal ...
        partition: exact, or finite if rewards have atoms (unit tests, integer judges).
        estimator: How ranks among the references are counted: mid, inclusive or randomised.
        leave_one_out: Leave a response out of its own references; null to do so if the table says so
            (among_references).
        length_normalized: Log-probabilities per token; for QRPO beta / length, with its partition function.
        beta_max: Largest beta / length; null for no limit.
        gamma_beta_ratio: Margin of SimPO, in nats per token.
        pair_responses: Which responses of a pair QRPO learns from.
        max_length: Maximum number of tokens of prompt and response; the beginning of the prompt is cut
            first, then the end of the response. Null for no limit.
        end_token: Token that ends a response; null for the one of the chat template, or without one the
            tokenizer's end-of-sequence token.
        disable_dropout: Train without dropout, including that of an adapter, so that log-probabilities are
            those of the policy.
        bin_tokens: Number of tokens per row if attention is masked; null for 512 on a CPU and 2,048
            elsewhere. With flash attention and with sharded models the whole batch is one row; if a model
            does not separate packed sequences, each has its own row.
        log_prob_kernel: Kernels for the logits: plain, compiled (by torch, into fused kernels), or auto:
            compiled on a GPU if that works.
        reference_path: File of reference log-probabilities; null for one in output_dir.
        reference_batch_tokens: Tokens per batch for computing reference log-probabilities.
        dataset_num_proc: Number of processes for tokenization.
        eval_prompts: Number of prompts to sample from when evaluating with a scorer.
        eval_completions: Completions per prompt.
        eval_max_new_tokens: Maximum number of tokens of a sampled completion.
        eval_batch_prompts: Number of completions sampled at a time.
        learning_rate: Maximum learning rate. The defaults of this and the following differ from those of
            `TrainingArguments`.
        num_train_epochs: Number of passes over the data.
        lr_scheduler_type: Schedule of the learning rate after the warm-up.
        warmup_steps: Number of warm-up steps; below 1, their share of all steps.
        logging_steps: Steps between two log lines; below 1, their share of all steps.
        logging_nan_inf_filter: Leave losses that are not finite out of the log.
        bf16: Compute in bfloat16; null to do so if the GPU supports it.
        remove_unused_columns: Must be false; batches need columns that are not inputs of the model.
        include_num_input_tokens_seen: Which tokens to count: all, non_padding or no.
    """

    method: str = "qrpo"
    beta: float | None = None
    transform: str = "identity"
    partition: Literal["exact", "finite"] = "exact"
    estimator: str = "mid"
    leave_one_out: bool | None = None
    length_normalized: bool = False
    beta_max: float | None = 0.1
    gamma_beta_ratio: float = 0.5
    pair_responses: Literal["both", "chosen", "rejected"] = "both"
    max_length: int | None = 2048
    end_token: str | None = None
    disable_dropout: bool = True
    bin_tokens: int | None = None
    log_prob_kernel: Literal["auto", "plain", "compiled"] = "auto"
    reference_path: str | None = None
    reference_batch_tokens: int = 16384
    dataset_num_proc: int | None = None
    eval_prompts: int = 64
    eval_completions: int = 1
    eval_max_new_tokens: int = 512
    eval_batch_prompts: int = 16

    # Defaults that differ from TrainingArguments.
    learning_rate: float = 1e-6
    num_train_epochs: float = 1.0
    lr_scheduler_type: str = "cosine"
    warmup_steps: float = 0.1
    logging_steps: float = 10
    logging_nan_inf_filter: bool = False
    bf16: bool | None = None
    remove_unused_columns: bool | None = False
    include_num_input_tokens_seen: str = "all"

    def __post_init__(self) -> None:
        self.bf16 = self._half_by_default() if self.bf16 is None else self.bf16
        super().__post_init__()
        objective = find_objective(self.method)
        self.label_names: list[str] = []
        if self.remove_unused_columns:
            raise ConfigError(
                "remove_unused_columns: received True; batches need columns that are not inputs of the model"
            )
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name}: received {getattr(self, name)!r}; allowed: {', '.join(allowed)}")
        parse_transform(self.transform)
        positive = {
            "beta": objective.beta if self.beta is None else self.beta,
            "beta_max": self.beta_max,
            **{name: getattr(self, name) for name in _COUNTS},
        }
        for name, value in positive.items():
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name}: received {value}; allowed: more than 0")
        if self.max_length is not None and self.max_length < 2:
            raise ConfigError(f"max_length: received {self.max_length}; allowed: at least 2 tokens")

    def _half_by_default(self) -> bool:
        import torch

        on_gpu = torch.cuda.is_available() and not self.use_cpu
        return on_gpu and not self.fp16 and torch.cuda.is_bf16_supported()

    @property
    def settings(self) -> Settings:
        """The settings of the objective of `method`."""
        return self.settings_of(find_objective(self.method))

    def settings_of(self, objective: Objective) -> Settings:
        """The settings of an objective, with its default beta if none is given."""
        beta = objective.beta if self.beta is None else self.beta
        return Settings(beta, self.transform, self.gamma_beta_ratio, self.length_normalized, self.beta_max)


def _help_texts() -> None:
    """Copies the text of the docstring to each new field, where `HfArgumentParser` looks for help."""
    described = (OfflineConfig.__doc__ or "").partition("Attributes:")[2]
    entries = re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", described, re.MULTILINE)
    texts = {name: " ".join(text.split()) for name, text in entries}
    for one in fields(OfflineConfig):
        if one.name in texts:
            one.metadata = MappingProxyType({"help": texts[one.name]})


_help_texts()
