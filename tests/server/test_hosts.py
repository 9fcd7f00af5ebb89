"""A server without a token answers this machine alone, whatever name a browser was led here by."""

from __future__ import annotations

import asyncio
import socket

import pytest

import pluralign as pl
from fake_backbone import talk
from http_server import running
from pluralign.errors import ConfigError
from pluralign.hosts import host_of, is_loopback
from pluralign.server import ServerConfig, create_app
from pluralign.server.hosts import names_known_hosts


class Lengths:
    """The number of characters of each response."""

    def distribution(self, conversations):
        return pl.Point([float(len(one[-1]["content"])) for one in conversations])


PATHS = [
    ("GET", "/"),
    ("GET", "/explorer/explorer.js"),
    ("GET", "/explorer/form"),
    ("POST", "/explorer/read"),
    ("GET", "/health"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/v1/posterior"),
    ("POST", "/v1/votes"),
    ("POST", "/v1/score"),
    ("POST", "/v1/distribution"),
    ("POST", "/get_reward"),
    ("POST", "/classify"),
    ("POST", "/llama_factory"),
    ("GET", "/nothing"),
]
ASKED = {"conversations": [talk("abc")]}


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_other_names_lead_to_no_path(server, method, path):
    body = ASKED if method == "POST" else None
    for name in (
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.7",
        "",
        "[",
        "::",
    ):
        answer = server.send(method, path, body, {"Host": name})
        assert answer.status == 403, name
        assert "set a token, or name the host with --hosts" in answer.json["error"]["message"]
    assert server.send(method, path, body).status != 403


@pytest.fixture(scope="module")
def server():
    with running(create_app(Lengths())) as found:
        yield found


@pytest.mark.parametrize(
    "name",
    ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8000", "127.9.9.9", "[::1]:80", "a.localhost:80"],
)
def test_names_of_this_machine(server, name):
    assert server.post("/v1/score", ASKED, Host=name).json == {"scores": [3.0]}


def test_a_client_that_names_no_host_is_no_browser(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert b" 200 " in connection.recv(65_536)


def test_a_proxy_is_named(server):
    del server
    for hosts in ("models.lab", ("other", "Models.lab"), "*"):
        with running(create_app(Lengths(), ServerConfig(hosts=hosts))) as found:
            for name in ("models.lab", "MODELS.lab:443"):
                answer = found.post("/v1/score", ASKED, Host=name, Origin="https://models.lab")
                assert answer.json == {"scores": [3.0]}
            assert found.post("/v1/score", ASKED, Host="evil.example").status == (
                200 if hosts == "*" else 403
            )


def test_with_a_token_any_name_will_do():
    with running(create_app(Lengths(), token="t")) as found:
        answer = found.post("/v1/score", ASKED, Host="models.lab", Authorization="Bearer t")
        assert answer.json == {"scores": [3.0]}


@pytest.mark.parametrize("hosts", ["http://models.lab", "models.lab:80", ("a", ""), (1,), "a b/c"])
def test_what_is_no_name_is_refused(hosts):
    with pytest.raises(ConfigError, match="allowed: names and addresses without scheme and port"):
        ServerConfig(hosts=hosts)


@pytest.mark.parametrize(
    ("place", "host"),
    [
        ("a.b", "a.b"),
        ("A.b:80", "a.b"),
        ("http://[::1]:8", "::1"),
        ("http://A.b:80", "a.b"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[", ""),
        ("", ""),
    ],
)
def test_the_host_of_a_place(place, host):
    assert host_of(place) == host


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
    + [("::", False), ("example.com", False), ("10.0.0.1", False), ("", False)],
)
def test_which_addresses_only_this_machine_reaches(host, loopback):
    assert is_loopback(host) == loopback


def test_every_name_of_a_request_counts():
    good, bad = (b"host", b"localhost"), (b"host", b"evil.example")
    here = ("127.0.0.1", 8000)
    assert names_known_hosts({"server": here, "headers": [good, (b"origin", b"http://127.0.0.1:80")]}, ())
    assert not names_known_hosts({"server": here, "headers": [good, bad]}, ())
    assert not names_known_hosts({"server": here, "headers": [good, (b"origin", b"null")]}, ())
    assert names_known_hosts({"server": here, "headers": [good, bad]}, {"evil.example"})


@pytest.mark.parametrize("server", [("10.0.0.7", 80), ("testserver", 80), ("/run/socket", None), None])
def test_names_count_where_a_browser_can_be_led(server):
    host, origin = (b"host", b"models.lab:80"), (b"origin", b"http://models.lab:80")
    assert names_known_hosts({"server": server, "headers": [host]}, ())
    assert names_known_hosts({"server": server, "headers": [host, origin]}, ())
    elsewhere = {"server": server, "headers": [host, (b"origin", b"https://evil.example")]}
    assert not names_known_hosts(elsewhere, ())
    assert names_known_hosts(elsewhere, {"evil.example"})


def test_within_a_process_any_name_will_do():
    """As test clients call it, which name a host of their own."""
    sent = []
    scope = {"type": "http", "method": "GET", "path": "/openapi.json", "query_string": b"", "root_path": ""}
    scope |= {"server": ("testserver", 80), "scheme": "http", "headers": [(b"host", b"testserver")]}

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    asyncio.run(create_app(Lengths())(scope, receive, send))
    assert sent[0]["status"] == 200
