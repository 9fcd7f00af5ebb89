"""Settings of the server: the measure it answers with, its batches, its limits."""

from __future__ import annotations

from dataclasses import dataclass

from pluralign.checks import check_number, check_plain_types
from pluralign.errors import ConfigError
from pluralign.hosts import host_of

__all__ = ["ServerConfig"]


@dataclass(frozen=True)
class ServerConfig:
    """How a model is served.

    Attributes:
        risk: Risk measure of requests that name none, e.g. mean, cvar:0.1, entropic:1.
        window_ms: Milliseconds that a request waits for others to share its batch, while the model is idle.
        batch_tokens: Tokens of a batch, estimated from the length of the texts; one text may have more.
        max_items: Maximum conversations per request.
        max_body_mb: Maximum body of a request, in 2^20 bytes.
        max_tokens: Maximum tokens per request.
        max_waiting: Conversations that may wait for the model; beyond that /v1 answers 429, and the endpoints
            for other software hold requests.
        max_held: Texts of requests of other software that may be held or wait; beyond that they are answered
            503 at once.
        timeout: Seconds within which a request to /v1 is answered, or else fails.
        hold: Seconds for which the endpoints for other software hold a request before they answer 503.
        read_timeout: Seconds within which a client has to send a whole request.
        hosts: Names, without scheme and port, under which browsers and clients may reach a server that has no
            token, in addition to this machine's: that of a proxy in front of it, e.g. [models.lab]; '*' for
            any.
        explorer: Whether / is a page on which people try the model.
        kept_mb: Memory for the embeddings that the explorer keeps, in 2^20 bytes; texts are not kept.
        kept_minutes: Minutes for which it keeps them after they were last used.
    """

    risk: str = "mean"
    window_ms: float = 3.0
    batch_tokens: int = 8192
    max_items: int = 1024
    max_body_mb: float = 8.0
    max_tokens: int = 262_144
    max_waiting: int = 8192
    max_held: int = 65_536
    timeout: float = 60.0
    hold: float = 150.0
    read_timeout: float = 20.0
    hosts: tuple[str, ...] | str = ()
    explorer: bool = True
    kept_mb: float = 64.0
    kept_minutes: float = 30.0

    def __post_init__(self) -> None:
        check_plain_types(self)
        check_number("window_ms", self.window_ms, at_least=0)
        for name in ("batch_tokens", "max_items", "max_tokens", "max_waiting", "max_held"):
            check_number(name, getattr(self, name), at_least=1)
        for name in ("max_body_mb", "timeout", "hold", "read_timeout", "kept_mb", "kept_minutes"):
            check_number(name, getattr(self, name), above=0)
        if not isinstance(self.risk, str):
            raise ConfigError(f"risk = {self.risk!r}; allowed: a measure such as mean or cvar:0.1")
        for host in self.known_hosts:
            if not isinstance(host, str) or not host or (host != "*" and host_of(host) != host.lower()):
                raise ConfigError(
                    f"hosts = {host!r}; allowed: names and addresses without scheme and port, or '*' for any"
                )

    @property
    def known_hosts(self) -> tuple[str, ...]:
        """`hosts`, of which there may be one."""
        return (self.hosts,) if isinstance(self.hosts, str) else tuple(self.hosts)

    @property
    def max_body(self) -> int:
        """The largest body in bytes."""
        return int(self.max_body_mb * 2**20)
