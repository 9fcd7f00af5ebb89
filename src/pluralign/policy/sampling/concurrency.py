"""Several requests to a server at a time, in threads that an interruption does not wait for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

__all__ = ["concurrently"]

Question = TypeVar("Question")
Answer = TypeVar("Answer")


def concurrently(
    questions: Sequence[Question], ask: Callable[[Question], Answer], concurrency: int
) -> list[Answer]:
    """The answer to each, in order.

    Args:
        questions: what to ask.
        ask: waits for one answer; called from several threads.
        concurrency: most calls at a time.

    Raises:
        Exception: the first that `ask` raises; what is not asked yet then stays unasked.
    """
    waiting, done = deque(range(len(questions))), SimpleQueue[tuple[int, Any, BaseException | None]]()

    def work() -> None:
        while True:
            try:
                place = waiting.popleft()
            except IndexError:
                return
            try:
                done.put((place, ask(questions[place]), None))
            except BaseException as error:
                done.put((place, None, error))

    # Not a pool: its exit waits for its requests, so Ctrl-C would hang as long as the server does.
    for _ in range(min(concurrency, len(questions))):
        Thread(target=work, daemon=True).start()
    found: dict[int, Answer] = {}
    try:
        while len(found) < len(questions):
            place, answer, error = done.get()
            if error is not None:
                raise error
            found[place] = answer
    finally:
        waiting.clear()
    return [found[place] for place in range(len(questions))]
