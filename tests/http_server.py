"""A server in a thread of the test, and a client that needs no package: `with running(app) as server`."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import uvicorn

from pluralign.server.connections import connection_class


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """Where it listens; `post` and `get` wait for the answer."""

    def __init__(self, port: int) -> None:
        self.port = port

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """One request; a body that is not bytes is written as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            given = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, given, {"Content-Type": "application/json"} | (headers or {}))
            found = connection.getresponse()
            lowered = {name.lower(): value for name, value in found.getheaders()}
            return Answer(found.status, lowered, found.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return self.send("POST", path, body, headers)

    def get(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, None, headers)

    def wait_until_ready(self) -> None:
        for _ in range(1200):
            found = self.get("/health")
            if found.status == 200:
                return
            assert found.json == {"status": "loading"}
            time.sleep(0.025)
        raise AssertionError("the server did not get ready")


@contextlib.contextmanager
def running(app: Any, *, ready: bool = True, head_seconds: float = 20.0) -> Iterator[Server]:
    """Serves until the block ends."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="on", http=connection_class(head_seconds), ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    client = Server(listening.getsockname()[1])
    try:
        if ready:
            client.wait_until_ready()
        yield client
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
