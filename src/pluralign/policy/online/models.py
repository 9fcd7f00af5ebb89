"""The models of an online run: the policy that is trained, its critic, and its reference.

In: a user's causal language model. Out: log-probabilities and values of the tokens of rollouts, [B, T], under
the current policy and under its reference.

The reference is the model with the adapter switched off, or another given model, or the initial weights, kept
in main memory and restored temporarily: there is no second model unless one is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pluralign.conversations import ConversationReader, stop_token_ids
from pluralign.errors import ArgumentError, ConfigError
from pluralign.policy.logprobs.kept_weights import KeptWeights
from pluralign.policy.logprobs.loading import (
    attach_adapter,
    check_vocabulary,
    disable_dropout,
    load_policy,
    stop_at,
)
from pluralign.policy.logprobs.model_checks import check_positions, check_precision, load_reference
from pluralign.policy.logprobs.packing import Packed, pack
from pluralign.policy.logprobs.scored_forward import (
    attach,
    examine,
    response_token_log_probs,
    row_tokens,
    use_kernels,
)
from pluralign.policy.online.actor_critic import ActorCritic, CriticModel, ValueHead, token_scores
from pluralign.policy.online.advantages import ADVANTAGES
from pluralign.policy.online.config import PPOConfig
from pluralign.policy.online.processes import gathered
from pluralign.policy.online.rollouts import Rollout, padded
from pluralign.policy.sampling.local import LocalSampler
from pluralign.policy.sampling.settings import Prompt
from pluralign.policy.training.digest import model_digest
from pluralign.policy.training.sharding import keep_float32

__all__ = ["Models", "make_accelerator"]

_PLAIN_PROCESSES = ("NO", "MULTI_GPU", "MULTI_CPU")
_SHARDS = "FSDP"


def make_accelerator(config: PPOConfig) -> Any:
    """The accelerator, which knows the device and the other processes.

    Raises:
        ConfigError: it was started to shard weights, and not by FSDP 2 from whole models.
    """
    from accelerate import Accelerator

    half = config.bf16
    if half is None:
        half = torch.cuda.is_available() and not config.use_cpu and torch.cuda.is_bf16_supported()
    made = Accelerator(cpu=config.use_cpu, mixed_precision="bf16" if half else "no")
    kind = _kind(made)
    if kind == _SHARDS:
        plugin = made.state.fsdp_plugin
        keep_float32(plugin)
        if plugin.cpu_ram_efficient_loading:
            raise ConfigError(
                "FSDP: received cpu_ram_efficient_loading, with which only one process loads the model; "
                "needed: a model in each (`accelerate launch --fsdp_cpu_ram_efficient_loading false`)"
            )
    elif kind not in _PLAIN_PROCESSES:
        raise ConfigError(
            f"PPOTrainer runs in one process, with DDP or with FSDP 2, not with {kind}; allowed: "
            "--multi_gpu, --use_fsdp --fsdp_version 2"
        )
    return made


def _kind(accelerator: Any) -> str:
    return str(accelerator.distributed_type).rpartition(".")[2]


class Models:
    """Policy, critic and reference, on their device.

    Args:
        model: a causal language model or its name, or a peft model.
        tokenizer: None loads the model's own.
        config: configuration of the run.
        accelerator: the result of `make_accelerator`.
        peft_config: configuration of an adapter to train; None to train the model's trainable weights.
        ref_model: the reference or its name, if it is not the initial model.
        critic_model: the critic's own model or its name; None for a head on the policy's states.

    Attributes:
        policy: the model, with its adapter.
        tokenizer: its tokenizer.
        reader: conversation reader of its prompts.
        module: policy and critic, wrapped if there are several processes.
        plain: the same without wrapper.
        sharded: whether each process has a part of the policy's weights (FSDP 2).
        digest: digest of the reference's weights; "" for an adapter that came with the model.
        log_prob_kernel: kernels for the logits.

    Raises:
        ArgumentError: model and tokenizer do not fit, or nothing ends a response.
        ConfigError: there is a model for the critic, but the settings do not use one; or weights are sharded
            and there is a second model.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        config: PPOConfig,
        accelerator: Any,
        peft_config: Any = None,
        ref_model: Any = None,
        critic_model: Any = None,
    ) -> None:
        self._config, self._accelerator = config, accelerator
        self.sharded = _kind(accelerator) == _SHARDS
        if self.sharded and (critic_model is not None or ref_model is not None):
            raise ConfigError(
                "ref_model, critic_model: received with FSDP, which shards one model; leave them out: the "
                "reference is the model as given, and the critic a head on the policy's states"
            )
        if critic_model is not None:
            _check_critic(critic_model, config, model, ref_model)
        model, tokenizer = load_policy(model, tokenizer, dtype="float32" if peft_config is None else "auto")
        self.tokenizer = tokenizer
        self.reader = ConversationReader(tokenizer, config.end_token)
        self._ends = None if config.end_token is None else [config.end_token]
        ends = stop_token_ids(tokenizer, tokens=self._ends)
        check_vocabulary(model, tokenizer)
        ref_model = load_reference(ref_model, model, tokenizer)
        given = hasattr(model, "disable_adapter")  # with an adapter
        self.digest = "" if given else model_digest(model if ref_model is None else ref_model)
        if peft_config is not None:
            model = attach_adapter(model, peft_config)
        disable_dropout(model)
        check_precision(model)
        stop_at(model, ends[0])
        self.policy = model.to(accelerator.device)
        if self.sharded:
            self._shard()
        self.log_prob_kernel, self._bin_tokens = self._install(self.policy)
        self._other: Any = None
        self._start: KeptWeights | None = None
        if ref_model is not None:
            self._other = ref_model.to(accelerator.device).eval().requires_grad_(False)
            _, self._other_bin_tokens = self._install(self._other)
        elif not hasattr(model, "disable_adapter"):
            self._start = KeptWeights(model)
        self.plain = ActorCritic(self.policy, self._critic(critic_model)).to(accelerator.device)
        several = accelerator.num_processes > 1 and not self.sharded
        self.module = accelerator.prepare(self.plain) if several else self.plain

    def _shard(self) -> None:
        """FSDP shards the policy in place; the value head, which is small, stays whole everywhere.

        The language model inside an adapter is what is sharded, since `generate` does not call the adapter.
        """
        attach(self.policy)
        inner = _base(self.policy)
        if len(list(self.policy.parameters())) > len(list(inner.parameters())):
            raise ConfigError(
                "peft_config: received an adapter with weights beside the model; allowed with FSDP: one with "
                "weights in the layers of the model, such as LoRA"
            )
        unused = torch.optim.SGD(inner.parameters(), lr=0.0)  # accelerate takes both or neither
        self._accelerator.prepare(inner, unused)
        self._accelerator._optimizers.clear()

    def _install(self, model: Any) -> tuple[str, int | None]:
        """Adds the second call to a model; returns its kernel and the number of tokens per bin."""
        attach(model)
        half = torch.bfloat16 if self._accelerator.mixed_precision == "bf16" else None
        kernel = use_kernels(model, self._config.log_prob_kernel, self._accelerator.device, half)
        with self._accelerator.autocast():
            apart = examine(model, model if self.sharded else None, without_dropout=True)
        size = self._config.bin_tokens
        return kernel, row_tokens(model, apart, size, self._accelerator.device, self.sharded)

    def _critic(self, model: Any) -> ValueHead | CriticModel | None:
        if not ADVANTAGES[self._config.advantages].critic:
            return None
        if model is None:
            return self._value_head(_base(self.policy))
        if isinstance(model, str):
            model, _ = load_policy(model, self.tokenizer, dtype="float32")
        check_vocabulary(model, self.tokenizer)
        disable_dropout(model)
        check_precision(model)
        model = model.to(self._accelerator.device).requires_grad_(True)
        _, size = self._install(model)
        sizes = [one for one in (self._bin_tokens, size) if one is not None]
        self._bin_tokens = min(sizes) if sizes else None  # one packing serves both
        return CriticModel(model, self._value_head(model))

    def _value_head(self, model: Any) -> ValueHead:
        width = model.get_output_embeddings().in_features
        return ValueHead(width, self._config.critic_quantiles, self._config.critic_detached)

    def check_room(self, prompts: Sequence[Prompt]) -> None:
        """Raises `ConfigError` if a response may be longer than the critic's own model allows."""
        if isinstance(self.plain.critic, CriticModel):
            longest = max(len(self.reader.prompt_ids(prompt)) for prompt in prompts)
            check_positions(self.plain.critic.model, longest + self._config.max_new_tokens, "critic_model")

    def sampler(self) -> LocalSampler:
        """The sampler of the current policy."""
        return LocalSampler(
            self.policy,
            self.tokenizer,
            batch_size=self._config.rollout_batch_size,
            end_tokens=self._ends,
            sharded=self.sharded,
        )

    def packed(self, rollouts: Sequence[Rollout], bin_tokens: int | None = None) -> Packed:
        """Rollouts as one batch on the device; all tokens after the prompt are scored."""
        size = self._bin_tokens if bin_tokens is None else bin_tokens
        sequences = [(one.prompt_ids, one.response_ids) for one in rollouts]
        return pack(sequences, size).to(self._accelerator.device)

    def forward(self, rollouts: Sequence[Rollout], width: int) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities [B, T] and values [B, T, outputs] under the current policy, differentiable."""
        with self._accelerator.autocast():
            log_probs, values = token_scores(self.module, self.packed(rollouts))
        return padded(log_probs, width), None if values is None else padded(values, width)

    @torch.no_grad()
    def scores(self, rollouts: Sequence[Rollout], width: int) -> tuple[Tensor, Tensor | None]:
        """The same without gradient, `micro_batch_size` rollouts at a time."""
        parts = [self.forward(some, width) for some in self._parts(rollouts)]
        values = [one for _, one in parts if one is not None]
        log_probs = torch.cat([one for one, _ in parts])[: len(rollouts)]
        return log_probs, torch.cat(values)[: len(rollouts)] if values else None

    @torch.no_grad()
    def reference_scores(self, rollouts: Sequence[Rollout], width: int) -> Tensor:
        """Log-probabilities under the reference, [B, T]."""
        size = self._bin_tokens if self._other is None else self._other_bin_tokens
        found: list[Tensor] = []
        with self._as_reference() as model, self._accelerator.autocast():
            for some in self._parts(rollouts):
                found += response_token_log_probs(model, self.packed(some, size))
        return padded(found[: len(rollouts)], width)

    def _parts(self, rollouts: Sequence[Rollout]) -> Iterator[Sequence[Rollout]]:
        """Micro-batches; if weights are sharded as many in each process, the last rollout repeated."""
        size = self._config.micro_batch_size
        if self.sharded:
            most = max(gathered(self._accelerator, [len(rollouts)]))
            rollouts = [*rollouts, *[rollouts[-1]] * (most - len(rollouts))]
        return (rollouts[start : start + size] for start in range(0, len(rollouts), size))

    @contextmanager
    def _as_reference(self) -> Iterator[Any]:
        """A model that is the reference inside the context."""
        if self._other is not None:
            yield self._other
        elif self._start is not None:
            with self._start.restored(self.policy):
                yield self.policy
        else:
            with self.policy.disable_adapter():
                yield self.policy


def _base(model: Any) -> Any:
    """The language model inside a peft model."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _check_critic(critic: Any, config: PPOConfig, *others: Any) -> None:
    """Rejects a critic's model that would not be used, or that is also trained as something else."""
    if not ADVANTAGES[config.advantages].critic:
        able = ", ".join(name for name, one in ADVANTAGES.items() if one.critic)
        raise ConfigError(
            f"critic_model: received with advantages {config.advantages}, which need no critic; allowed: "
            f"{able}"
        )
    if config.critic_detached:
        raise ConfigError(
            "critic_detached: received with a critic_model, which shares no weight with the policy; leave it "
            "out"
        )
    if not isinstance(critic, str) and any(_base(critic) is _base(one) for one in others):
        raise ArgumentError(
            "critic_model: received the policy or its reference; needed: a second copy, or the name of a "
            "model"
        )
    if hasattr(critic, "disable_adapter"):
        raise ArgumentError(
            "critic_model: received a model with an adapter; needed: a whole model, as merge_and_unload "
            "makes it"
        )
