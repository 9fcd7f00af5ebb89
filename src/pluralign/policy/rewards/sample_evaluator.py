"""Samples a policy during training, and compares the samples with its reference.

In: the policy, prompts of evaluation tables. Out: the numbers of `samples`, the same in every process of a
distributed run, each of which samples its share. All processes make the same number of calls, as sharded
models require. The reference is the policy with its initial weights (also of an adapter), or another model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from pluralign.conversations import ConversationReader
from pluralign.errors import ArgumentError, ConfigError
from pluralign.model.profiles import heads_of
from pluralign.policy.logprobs.kept_weights import KeptWeights
from pluralign.policy.logprobs.packing import pack
from pluralign.policy.logprobs.scored_forward import attach, examine, response_token_log_probs, row_tokens
from pluralign.policy.rewards.samples import ScoredSample, columns_of, draw_and_score, kl_at_least, summarize
from pluralign.policy.rewards.sources import RewardSource
from pluralign.policy.sampling.local import LocalSampler
from pluralign.policy.sampling.settings import Completion, Prompt, SamplingSettings

__all__ = ["EvaluationArgs", "SampleEvaluator", "evaluation_prompts"]

_log = logging.getLogger("pluralign.policy")


class EvaluationArgs(Protocol):
    """The settings of a trainer that determine how its policy is sampled; see `OfflineConfig`."""

    seed: int
    bin_tokens: int | None
    end_token: str | None
    eval_prompts: int
    eval_completions: int
    eval_max_new_tokens: int
    eval_batch_prompts: int

    @property
    def world_size(self) -> int:
        """The number of processes."""
        ...

    @property
    def process_index(self) -> int:
        """The number of this process."""
        ...


class SampleEvaluator:
    """Samples a policy, scores the samples, and measures its distance from the reference.

    Args:
        tokenizer: tokenizer of the policy.
        reward: reward of the samples.
        args: number and length of samples; the seed is the same in every evaluation, for comparability.
        tables: evaluation tables by name, as in `columns`.
        positions: number of positions of the model; None for no limit.
        reference: the reference, if it is not the initial model.
        sharded: whether weights are sharded over processes, so that these must make the same calls.
        optimum_kl: KL of the optimum, if it is known.
        autocast: context for calls of the reference.

    Attributes:
        bin_tokens: as in `pack`, for the policy; each sequence alone until it is set.

    Raises:
        ConfigError: no prompt of a table leaves room for a completion.
    """

    def __init__(
        self,
        tokenizer: Any,
        reward: RewardSource,
        args: EvaluationArgs,
        tables: Mapping[str, Any],
        positions: int | None,
        reference: Any = None,
        sharded: bool = False,
        optimum_kl: float | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        limits = args.eval_prompts, args.eval_max_new_tokens, positions
        self.prompts = {name: evaluation_prompts(table, tokenizer, *limits) for name, table in tables.items()}
        self._world, self._rank = args.world_size, args.process_index
        self._optimum_kl = optimum_kl
        self._reference_heads: Tensor | None = None
        self._tokenizer = tokenizer
        self._reader = ConversationReader(tokenizer)
        self._reward = reward
        self._settings = SamplingSettings(args.eval_completions, args.eval_max_new_tokens, seed=args.seed)
        self._batch_size = args.eval_batch_prompts
        self.bin_tokens: int | None = 1
        self._bin_tokens = args.bin_tokens
        self._autocast = autocast
        self._end_token = args.end_token
        self._sharded = sharded
        self._start: KeptWeights | None = None
        if reference is not None:
            attach(reference.requires_grad_(False))
        self._reference = reference
        self._reference_apart: bool | None = None

    def remember(self, model: Any) -> None:
        """Called while the model is still the reference, on its device; later calls change nothing."""
        if self._reference is None and self._start is None:
            self._start = KeptWeights(model)

    def measure(
        self, model: Any, name: str, is_reference: bool = False
    ) -> tuple[dict[str, float], list[ScoredSample]]:
        """The numbers of `samples` for the prompts of one table, by name, with the prefix `samples/`.

        Args:
            model: the policy without wrapper.
            name: name of the table.
            is_reference: whether the policy is still the reference.

        Returns:
            The numbers, and the samples of all processes.
        """
        rows = self.prompts[name]
        own = rows[self._rank :: self._world]
        # A process with one prompt fewer repeats the last: all must make the same calls.
        filled = [*own, *[rows[-1]] * (-(-len(rows) // self._world) - len(own))]
        ends = None if self._end_token is None else [self._end_token]
        sampler = LocalSampler(
            model, self._tokenizer, batch_size=self._batch_size, end_tokens=ends, sharded=self._sharded
        )

        def reference(prompts: Sequence[Prompt], samples: Sequence[Completion]) -> list[Tensor]:
            with self._as_reference(model) as other:
                return self._score(other, prompts, samples)

        samples = draw_and_score(
            filled,
            sampler,
            self._settings,
            self._reward,
            lambda prompts, drawn: self._score(model, prompts, drawn),
            reference,
        )
        samples = samples[: len(own) * self._settings.completions]
        if self._world > 1:
            from accelerate.utils import gather_object

            samples = gather_object(samples)
        if is_reference:
            self.remember_heads([one.profile for one in samples])
        found = summarize(samples, self._reference_heads)
        if self._optimum_kl is not None:
            found["optimum_kl"] = self._optimum_kl
        if self._optimum_kl:
            found["signs/kl_beyond_optimum"] = max(kl_at_least(samples), 0.0) / self._optimum_kl
        return {f"samples/{key}": value for key, value in found.items()}, samples

    def remember_heads(self, profiles: Sequence[Mapping[str, float]]) -> None:
        """Stores the means of an ensemble's heads for the reference's responses, from their profiles."""
        self._reference_heads = heads_of(columns_of(profiles))

    @property
    def knows_heads(self) -> bool:
        """Whether the heads' means for the reference's responses are known."""
        return self._reference_heads is not None

    @contextmanager
    def _as_reference(self, model: Any) -> Iterator[Any]:
        """A model that is the reference inside the context."""
        if self._reference is not None:
            try:
                self._reference.to(model.device)
                with self._autocast():
                    yield self._reference
            finally:
                self._reference.to("cpu")
        elif self._start is not None:
            with self._start.restored(model):
                yield model
        else:
            raise ArgumentError("call remember while the policy is still the reference, before measure")

    @torch.no_grad()
    def _score(self, model: Any, prompts: Sequence[Prompt], samples: Sequence[Completion]) -> list[Tensor]:
        """Log-probabilities of the sampled tokens."""
        found: list[Tensor] = []
        bin_tokens = self._reference_bin_tokens() if model is self._reference else self.bin_tokens
        training = model.training
        model.eval()
        for start in range(0, len(samples), self._batch_size):
            batch = zip(prompts[start : start + self._batch_size], samples[start:], strict=False)
            sequences = [
                (self._reader.prompt_ids(prompt), sample.token_ids or ()) for prompt, sample in batch
            ]
            packed = pack(sequences, bin_tokens).to(model.device)
            found += [part.cpu() for part in response_token_log_probs(model, packed)]
        model.train(training)
        return found

    def _reference_bin_tokens(self) -> int | None:
        """Tested once, on its device."""
        if self._reference_apart is None:
            self._reference_apart = examine(self._reference)
        device = self._reference.device
        return row_tokens(self._reference, self._reference_apart, self._bin_tokens, device)


def evaluation_prompts(
    table: Any, tokenizer: Any, count: int, max_new_tokens: int, positions: int | None
) -> list[dict[str, Any]]:
    """The first distinct prompts of a table that leave room for a completion.

    Args:
        table: an evaluation table, as in `columns`.
        tokenizer: tokenizer of the policy.
        count: number of prompts.
        max_new_tokens: room that a completion needs.
        positions: number of positions of the model; None for no limit.

    Raises:
        ConfigError: no prompt leaves room for a completion.
    """
    kept = [name for name in ("prompt", "ref_rewards", "ref_lengths") if name in table.column_names]
    reader = ConversationReader(tokenizer)
    found: dict[str, dict[str, Any]] = {}
    too_long = 0
    for row in table.select_columns(kept):
        if len(found) == count:
            break
        prompt = row["prompt"]
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if positions is not None and len(reader.prompt_ids(prompt)) + max_new_tokens > positions:
            too_long += 1
            continue
        found.setdefault(repr(messages), row | {"prompt": messages})
    if too_long:
        _log.warning("%d prompts leave no room for %d new tokens; not sampled", too_long, max_new_tokens)
    if not found:
        raise ConfigError(
            f"eval_max_new_tokens: received {max_new_tokens}; no prompt leaves that room in the model's "
            f"{positions} positions"
        )
    return list(found.values())
