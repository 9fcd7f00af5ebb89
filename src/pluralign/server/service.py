"""The scorer behind all routes: loaded in its own thread, called through the batcher, within the limits on
requests.

In: conversations and a `Question`. Out: `Scored`s, or a `Refusal`. Routes differ in what they read and write
and in whether they hold requests; all of them come through here, so a response has the same score everywhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pluralign import risk
from pluralign.conversations import check
from pluralign.errors import ArgumentError
from pluralign.model.scorer import Scorer
from pluralign.server.batching import Batcher, Full, Item
from pluralign.server.config import ServerConfig
from pluralign.server.metrics import Metrics
from pluralign.server.refusals import Refusal
from pluralign.server.scoring import Predictor, Question, Scored, estimated_tokens

__all__ = ["Personas", "Service", "busy"]

Personas = Callable[[Any], Mapping[str, Any]]  # from the scorer to the models of groups of people
Answer = TypeVar("Answer")

_PART = 65_536  # characters of a text that are counted at once


class Service:
    """One scorer for all routes.

    Args:
        scorer: it, or a function that loads it.
        config: limits and the default measure.
        metrics: where batches are counted.
        prepare: what else has to be loaded before it is ready.
        personas: loads the models of groups of people, given the scorer.

    Attributes:
        failure: why the scorer could not be loaded, if it could not.
        on_ready: called in the event loop once it can score.
        on_failure: called in the event loop where it cannot be loaded.

    Raises:
        RiskError: the configured measure does not exist.
    """

    def __init__(
        self,
        scorer: Scorer | Callable[[], Scorer],
        config: ServerConfig,
        metrics: Metrics,
        prepare: Callable[[], None] = lambda: None,
        personas: Personas = lambda scorer: {},
    ) -> None:
        risk.parse(config.risk)
        self.config = config
        self.metrics = metrics
        self.failure: BaseException | None = None
        self.on_ready: Callable[[], None] = lambda: None
        self.on_failure: Callable[[BaseException], None] = _logged
        self._source = scorer
        self._prepare = prepare
        self._personas = personas
        self._predictor: Predictor | None = None
        self._settled = asyncio.Event()  # it is loaded, or will not be
        self._stopping = False
        self._longest = config.batch_tokens
        self._loading: asyncio.Task[None] | None = None
        self.batcher = Batcher(
            self._answer,
            batch_tokens=config.batch_tokens,
            window=config.window_ms / 1000,
            max_waiting=config.max_waiting,
            observe=metrics.batch,
        )
        metrics.waiting.set_function(lambda: self.batcher.waiting)

    @property
    def ready(self) -> bool:
        """Whether it can score."""
        return self._predictor is not None and not self._stopping

    def end(self, grace: float) -> None:
        """The server stops: no request is held any more, and after `grace` seconds what waits is refused."""
        self._stopping = True
        self._settled.set()
        refusal = Refusal(503, "the server is shutting down; try again later", retry_after=5)
        asyncio.get_running_loop().call_later(grace, self.batcher.refuse, refusal)

    async def start(self) -> None:
        """Begins to load the scorer."""
        self.batcher.start()
        self._loading = asyncio.create_task(self._load())

    async def stop(self) -> None:
        """Ends; what still waits is not answered."""
        if self._loading is not None:
            self._loading.cancel()
        await self.batcher.stop()

    async def _load(self) -> None:
        try:
            self._predictor = await self.batcher.in_thread(self._loaded)
        except Exception as error:
            self.failure = error
            self._settled.set()
            self.on_failure(error)
            return
        backbone = getattr(self._predictor.scorer, "backbone", None)
        longest = getattr(getattr(backbone, "config", None), "max_length", None)
        self._longest = min(longest or self.config.batch_tokens, self.config.batch_tokens)
        self._settled.set()
        self.metrics.ready.set(1)
        self.on_ready()

    def _loaded(self) -> Predictor:
        self._prepare()
        scorer = self._source
        if not isinstance(scorer, Scorer):
            scorer = scorer()
        predictor = Predictor(scorer, self.config.risk, self._personas(scorer))
        predictor.warm_up()
        return predictor

    async def predictor(self, *, patient: bool = False) -> Predictor:
        """What answers questions.

        Args:
            patient: whether to wait until the model is loaded, for as long as the caller does.

        Raises:
            Refusal: it is not loaded.
        """
        if patient:
            await self._settled.wait()
        if self._stopping:
            raise Refusal(503, "the server is shutting down; try again later", retry_after=5)
        if self._predictor is None:
            why = "cannot be loaded" if self.failure else "is being loaded"
            raise Refusal(503, f"the model {why}; /health answers 200 once it scores", retry_after=2)
        return self._predictor

    async def ask(
        self,
        conversations: Sequence[Sequence[Mapping[str, Any]]],
        question: Question,
        *,
        patient: bool = False,
    ) -> list[Scored]:
        """The answer for each conversation.

        Args:
            conversations: B message lists, each ending in the response.
            question: from `Predictor.question`.
            patient: whether to hold the request while the queue is full, for as long as the caller waits.

        Raises:
            Refusal: there is too much of it, too much waits, or it took too long.
            ArgumentError: a conversation cannot be scored.
        """
        if not conversations:
            return []
        checked = [check(one, place) for place, one in enumerate(conversations)]
        await self.check_size(checked)
        items = [
            Item(place, one, estimated_tokens(one, self._longest), question)
            for place, one in enumerate(checked)
        ]
        found: list[Scored] = await self._answered(items, patient)
        if any(one.truncated for one in found):
            self.metrics.truncated.inc(sum(one.truncated is True for one in found))
        return found

    async def in_turn(self, function: Callable[[], Answer], size: int) -> Answer:
        """What a function returns that the model's thread calls in its turn, between conversations.

        Args:
            function: called once.
            size: what it adds to a batch, in tokens.

        Raises:
            Refusal: too much waits, or it took too long.
        """
        found: list[Answer] = await self._answered([Item(0, function, size, None)], False)
        return found[0]

    async def _answered(self, items: Sequence[Item], patient: bool) -> list[Any]:
        try:
            async with asyncio.timeout(None if patient else self.config.timeout):
                return await self.batcher.submit(items, patient=patient)
        except Full:
            raise Refusal(
                429,
                f"{self.batcher.waiting} conversations are waiting already; try again later",
                retry_after=1,
            ) from None
        except TimeoutError:
            if patient:
                raise  # the caller's own time is over
            raise busy() from None

    async def check_size(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> None:
        """Checks how much a request asks for. No text has more tokens than bytes, so few are counted.

        Raises:
            Refusal: there are too many conversations or tokens.
        """
        if len(conversations) > self.config.max_items:
            received, most = len(conversations), self.config.max_items
            message = f"received {received} conversations; allowed: at most {most} a request"
            raise Refusal(422, message, limit="max_items")
        limit = self.config.max_tokens
        contents = [str(message["content"]) for one in conversations for message in one]
        size = sum(len(content.encode()) for content in contents)
        if size <= limit:
            return
        tokenizer = self._predictor.tokenizer if self._predictor else None
        if tokenizer is None:
            count = size // 4
        else:
            count = await self.batcher.in_thread(lambda: _count(tokenizer, contents, limit))
        if count > limit:
            raise Refusal(
                422,
                f"received {count:,} tokens or more; allowed: at most {limit:,} a request. Send less at once",
                limit="max_tokens",
            )

    def _answer(self, items: Sequence[Item]) -> list[Any]:
        if self._predictor is None:
            raise ArgumentError("the model is not loaded")
        return self._predictor.answer(items)


def busy() -> Refusal:
    """The refusal of a request that waited too long."""
    return Refusal(503, "the model is too busy to answer in time; try again later", retry_after=5)


def _logged(error: BaseException) -> None:
    logging.getLogger(__name__).error("the model cannot be loaded: %s: %s", type(error).__name__, error)


def _count(tokenizer: Any, contents: Sequence[str], limit: int) -> int:
    """Tokens of texts, read in parts and no further than one part beyond a limit: others wait meanwhile."""
    count = 0
    for text in contents:
        for start in range(0, len(text), _PART):
            part = text[start : start + _PART]
            found = tokenizer(part, add_special_tokens=False, return_attention_mask=False, verbose=False)
            count += len(found["input_ids"])
            if count > limit:
                return count
    return count
