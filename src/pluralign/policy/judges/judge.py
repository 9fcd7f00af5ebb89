"""Asks a judge behind a server of the OpenAI chat protocol: cached, paced, several questions at a time.

In: messages and settings. Out: what the judge answered, each question once; an interrupted run goes on where
it stopped, since every answer is on the disk before the next is used. The key, retries and refused redirects
are those of `sampling.server_requests`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pluralign.errors import ConfigError
from pluralign.policy.judges.answer_cache import AnswerCache
from pluralign.policy.sampling.concurrency import concurrently
from pluralign.policy.sampling.server_requests import Requests

__all__ = ["Judge", "Pace"]

Answer = dict[str, Any]  # text, refusal, finish, top


class Pace:
    """Lets at most so many requests begin in a minute, evenly.

    Args:
        per_minute: how many; None for no limit.
    """

    def __init__(self, per_minute: float | None) -> None:
        if per_minute is not None and not per_minute > 0:
            raise ConfigError(f"requests_per_minute must be positive, received {per_minute}")
        self._apart = 0.0 if per_minute is None else 60.0 / per_minute
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Returns when the next request may begin."""
        if not self._apart:
            return
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + self._apart
        if start > now:
            time.sleep(start - now)


class Judge:
    """One model behind a server.

    Args:
        url: base address, with or without `/v1`.
        model: the server's name for the model; None for the only one it serves.
        api_key: sent as a bearer token to this address alone; None for none.
        key_over_http: send it unencrypted to another machine too.
        cache: file of answers; None asks everything again.
        concurrency: questions at a time.
        requests_per_minute: most requests that begin in a minute; None for no limit.
        timeout: seconds allowed for one request.
        patience: seconds to wait after a first failed attempt; doubled each time.

    Raises:
        ConfigError: the address, the key or a number is not valid.
        RunError: the server does not answer, or serves no such model.
        CacheError: the cache cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None,
        api_key: str | None,
        key_over_http: bool,
        cache: str | Path | None,
        concurrency: int,
        requests_per_minute: float | None,
        timeout: float,
        patience: float,
    ) -> None:
        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, received {concurrency}")
        self._pace = Pace(requests_per_minute)
        self._requests = Requests(
            url, api_key, key_over_http=key_over_http, timeout=timeout, patience=patience
        )
        self._concurrency = concurrency
        self.model = model or self._only_model()
        self._cache = None if cache is None else AnswerCache(cache)
        self.asked = 0
        self.cached = 0
        self._count_lock = threading.Lock()

    def _only_model(self) -> str:
        cards = self._requests.call("/models").get("data")
        names = (
            [card.get("id") for card in cards if isinstance(card, dict)] if isinstance(cards, list) else []
        )
        if len(names) != 1 or not isinstance(names[0], str):
            raise self._requests.error(
                f"serves {', '.join(map(str, names)) or 'nothing'}; name the model of the judge (model=...)"
            )
        return names[0]

    def ask(self, questions: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """The answers, in order.

        Args:
            questions: bodies of requests without `model`, and `draw`, the number of a repeated question.

        Raises:
            RunError: the server refuses, or does not respond after 5 attempts. Answers so far are kept.
            CacheError: the cache cannot be read or written.
        """
        return concurrently(questions, self._one, self._concurrency)

    def _one(self, question: Mapping[str, Any]) -> Answer:
        request = {"model": self.model, **question}
        known = None if self._cache is None else self._cache.get(request)
        if known is not None:
            with self._count_lock:
                self.cached += 1
            return known
        self._pace.wait()
        body = {key: value for key, value in request.items() if key != "draw"}
        answer = self._read(self._requests.call("/chat/completions", body))
        with self._count_lock:
            self.asked += 1
        if self._cache is not None:
            self._cache.put(request, answer)
        return answer

    def _read(self, answer: Mapping[str, Any]) -> Answer:
        """What matters of an answer.

        Raises:
            RunError: it is not in the chat protocol.
        """
        choices = answer.get("choices")
        choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            raise self._requests.error("/chat/completions returned no single choice with a message")
        text = message.get("content")
        refused = bool(message.get("refusal")) or choice.get("finish_reason") == "content_filter"
        return {
            "text": text if isinstance(text, str) else "",
            "refused": refused,
            "cut_off": choice.get("finish_reason") == "length",
            "top": _first_tokens(choice.get("logprobs")),
        }


def _first_tokens(logprobs: Any) -> list[list[Any]]:
    """(token, log-probability) of the first position, as far as a server reports them."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    first = content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else {}
    top = first.get("top_logprobs")
    found = []
    for one in top if isinstance(top, list) else ():
        token, value = (one.get("token"), one.get("logprob")) if isinstance(one, dict) else (None, None)
        if isinstance(token, str) and isinstance(value, int | float):
            found.append([token, float(value)])
    return found
