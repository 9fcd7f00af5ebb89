"""Sampling from a server with the OpenAI completions protocol, such as vLLM.

In: prompts. Out: completions. The server can have its own environment (with other versions of torch and
transformers).

Prompts are sent as token ids of the policy's own tokenizer, so that the policy sees exactly the same tokens
as in training. Settings that a server could take from the model's defaults (top_k, penalties) are sent
explicitly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

from pluralign.conversations import ConversationReader, stop_token_ids, tokenizer_digest
from pluralign.errors import ConfigError
from pluralign.policy.sampling.concurrency import concurrently
from pluralign.policy.sampling.server_requests import Requests
from pluralign.policy.sampling.settings import (
    Completion,
    Prompt,
    SamplingSettings,
    check_lengths,
    completion_seed,
)

__all__ = ["ServerSampler"]


class ServerSampler:
    """Samples over HTTP; one request per prompt, several at a time.

    Args:
        url: base address, with or without `/v1`.
        tokenizer: tokenizer of the policy.
        model: the server's name for the model; None for the only one it serves.
        api_key: sent as a bearer token, to this address alone; None for none.
        key_over_http: send it unencrypted to another machine too.
        concurrency: number of requests at a time.
        timeout: seconds allowed for one request.
        patience: seconds to wait after a first failed attempt; doubled each time.

    Raises:
        ConfigError: the address or the key is not valid, or the key would be sent unencrypted.
        RunError: the server does not answer, redirects, or serves no such model.
    """

    def __init__(
        self,
        url: str,
        tokenizer: Any,
        *,
        model: str | None = None,
        api_key: str | None = None,
        key_over_http: bool = False,
        concurrency: int = 16,
        timeout: float = 600.0,
        patience: float = 1.0,
    ) -> None:
        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, received {concurrency}")
        self._requests = Requests(
            url, api_key, key_over_http=key_over_http, timeout=timeout, patience=patience
        )
        self.url = self._requests.url
        self.tokenizer = tokenizer
        self._reader = ConversationReader(tokenizer)
        self._stops = list(stop_token_ids(tokenizer))
        self._concurrency = concurrency
        card = self._find_model(model)
        self.model, self._root = str(card["id"]), str(card.get("root") or card["id"])
        self._limit: int | None = card.get("max_model_len")

    def _find_model(self, requested: str | None) -> dict[str, Any]:
        cards = self._requests.call("/models").get("data")
        if not _are_objects(cards) or not all(isinstance(card.get("id"), str) for card in cards):
            raise self._requests.error("/models lists no models; is this an OpenAI-compatible server?")
        served = {card["id"]: card for card in cards}
        name = next(iter(served)) if requested is None and len(served) == 1 else requested
        if name is None or name not in served:
            raise self._requests.error(
                f"serves {', '.join(served) or 'nothing'}; received model {requested!r}: pass "
                "one that it serves (--served_model)"
            )
        return dict(served[name])

    def describe(self) -> dict[str, Any]:
        """The model's name and root on the server, and the tokenizer; not the address of the server.

        A server does not report a fingerprint of its weights: use a model name that identifies them.
        """
        return {
            "kind": "server",
            "model": self.model,
            "root": self._root,
            "tokenizer": tokenizer_digest(self.tokenizer),
        }

    def check(self, prompts: Sequence[Prompt], settings: SamplingSettings) -> None:
        """Raises if a prompt is too long, if the server reports its limit; see `Sampler`.

        Raises:
            DataError: a prompt and max_new_tokens together exceed it.
        """
        check_lengths([len(self._reader.prompt_ids(prompt)) for prompt in prompts], self._limit, settings)

    def sample(self, prompts: Sequence[Prompt], settings: SamplingSettings) -> list[list[Completion]]:
        """N completions of each prompt; see `Sampler`.

        Raises:
            RunError: the server refuses a request, or does not respond after 5 attempts.
        """
        return concurrently(prompts, lambda prompt: self._complete(prompt, settings), self._concurrency)

    def _complete(self, prompt: Prompt, settings: SamplingSettings) -> list[Completion]:
        answer = self._requests.call(
            "/completions",
            {
                "model": self.model,
                "prompt": self._reader.prompt_ids(prompt),
                "n": settings.completions,
                "max_tokens": settings.max_new_tokens,
                "temperature": settings.temperature,
                "top_p": settings.top_p,
                "seed": completion_seed(settings.seed, prompt, 0),
                "presence_penalty": 0.0,
                "frequency_penalty": 0.0,
                # for vLLM: the end of a turn in the chat template, besides the model's own end tokens
                "stop_token_ids": self._stops,
                # for vLLM: off, whatever the model's generation_config says
                "top_k": -1,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
                "return_token_ids": True,
            },
        )
        if answer.get("model", self.model) != self.model:
            raise self._requests.error(
                f"responded with the model {answer['model']!r}; requested was {self.model!r}"
            )
        choices = answer.get("choices", [])
        if not _are_objects(choices):
            raise self._requests.error("returned choices that are not a list of objects")
        if len(choices) != settings.completions:
            raise self._requests.error(
                f"returned {len(choices)} completions of a prompt; "
                f"{settings.completions} were requested (n of the completions protocol)"
            )
        by_index = {choice.get("index"): choice for choice in choices}
        if by_index.keys() != set(range(len(choices))):
            raise self._requests.error(
                f"returned completions whose index is not 0 to {len(choices) - 1}, once each"
            )
        return [self._read(by_index[index]) for index in range(len(choices))]

    def _read(self, choice: dict[str, Any]) -> Completion:
        reason, text = choice.get("finish_reason"), choice.get("text")
        if reason not in ("stop", "length") or not isinstance(text, str):
            raise self._requests.error(
                f"returned a completion that ended by {reason!r}; allowed: stop or length, with a text"
            )
        if text.encode("utf-8", "ignore").decode() != text:
            raise self._requests.error(
                "returned a completion with half a surrogate pair; allowed: valid Unicode"
            )
        ids = choice.get("token_ids")
        cut_off = reason == "length"
        # Servers that do not report the ids: counted by our tokenizer, including the end token.
        count = len(ids) if ids and isinstance(ids, list) else self._count(text) + (not cut_off)
        return Completion(text, count, cut_off, self._drawn(ids, cut_off))

    def _drawn(self, ids: Any, cut_off: bool) -> tuple[int, ...] | None:
        """The ids that a server reports, if they are those of a whole response with its end."""
        if not isinstance(ids, list) or not ids or not all(type(one) is int for one in ids):
            return None
        return tuple(ids) if cut_off or ids[-1] in self._stops else None

    def _count(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _are_objects(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)
