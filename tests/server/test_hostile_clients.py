"""Clients that are slow, huge, or send what is no HTTP: they are shown the door, and others are served."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress

import pytest

import pluralign as pl
from fake_backbone import talk
from http_server import Server, running
from pluralign.server import ServerConfig, create_app


class Lengths:
    """The number of characters of each response."""

    def distribution(self, conversations):
        return pl.Point([float(len(one[-1]["content"])) for one in conversations])


@pytest.fixture(scope="module")
def server():
    config = ServerConfig(read_timeout=0.5, max_body_mb=0.01)
    with running(create_app(Lengths(), config), head_seconds=0.5) as found:
        yield found


def answered(server: Server) -> bool:
    return server.post("/v1/score", {"conversations": [talk("abc")]}).json == {"scores": [3.0]}


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def rest(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    found = b""
    while part := connection.recv(65_536):
        found += part
    return found


def assert_scored(connection: socket.socket) -> None:
    """Reads the whole answer: its head and its body may arrive one after the other."""
    found = b""
    while not found.endswith(b'{"scores":[3.0]}'):
        part = connection.recv(65_536)
        assert part, found
        found += part


@pytest.mark.parametrize("sent", [b"", b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
def test_a_head_that_does_not_come_is_cut_off(server, sent):
    with connect(server) as connection:
        connection.sendall(sent)
        with suppress(ConnectionResetError):
            assert rest(connection) == b""
    assert answered(server)


def test_a_head_that_comes_a_byte_at_a_time_is_cut_off(server):
    with connect(server) as connection:

        def drip() -> None:
            for _ in range(400):
                connection.sendall(b"x")
                time.sleep(0.05)

        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            drip()
    assert answered(server)


def test_a_second_head_on_a_connection_is_cut_off_too(server):
    body = b'{"conversations": [[{"role": "assistant", "content": "abc"}]]}'
    head = b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    with connect(server) as connection:
        connection.sendall(head + body)
        assert_scored(connection)
        time.sleep(0.8)  # longer than a head may take: nothing has begun
        connection.sendall(head + body)
        assert_scored(connection)
        connection.sendall(head[:30])
        with suppress(ConnectionResetError):
            assert rest(connection) == b""
    assert answered(server)


def test_a_body_that_does_not_come_is_408(server):
    with connect(server) as connection:
        connection.sendall(b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert rest(connection).startswith(b"HTTP/1.1 408 ")
    assert answered(server)


@pytest.mark.parametrize(
    "head", [b"Content-Length: 99999999999\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"]
)
def test_a_body_that_is_too_large_is_413_whether_it_says_so_or_not(server, head):
    with connect(server) as connection:
        connection.sendall(b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\n" + head)
        if b"chunked" in head:
            with suppress(OSError):
                for _ in range(20):
                    connection.sendall(b"1000\r\n" + b"a" * 4096 + b"\r\n")
        with suppress(ConnectionResetError):  # we were still sending
            assert rest(connection).startswith(b"HTTP/1.1 413 ")
    assert answered(server)


@pytest.mark.parametrize("path", ["/v1/score", "/explorer/read"])
def test_a_client_that_sends_on_reads_why_it_was_refused(server, path):
    """Five megabytes fill the system's buffers; a connection that broke would hide the reason."""
    answer = server.send("POST", path, b"a" * 5_000_000)
    assert answer.status == 413
    assert "larger than" in answer.body.decode()
    with running(create_app(Lengths(), token="secret")) as other:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            answer = other.send("POST", path, b"a" * 5_000_000, headers)
            assert (answer.status, "needs its token" in answer.json["error"]["message"]) == (401, True)


def test_the_answer_does_not_wait_for_a_body_that_is_refused(server):
    with connect(server) as connection:
        begun = time.monotonic()
        connection.sendall(
            b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\nthe beginning"
        )
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")
        assert time.monotonic() - begun < 2  # less than it would wait for more


def test_who_does_not_read_is_cut_off():
    """Two megabytes of an answer; the system's buffers are made small."""

    class Long:
        def distribution(self, conversations):
            return pl.Quantiles(
                [[float(i) for i in range(2000)]] * len(conversations),
                [(i + 0.5) / 2000 for i in range(2000)],
            )

    app = create_app(Long(), ServerConfig(read_timeout=0.5))
    body = json.dumps(
        {"conversations": [talk("a")] * 100, "levels": [i / 1000 for i in range(1000)]}
    ).encode()
    head = b"POST /v1/distribution HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    with running(app, head_seconds=0.5) as other, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", other.port))
        connection.settimeout(20)
        connection.sendall(head + body)
        whole = len(other.post("/v1/distribution", body).body)  # others are served
        time.sleep(2.5)
        with suppress(ConnectionResetError):
            assert len(rest(connection)) < whole
        slowly = socket.create_connection(("127.0.0.1", other.port), timeout=20)
        with slowly:
            slowly.sendall(head + body)
            found = 0
            while found < whole:
                part = slowly.recv(400_000)
                assert part
                found += len(part)
                time.sleep(0.1)  # longer than the time of the timer, all together


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00 tls\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /nothing HTTP/9.9\r\n\r\n",
        b"\xff" * 200_000,
    ],
)
def test_what_is_no_http_is_refused(server, sent):
    with connect(server) as connection, suppress(OSError):
        connection.sendall(sent)
        connection.sendall(b"\r\n\r\n")
        found = rest(connection)
        assert found == b"" or found.startswith(b"HTTP/1.1 4")
    assert answered(server)


def test_many_slow_clients_do_not_keep_others_from_being_served(server):
    slow = [connect(server) for _ in range(200)]
    try:
        for one in slow:
            one.sendall(b"POST /v1/score HTTP/1.1\r\n")
        assert answered(server)
    finally:
        for one in slow:
            one.close()


def test_a_client_that_goes_away_is_no_trouble(server):
    body = b'{"conversations": [[{"role": "assistant", "content": "abc"}]]}'
    for _ in range(20):
        with connect(server) as connection:
            connection.sendall(
                b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
    assert answered(server)
