"""The key of a sampling server: it goes to that server alone, and into no message."""

from __future__ import annotations

import json
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import tiny_policy
from pluralign.errors import ConfigError, RunError
from pluralign.policy.sampling.server import ServerSampler
from pluralign.policy.sampling.server_requests import Requests, check_address
from pluralign.policy.sampling.settings import SamplingSettings
from tiny_policy import user

KEY = 'sk-"very/secret"'


class Host(BaseHTTPRequestHandler):
    """Sends `server.answers` one after the other, the last for ever: status, reason, headers, content."""

    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization")))
        answers = self.server.answers
        status, reason, headers, content = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status, reason)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def host():
    """Starts servers with given answers."""
    started = []

    def start(*answers):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
        server.asked, server.answers = [], list(answers)
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def found(content, status=200, reason="OK", **headers):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return status, reason, headers, data


def requests(server, key=KEY, **options):
    options = {"key_over_http": False, "timeout": 20.0, "patience": 0.0} | options
    return Requests(server if isinstance(server, str) else server.url, key, **options)


def told(raised) -> str:
    """What a person could see: the message, and the traceback with every error behind it."""
    return "".join(traceback.format_exception(raised.value)) + repr(raised.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("body", [None, {"prompt": [1]}])
def test_a_redirect_is_not_followed(host, status, body):
    other = host(found({"data": []}))
    first = host(found(b"", status, "Moved", Location=f"{other.url}/v1/models?key=x"))
    with pytest.raises(RunError, match=rf"/v1/models redirects to {other.url}; redirects are not") as raised:
        requests(first).call("/models", body)
    assert other.asked == []
    assert [key for *_, key in first.asked] == [f"Bearer {KEY}"]
    assert "key=x" not in told(raised)


@pytest.mark.parametrize(
    "place", ["", "/v1/models/", "http://user:pw@elsewhere:1/", "http://[", "file:///etc/passwd"]
)
def test_no_redirect_leads_anywhere(host, place):
    first = host(found(b"", 302, "Moved", **({"Location": place} if place else {})))
    with pytest.raises(RunError, match="redirects to") as raised:
        requests(first).call("/models")
    assert len(first.asked) == 1
    assert "pw" not in told(raised)


@pytest.mark.parametrize(
    "answer",
    [
        found({"error": f"wrong key {KEY}"}, 401),
        found(f"wrong key {KEY}".encode(), 401),
        found(b"wrong key sk-%22very%2Fsecret%22", 403),
        found(b"no", 401, f"Wrong {KEY}"),
        found(f"busy, {KEY}".encode(), 503),
        found(b"x" * 290 + KEY.encode() + b" is wrong", 400),
        found(b"x" * 65_530 + KEY.encode(), 400),
    ],
)
def test_a_server_that_sends_the_key_back(host, answer):
    with pytest.raises(RunError) as raised:
        requests(host(answer)).call("/models")
    for part in ("very", "secret", "sk-"):
        assert part not in told(raised)
    assert str(answer[0]) in str(raised.value)


def test_a_server_that_sends_the_key_back_in_an_answer(host):
    tokenizer = tiny_policy.tokenizer()
    with pytest.raises(RunError, match=r"serves \[key\]; received model 'policy'") as raised:
        ServerSampler(host(found({"data": [{"id": KEY}]})).url, tokenizer, model="policy", api_key=KEY)
    assert KEY not in told(raised)
    models = found({"data": [{"id": "policy"}]})
    for choice in ({"model": KEY}, {"choices": [{"index": 0, "text": "x", "finish_reason": KEY}]}):
        ready = ServerSampler(host(models, found(choice)).url, tokenizer, api_key=KEY)
        with pytest.raises(RunError, match=r"\[key\]") as raised:
            ready.sample([user("hello")], SamplingSettings(1, 4))
        assert "very" not in told(raised)


def test_an_answer_is_shown_in_part(host):
    with pytest.raises(RunError) as raised:
        requests(host(found(b"y" * 50_000, 400))).call("/models")
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    "key", ["sk-very\nsecret", "sk-very secret", "sk-very\x00secret", "sk-v\u00e9rysecret"]
)
def test_a_key_that_no_header_can_hold_is_not_repeated(key):
    with pytest.raises(ConfigError, match="1 line breaks, blanks or characters beyond ASCII") as raised:
        requests("http://localhost:1", key)
    for part in ("sk-v", "secret"):
        assert part not in told(raised)


def test_blanks_around_a_key_are_none_of_it(host):
    server = host(found({}))
    requests(server, f" {KEY}\r\n").call("/models")
    requests(server, "\n").call("/models")
    requests(server, None).call("/models")
    assert [key for *_, key in server.asked] == [f"Bearer {KEY}", None, None]


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@localhost:8000",
        "https://user:hunter2@host",
        "https://hunter2@host/v1",
        "http://user:hunter2/x@host:8000",
        "http://user:hunter2?x@host",
        "http://host:8000?key=hunter2",
        "http://host:8000/v1#hunter2",
        "user:hunter2@host",
        "http://user:hunter2@host:no",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigError, match="an address such as") as raised:
        requests(url, None)
    assert "hunter2" not in told(raised)


@pytest.mark.parametrize(
    "url", ["http://", "http://:8000", "http://a b", "http://a\nb", "http://host:port", "ftp://x"]
)
def test_what_is_not_an_address(url):
    with pytest.raises(ConfigError, match="an address such as"):
        check_address(url)


def test_a_key_stays_on_encrypted_ways_and_on_this_machine():
    local = ["http://localhost:8000", "http://127.1.2.3", "http://[::1]:8000/v1", "http://vllm.localhost"]
    away = ["http://gpu-7:8000", "http://10.0.0.7/v1", "http://localhost.example.org", "http://0.0.0.0:8000"]
    for url in (*local, "https://gpu-7"):
        check_address(url, has_key=True)
    for url in away:
        check_address(url)
        check_address(url, has_key=True, key_over_http=True)
        with pytest.raises(ConfigError, match="is not encrypted.*--key_over_http true"):
            requests(url)


def test_a_proxy_does_not_see_what_goes_to_this_machine(host, monkeypatch):
    proxy, server = host(found({"proxy": 1})), host(found({"server": 1}))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy.url)
    assert requests(server).call("/models") == {"server": 1}
    assert proxy.asked == []
