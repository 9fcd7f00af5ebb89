"""Claim: `pluralign serve` answers several times as many requests as a plain server over the same model.

32 clients on loopback, each with a connection of its own, send one response of 10 to 40 words a request, and
the next one when the answer is there; no text comes twice. Ours and the plain server (`plain_server`:
FastAPI, one request, one forward pass, MiniLM) in turn, each with the threads that it takes by itself:
torch's default there, the idle cores here. The plain server comes in two forms, which people write: `def`,
which FastAPI runs in up to 40 threads, and `async def`, one request at a time. Clients and servers share the
machine. Every score is compared with the model's own. Ratios are the result; times hold for the machine that
is named.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from pluralign.backbones import Backbone, load
from pluralign.heads import Attribute, ColumnScaling, QuantileHead, Reference
from pluralign.model import RewardModel
from studies.speed.timing import summary

KINDS = ("threads", "async", "ours")
CLIENTS, REQUESTS, REPEATS = 32, 600, 3
WORDS = (10, 40)
# fmt: off
VOCABULARY = [
    "the", "of", "and", "to", "in", "is", "you", "that", "it", "he", "was", "for", "on", "are", "as",
    "with", "his", "they", "at", "be", "this", "have", "from", "or", "one", "had", "by", "word", "but",
    "not", "what", "all", "were", "we", "when", "your", "can", "said", "there", "use", "an", "each",
    "which", "she", "do", "how", "their", "if", "will", "up", "other", "about", "out", "many", "then",
    "them", "these", "so", "some", "her", "would", "make", "like", "him", "into", "time", "has", "look",
    "two", "more", "write", "go", "see", "number", "no", "way", "could",
]
# fmt: on
HEAD = (
    b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


def texts(count: int, seed: int) -> list[str]:
    """Responses of 10 to 40 common English words in any order; no two are the same."""
    generator = random.Random(seed)
    return [" ".join(generator.choices(VOCABULARY, k=generator.randint(*WORDS))) for _ in range(count)]


def make_model(folder: Path, backbone: Backbone | None = None) -> RewardModel:
    """MiniLM, or another backbone, with a head of random weights, which costs what a fitted one costs."""
    backbone = backbone or load("minilm", device="cpu")
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1, 9, backbone.response_size, generator=generator)
    head = QuantileHead(
        ColumnScaling.empty(backbone.response_size),
        weight,
        torch.arange(9.0).reshape(1, 9) / 9,
        torch.arange(1, 10) / 10,
        (Attribute("quality", 0.0, 1.0),),
        Reference(0.0, 1.0),
    )
    model = RewardModel(backbone, head)
    model.save_pretrained(folder)
    return model


def talk(text: str) -> list[dict[str, str]]:
    """A response behind a prompt."""
    return [{"role": "user", "content": "Tell me something."}, {"role": "assistant", "content": text}]


@contextlib.contextmanager
def served(kind: str, folder: Path, *flags: str) -> Iterator[tuple[int, int]]:
    """The port of a server that scores, and its process."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    port = int(listening.getsockname()[1])
    words = ["-m", "studies.speed.plain_server", str(folder), str(listening.fileno()), kind]
    if kind == "ours":
        listening.close()
        words = ["-m", "pluralign.cli.main", "serve", str(folder), "--port", str(port), *flags]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    fds = () if kind == "ours" else (listening.fileno(),)
    server = subprocess.Popen(
        [sys.executable, *words],
        env=environment,
        pass_fds=fds,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        asyncio.run(_until_ready(port))
        yield port, server.pid
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        listening.close()


async def _until_ready(port: int) -> None:
    for _ in range(1200):
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            head = await reader.readline()
            writer.close()
            if b" 200 " in head:
                return
        await asyncio.sleep(0.1)
    raise RuntimeError("the server did not start")


async def load_with(port: int, responses: list[str]) -> tuple[list[float], list[float], float]:
    """Scores, seconds of each request, and seconds of all."""
    waiting = iter(range(len(responses)))
    scores, seconds = [0.0] * len(responses), [0.0] * len(responses)

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for place in waiting:
            body = json.dumps({"conversations": [talk(responses[place])]}).encode()
            begun = time.perf_counter()
            writer.write(HEAD % len(body) + body)
            headers = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(headers.split(b"content-length:")[1].split(b"\r\n")[0])
            answer = json.loads(await reader.readexactly(size))
            seconds[place] = time.perf_counter() - begun
            scores[place] = answer["scores"][0]
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return scores, seconds, time.perf_counter() - begun


def percentile(values: list[float], share: float) -> float:
    """The value that a share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def run(seed: int) -> dict[str, Any]:
    """Both servers in turn."""
    found: dict[str, Any] = {kind: {"rate": [], "p50": [], "p99": [], "tail": []} for kind in KINDS}
    furthest = 0.0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        model = make_model(folder)
        for repeat in range(REPEATS):
            asked = texts(REQUESTS, seed + repeat)
            expected = model.score([talk(text) for text in asked])
            for kind in KINDS[:: -1 if repeat % 2 else 1]:
                with served(kind, folder) as (port, _):
                    asyncio.run(load_with(port, texts(CLIENTS * 4, seed + 1000 + repeat)))
                    scores, seconds, whole = asyncio.run(load_with(port, asked))
                furthest = max(furthest, float((torch.tensor(scores) - expected).abs().max()))
                middle, tail = percentile(seconds, 0.5), percentile(seconds, 0.99)
                for name, value in (
                    ("rate", REQUESTS / whole), ("p50", middle), ("p99", tail), ("tail", tail / middle)
                ):  # fmt: skip
                    found[kind][name].append(value)
    return {
        "clients": CLIENTS,
        "requests": REQUESTS,
        "speedup": {kind: _ratio(found["ours"]["rate"], found[kind]["rate"]) for kind in KINDS[:2]},
        "largest_difference_of_a_score": furthest,
        **{kind: {name: summary(values) for name, values in of.items()} for kind, of in found.items()},
    }


def _ratio(ours: list[float], other: list[float]) -> dict[str, float]:
    return summary([a / b for a, b in zip(ours, other, strict=True)])
