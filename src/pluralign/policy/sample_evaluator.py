"""Samples a policy while it is trained, and measures them against its reference.

In: the policy, prompts of an evaluation table. Out: the numbers of `evaluation`, the same in every process of
a distributed run, each of which draws its share. The reference is the policy without its adapter, or a copy
that waits in main memory. It knows nothing about trainers.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from pluralign.errors import ConfigError
from pluralign.policy.evaluation import draw_and_judge, summarize
from pluralign.policy.offline_config import OfflineConfig
from pluralign.policy.packing import pack
from pluralign.policy.prompts import end_token_id, prompt_ids, response_ids
from pluralign.policy.rewarding import RewardSource
from pluralign.policy.sampling import Completion, Prompt, SamplingSettings
from pluralign.policy.sampling_local import LocalSampler
from pluralign.policy.scored_forward import install, response_log_probs

__all__ = ["SampleEvaluator", "evaluation_prompts"]

_log = logging.getLogger("pluralign.policy")


class SampleEvaluator:
    """Draws from a policy, judges what it says and measures how far it went.

    Args:
        model: the policy while it is still the reference.
        tokenizer: of the policy.
        reward: judges the samples.
        args: how many samples, how long; their seed is that of every evaluation, so that evaluations compare.
        bin_tokens: see `pack`.
        reference: the reference, where it is not the model as given. Without it the policy without its
            adapter is the reference, or a copy that waits in main memory.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        reward: RewardSource,
        args: OfflineConfig,
        bin_tokens: int | None,
        reference: Any = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._reward = reward
        self._settings = SamplingSettings(args.eval_completions, args.eval_max_new_tokens, seed=args.seed)
        self._batch_size = args.eval_batch_prompts
        self._bin_tokens = bin_tokens
        self._end_token = args.end_token
        if reference is None and not hasattr(model, "disable_adapter"):
            reference = copy.deepcopy(model).to("cpu")
        if reference is not None:
            install(reference.requires_grad_(False))
        self._reference = reference

    def measure(
        self,
        model: Any,
        rows: Sequence[Mapping[str, Any]],
        *,
        rank: int = 0,
        world: int = 1,
        gather: Callable[[list[Any]], list[Any]] = lambda found: found,
    ) -> dict[str, float]:
        """The numbers of `evaluation` on the prompts of `rows`.

        Args:
            model: the policy as it is, not wrapped.
            rows: from `evaluation_prompts`.
            rank: number of this process.
            world: how many processes there are.
            gather: joins the lists of all processes, in every process.
        """
        ends = None if self._end_token is None else [self._end_token]
        sampler = LocalSampler(model, self._tokenizer, batch_size=self._batch_size, end_tokens=ends)
        device, adapted = model.device, self._reference is None
        other = model if adapted else self._reference.to(device)

        def reference(prompts: Sequence[Prompt], samples: Sequence[Completion]) -> Tensor:
            with model.disable_adapter() if adapted else nullcontext():
                return self._score(other, prompts, samples)

        try:
            samples = draw_and_judge(
                rows[rank::world],
                sampler,
                self._settings,
                self._reward,
                lambda prompts, drawn: self._score(model, prompts, drawn),
                reference,
            )
        finally:
            if not adapted:
                self._reference.to("cpu")
        return summarize(gather(samples))

    @torch.no_grad()
    def _score(self, model: Any, prompts: Sequence[Prompt], samples: Sequence[Completion]) -> Tensor:
        """Log-probabilities of sampled texts, with the end token of those that ended."""
        end = end_token_id(self._tokenizer, self._end_token)
        found = []
        training = model.training
        model.eval()
        for start in range(0, len(samples), self._batch_size):
            batch = zip(prompts[start : start + self._batch_size], samples[start:], strict=False)
            sequences = [
                (
                    prompt_ids(self._tokenizer, prompt),
                    response_ids(self._tokenizer, sample.text, None if sample.cut_off else end),
                )
                for prompt, sample in batch
            ]
            packed = pack(sequences, self._bin_tokens).to(model.device)
            found.append(response_log_probs(model, packed).double().cpu())
        model.train(training)
        return torch.cat(found)


def evaluation_prompts(
    table: Any, tokenizer: Any, count: int, max_new_tokens: int, positions: int | None
) -> list[dict[str, Any]]:
    """The first distinct prompts of a table for which there is room.

    Args:
        table: an evaluation table; see `columns`.
        tokenizer: of the policy.
        count: how many prompts.
        max_new_tokens: room that a completion needs.
        positions: of the model; None for no limit.

    Raises:
        ConfigError: no prompt leaves room for a completion.
    """
    kept = [name for name in ("prompt", "ref_rewards", "ref_lengths") if name in table.column_names]
    found: dict[str, dict[str, Any]] = {}
    too_long = 0
    for row in table.select_columns(kept):
        if len(found) == count:
            break
        prompt = row["prompt"]
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if positions is not None and len(prompt_ids(tokenizer, prompt)) + max_new_tokens > positions:
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
