"""A local HTTP server whose answers a test decides: `with answering(function) as server`.

The function takes a `Request` and returns what it answers: an object (status 200), or a `Reply`; with None
the connection is closed without an answer.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Reply:
    status: int
    content: Any = None  # bytes are sent as they are
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Answering:
    """Where it listens, and what it was asked."""

    url: str
    asked: list[Request] = field(default_factory=list)


@contextmanager
def answering(answer: Callable[[Request], Any]) -> Iterator[Answering]:
    """Serves in threads of this process until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(
                self.command, self.path, dict(self.headers), json.loads(given) if given else None
            )
            state.asked.append(request)
            reply = answer(request)
            if reply is None:
                self.close_connection = True
                return
            reply = reply if isinstance(reply, Reply) else Reply(200, reply)
            content = reply.content
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128  # clients that connect at the same moment

    server = Server(("127.0.0.1", 0), Handler)
    state = Answering(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def in_turn(*replies: Any) -> Callable[[Request], Any]:
    """Answers one after the other, the last for ever."""
    left, lock = list(replies), threading.Lock()

    def answer(request: Request) -> Any:
        del request
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return answer
