"""Claim: a training run that asks `pluralign serve` loses no reward and gets no wrong one, kills included.

100,000 requests of one text each, and more until ten minutes are over: half by OpenRLHF's own client
(`openrlhf/utils/agent.py`, unchanged, at `/get_reward`), half by ours (`pluralign.integrations.openrlhf`),
16 at a time of each. The worker is killed after a sixth and after a third of the 100,000; the memory of the
one that follows is read twice a minute until the end. The model is MiniLM's first layer with a head of random
weights: how many requests, not how fast, is the question.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

from pluralign.backbones import load
from pluralign.integrations.openrlhf import Client
from studies.speed.memory import resident
from studies.speed.openrlhf_client import openrlhf_agent
from studies.speed.serving import make_model, served, talk, texts

REQUESTS, SECONDS, AT_A_TIME, TEXTS = 100_000, 600.0, 16, 2_000
KILLS = (1 / 6, 1 / 3)  # shares of the requests
BETWEEN = 30.0  # seconds between two readings of memory
PROMPT = "Tell me something."
TOLERANCE = 1e-5
MEBIBYTE = 1 << 20


def run(seed: int, requests: int = REQUESTS, least: float = SECONDS) -> dict[str, Any]:
    """Both clients at once, with two kills."""
    agent = openrlhf_agent()
    with tempfile.TemporaryDirectory() as place:
        model = make_model(Path(place) / "model", load(_one_layer(Path(place) / "backbone"), device="cpu"))
        responses = texts(TEXTS, seed)
        expected = model.score([talk(text) for text in responses]).tolist()
        with served("ours", Path(place) / "model", "--policy_tokenizer", "none") as (port, parent):
            watched = _Watched(parent, requests)
            begun = time.perf_counter()
            with ThreadPoolExecutor(2) as pool:
                found = {
                    name: pool.submit(client, f"http://127.0.0.1:{port}", responses, places, watched.count)
                    for name, client, places in (
                        ("openrlhf", _theirs(agent), _Places(requests // 2, least)),
                        ("pluralign", _ours, _Places(requests // 2, least)),
                    )
                }
                rewards = {name: future.result() for name, future in found.items()}
            seconds = time.perf_counter() - begun
            watched.close()
    furthest = {name: _differences(found, expected) for name, found in rewards.items()}
    count = sum(map(len, rewards.values()))
    return {
        "requests": count,
        "lost": {name: sum(one is None for one in found.values()) for name, found in rewards.items()},
        "wrong": {name: sum(one > TOLERANCE for one in found) for name, found in furthest.items()},
        "largest_difference": max(max(found, default=0.0) for found in furthest.values()),
        "kills": watched.kills,
        "seconds": seconds,
        "per_second": count / seconds,
        "worker_mib": [round(one / MEBIBYTE, 1) for one in watched.memory],
    }


class _Places:
    """Numbers of requests: so many, and then until the time is over; for any threads."""

    def __init__(self, requests: int, least: float) -> None:
        self._requests = requests
        self._end = time.monotonic() + least
        self._next = itertools.count()
        self._lock = threading.Lock()

    def __iter__(self) -> _Places:
        return self

    def __next__(self) -> int:
        with self._lock:
            place = next(self._next)
        if place >= self._requests and time.monotonic() > self._end:
            raise StopIteration
        return place


def _one_layer(folder: Path) -> str:
    """MiniLM without its other layers."""
    backbone: Any = load("minilm", device="cpu")
    backbone.model.encoder.layer = backbone.model.encoder.layer[:1]
    backbone.model.config.num_hidden_layers = 1
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    return str(folder)


Counted = Callable[[], None]
Rewards = dict[int, float | None]


def _theirs(agent: ModuleType) -> Callable[[str, list[str], _Places, Counted], Rewards]:
    def client(url: str, responses: list[str], places: _Places, count: Counted) -> Rewards:
        executor = agent.SingleTurnAgentExecutor(f"{url}/get_reward")
        found: Rewards = {}

        async def one() -> None:
            for place in places:
                found[place] = None
                query = f"{PROMPT}{responses[place % len(responses)]}"
                with contextlib.suppress(RuntimeError):  # it has given up; OpenRLHF goes on without a reward
                    (answer,) = await executor._fetch_rewards_via_http([query], [PROMPT], [""])
                    found[place] = answer["rewards"][0]
                count()

        async def all_of_them() -> None:
            await asyncio.gather(*(one() for _ in range(AT_A_TIME)))

        asyncio.run(all_of_them())
        return found

    return client


def _ours(url: str, responses: list[str], places: _Places, count: Counted) -> Rewards:
    client = Client(url)
    found: Rewards = {}

    def one() -> None:
        for place in places:
            found[place] = None
            query = f"{PROMPT}{responses[place % len(responses)]}"
            with contextlib.suppress(RuntimeError):
                answer = client.post("/get_reward", {"query": [query], "prompts": [PROMPT], "labels": [""]})
                found[place] = float(answer["rewards"][0])
            count()

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for done in [pool.submit(one) for _ in range(AT_A_TIME)]:
            done.result()
    return found


def _differences(found: Rewards, expected: list[float]) -> list[float]:
    return [abs(one - expected[place % len(expected)]) for place, one in found.items() if one is not None]


class _Watched:
    """Kills the worker when its time has come, and reads the memory of the last one."""

    def __init__(self, parent: int, requests: int) -> None:
        self._parent = parent
        self._requests = requests
        self._answered = itertools.count(1)
        self._done = 0
        self._stop = threading.Event()
        self.kills = 0
        self.memory: list[int] = []  # bytes, at times that are `BETWEEN` apart, from the last kill on
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def count(self) -> None:
        """One request more has its answer, or is given up."""
        self._done = next(self._answered)

    def close(self) -> None:
        """Ends the watch."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        reads = 0.0
        while not self._stop.wait(0.2):
            workers = Path(f"/proc/{self._parent}/task/{self._parent}/children").read_text().split()
            if not workers:  # one has been killed, the next has not been started
                continue
            done = self._done / self._requests
            if self.kills < len(KILLS) and done >= KILLS[self.kills]:
                os.kill(int(workers[0]), signal.SIGKILL)
                self.kills += 1
                reads = time.monotonic() + BETWEEN
            elif self.kills == len(KILLS) and time.monotonic() >= reads:
                with contextlib.suppress(OSError):
                    self.memory.append(resident(workers[0]))
                    reads += BETWEEN
