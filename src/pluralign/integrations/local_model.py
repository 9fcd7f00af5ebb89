"""A reward model in the process of a trainer that scores from many threads, a conversation at a time.

In: a model folder, a risk measure and conversations. Out: utilities. Conversations that wait at the same time
are scored in one batch.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from pluralign.model import RewardModel

__all__ = ["LocalModel", "local_model"]

_TOGETHER = 64  # conversations in a batch

Conversation = list[dict[str, Any]]


class LocalModel:
    """A model in this process. Any thread may ask; one thread scores whatever waits together.

    Args:
        folder: the model folder; it is loaded when the first conversation is scored.
        risk: name of a risk measure.
    """

    def __init__(self, folder: str, risk: str) -> None:
        self._folder, self._risk = folder, risk
        self._waiting: queue.SimpleQueue[tuple[Conversation, Future[float]]] = queue.SimpleQueue()
        self._model: Any = None
        threading.Thread(target=self._work, name="pluralign", daemon=True).start()

    def score(self, conversation: Conversation) -> float:
        """The utility of one conversation.

        Raises:
            Exception: whatever scoring it, or loading the model, raised.
        """
        answer: Future[float] = Future()
        self._waiting.put((conversation, answer))
        return answer.result()

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < _TOGETHER:
                try:
                    batch.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            try:
                scores = self._scores([conversation for conversation, _ in batch])
            except Exception:
                self._one_by_one(batch)  # one bad conversation takes no other's reward
                continue
            for (_, answer), score in zip(batch, scores, strict=True):
                answer.set_result(score)

    def _one_by_one(self, batch: Sequence[tuple[Conversation, Future[float]]]) -> None:
        for conversation, answer in batch:
            try:
                answer.set_result(self._scores([conversation])[0])
            except Exception as error:
                answer.set_exception(error)

    def _scores(self, conversations: list[Conversation]) -> list[float]:
        if self._model is None:
            self._model = RewardModel.from_pretrained(self._folder)
        scores: list[float] = self._model.score(conversations, risk=self._risk).tolist()
        return scores


_models: dict[tuple[str, str], LocalModel] = {}
_lock = threading.Lock()


def local_model(folder: str, risk: str) -> LocalModel:
    """The model of a folder with a risk measure; made once in this process."""
    with _lock:
        if (folder, risk) not in _models:
            _models[folder, risk] = LocalModel(folder, risk)
        return _models[folder, risk]
