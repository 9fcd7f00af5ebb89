"""What the server counts, for Prometheus. Names and numbers only: no text of a user is ever a label."""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 150)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The counters of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "pluralign_requests", "Answered requests", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "pluralign_request_seconds",
            "Time from the headers of a request to its answer",
            ["path"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.open = Gauge("pluralign_open_requests", "Requests being answered", registry=self.registry)
        self.waiting = Gauge(
            "pluralign_waiting_conversations", "Conversations that wait for the model", registry=self.registry
        )
        self.batch_items = Histogram(
            "pluralign_batch_conversations",
            "Conversations in a batch",
            buckets=_ITEMS,
            registry=self.registry,
        )
        self.batch_seconds = Histogram(
            "pluralign_batch_seconds",
            "Time to score a batch",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.conversations = Counter(
            "pluralign_conversations", "Scored conversations", registry=self.registry
        )
        self.tokens = Counter(
            "pluralign_tokens", "Tokens of scored conversations, estimated", registry=self.registry
        )
        self.truncated = Counter(
            "pluralign_truncated",
            "Conversations that were truncated",
            registry=self.registry,
        )
        self.ready = Gauge("pluralign_ready", "1 once the model scores", registry=self.registry)
        self.restarts = Gauge(
            "pluralign_worker_restarts", "Number of times the worker was restarted", registry=self.registry
        )

    def batch(self, items: int, tokens: int, seconds: float) -> None:
        """Counts a batch."""
        self.batch_items.observe(items)
        self.batch_seconds.observe(seconds)
        self.conversations.inc(items)
        self.tokens.inc(tokens)

    def text(self) -> bytes:
        """All of them, as Prometheus reads it."""
        return generate_latest(self.registry)
