"""Sampling with transformers in this process.

In: a causal language model and its tokenizer. Out: completions.

Each completion has its own stream of uniform random numbers, and each token is the inverse distribution
function at the next of them. So a completion depends on its batch only through the rounding of logits, which
rarely changes a token. The model's own generation defaults (penalties, top_k ...) are not applied.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.backbones.switch_length import switch_length
from pluralign.conversations import ConversationReader, stop_token_ids
from pluralign.errors import ArgumentError, ArtifactError, ConfigError
from pluralign.policy.logprobs.loading import merge_adapter, num_positions
from pluralign.policy.sampling.left_padding import Sharing, batches, find_sharing
from pluralign.policy.sampling.settings import (
    Completion,
    Prompt,
    SamplingSettings,
    check_lengths,
    completion_seed,
)
from pluralign.policy.sampling.stored_policy import find_policy, load_tokenizer, model_without_weights
from pluralign.precision import wide_dtype, widened

__all__ = ["LocalSampler", "draw_tokens", "load_tokenizer"]

_log = logging.getLogger("pluralign.policy")

# What was found out about each model.
_sharing: WeakKeyDictionary[Any, Sharing] = WeakKeyDictionary()


class LocalSampler:
    """Samples from a model in this process.

    Args:
        model: a causal language model of transformers; in evaluation mode while it samples.
        tokenizer: its tokenizer.
        identity: the result of `describe`; required if completions are stored.
        batch_size: completions at a time; it does not change them.
        end_tokens: tokens that end a response, by text; None for that of the chat template, the tokenizer's
            end-of-sequence token and those of the model's generation defaults.
        sharded: the weights are sharded over processes (FSDP), so each continues until all have finished, and
            all must get the same number of completions.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        identity: Mapping[str, Any] | None = None,
        batch_size: int = 32,
        end_tokens: Sequence[str] | None = None,
        sharded: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, received {batch_size}")
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self._sharded = sharded
        self._identity = None if identity is None else dict(identity)
        self._reader = ConversationReader(tokenizer)
        self._ends = stop_token_ids(tokenizer, getattr(model, "generation_config", None), end_tokens)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        *,
        revision: str | None = None,
        dtype: str = "float32",
        device: str | None = None,
        batch_size: int = 32,
        end_tokens: Sequence[str] | None = None,
    ) -> Self:
        """Loads a model from a folder or the hub; safetensors only, no code from the hub.

        Args:
            name_or_path: folder or hub id; a folder may hold an adapter, which is merged into its base.
            revision: branch, tag or commit on the hub.
            dtype: float32, bfloat16 or float16.
            device: cpu, cuda, ...; None for a GPU if there is one.
            batch_size: as for the class.
            end_tokens: as for the class.

        Raises:
            ArtifactError: there is no such model, or it is not a causal language model.
        """
        from transformers import AutoModelForCausalLM

        policy = find_policy(name_or_path, revision, dtype)
        try:
            model = AutoModelForCausalLM.from_pretrained(
                policy.whole, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"{policy.whole} has no causal language model that can be read: {error}"
            ) from error
        if policy.is_adapter:
            model = merge_adapter(model, policy.folder)
        where = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(
            model.to(where),
            policy.tokenizer,
            identity=policy.identity,
            batch_size=batch_size,
            end_tokens=end_tokens,
        )

    @classmethod
    def without_weights(
        cls,
        name_or_path: str,
        *,
        revision: str | None = None,
        dtype: str = "float32",
        end_tokens: Sequence[str] | None = None,
    ) -> Self:
        """A sampler that can be asked to `describe` itself and to `check` prompts, and cannot sample.

        Arguments and errors as for `from_pretrained`, except that weights are not read.
        """
        policy = find_policy(name_or_path, revision, dtype)
        model = model_without_weights(policy)
        return cls(model, policy.tokenizer, identity=policy.identity, end_tokens=end_tokens)

    def describe(self) -> dict[str, Any]:
        """The model's name, commit and fingerprint, and the tokens that end a response."""
        if self._identity is None:
            raise ArgumentError(
                "stored completions need the name of their model: "
                "pass identity={'model': ..., 'fingerprint': ...}"
            )
        ends = self.tokenizer.convert_ids_to_tokens(list(self._ends))
        return {**self._identity, "end_tokens": list(ends)}

    def check(self, prompts: Sequence[Prompt], settings: SamplingSettings) -> None:
        """Raises if a prompt is too long; see `Sampler`.

        Raises:
            DataError: a prompt and max_new_tokens together exceed the model's positions.
        """
        limit = num_positions(self.model)
        check_lengths([len(self._reader.prompt_ids(prompt)) for prompt in prompts], limit, settings)

    @torch.no_grad()
    def sample(self, prompts: Sequence[Prompt], settings: SamplingSettings) -> list[list[Completion]]:
        """N completions of each prompt; see `Sampler`.

        Raises:
            DataError: as for `check`.
            ArtifactError: the model cannot generate, or returns logits that are not finite.
        """
        self.check(prompts, settings)
        ids = [self._reader.prompt_ids(prompt) for prompt in prompts]
        jobs = [(row, index) for row in range(len(prompts)) for index in range(settings.completions)]
        found: dict[tuple[int, int], Completion] = {}
        with _plain_generation(self.model):
            for places in self._batches([len(ids[row]) for row, _ in jobs], settings.max_new_tokens):
                batch = [jobs[place] for place in places]
                seeds = [completion_seed(settings.seed, prompts[row], index) for row, index in batch]
                drawn = self._generate([ids[row] for row, _ in batch], seeds, settings)
                found |= dict(zip(batch, drawn, strict=True))
        return [[found[row, index] for index in range(settings.completions)] for row in range(len(prompts))]

    def _batches(self, lengths: Sequence[int], new_tokens: int) -> list[list[int]]:
        """The completions of each batch; the same number of batches in all processes that share weights."""
        sharing, switch = _sharing.get(self.model), switch_length(self.model.config)
        if sharing is None:
            _sharing[self.model] = sharing = find_sharing(self.model, self._ends[0], self._sharded)
            if sharing != "any":
                which = "prompts of equal length share a batch" if sharing == "equal" else "each is run alone"
                name = type(self.model).__name__
                _log.warning("%s does not keep the prompts of a batch apart; %s, slower", name, which)
        if self._sharded and (sharing != "any" or switch is not None):
            sharing = "none"  # the number of batches must not depend on lengths
        return batches(lengths, self.batch_size, sharing, switch, new_tokens)

    def _generate(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], settings: SamplingSettings
    ) -> list[Completion]:
        from transformers import GenerationConfig, LogitsProcessorList

        width = max(map(len, prompts))
        pad = self._ends[0]  # masked before the prompt, removed after the end
        ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        device = self.model.device
        draws = _Draws(seeds, settings, device)
        output = self.model.generate(
            ids.to(device),
            attention_mask=mask.to(device),
            generation_config=GenerationConfig(
                do_sample=False,  # the processor below samples
                max_new_tokens=settings.max_new_tokens,
                eos_token_id=list(self._ends),
                pad_token_id=pad,
            ),
            logits_processor=LogitsProcessorList([draws]),
            synced_gpus=self._sharded,
        )
        if bool(draws.failed):
            raise ArtifactError(
                "the model's logits are NaN or infinite; try another dtype (--dtype float32 or bfloat16)"
            )
        return [self._completion(row, settings) for row in output[:, width:].tolist()]

    def _completion(self, tokens: list[int], settings: SamplingSettings) -> Completion:
        place = next((i for i, token in enumerate(tokens) if token in self._ends), None)
        body = tokens if place is None else tokens[:place]
        text = self.tokenizer.decode(body, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        drawn = tuple(tokens if place is None else tokens[: place + 1])
        return Completion(text, len(drawn), place is None, drawn)


class _Draws:
    """A logits processor that allows only one token: that of each row's next uniform random number."""

    def __init__(self, seeds: Sequence[int], settings: SamplingSettings, device: torch.device) -> None:
        rows = [
            torch.rand(
                settings.max_new_tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
            )
            for seed in seeds
        ]
        self._uniforms = torch.stack(rows).to(device, wide_dtype(device))
        self._settings = settings
        self._step = 0
        self.failed = torch.zeros((), dtype=torch.bool, device=device)  # read once per batch

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.failed |= ~scores.amax(-1).isfinite().all()
        tokens = draw_tokens(
            scores, self._uniforms[:, self._step], self._settings.temperature, self._settings.top_p
        )
        self._step += 1
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens.unsqueeze(1), 0.0)


def draw_tokens(
    logits: Float[Tensor, "B V"], uniforms: Float[Tensor, " B"], temperature: float, top_p: float
) -> Tensor:
    """Samples tokens by the inverse distribution function, one per row.

    Args:
        logits: [B, V].
        uniforms: uniform random numbers in [0, 1), [B], in the widest numbers of the device.
        temperature: positive.
        top_p: in (0, 1].

    Returns:
        Token ids, [B].
    """
    probs = torch.softmax(widened(logits) / temperature, -1)
    if top_p < 1:
        ordered, order = probs.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        probs = torch.zeros_like(probs).scatter_(-1, order, ordered.masked_fill(before >= top_p, 0.0))
    total = probs.cumsum(-1)
    place = torch.searchsorted(total, (uniforms * total[:, -1]).unsqueeze(-1), right=True)
    return place.squeeze(-1).clamp(max=logits.shape[-1] - 1)


@contextmanager
def _plain_generation(model: Any) -> Iterator[None]:
    """Evaluation mode without the generation defaults of the model."""
    from transformers import GenerationConfig

    kept, training = model.generation_config, model.training
    model.generation_config = GenerationConfig()
    model.eval()
    try:
        yield
    finally:
        model.generation_config = kept
        model.train(training)
