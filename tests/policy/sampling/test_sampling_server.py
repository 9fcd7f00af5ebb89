"""Sampling over HTTP, against a server in this process: the protocol, retries, refusals."""

from __future__ import annotations

import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import tiny_policy
from pluralign.conversations import ConversationReader, tokenizer_digest
from pluralign.errors import ConfigError, DataError, RunError
from pluralign.policy.sampling.server import ServerSampler
from pluralign.policy.sampling.settings import Completion, SamplingSettings, completion_seed
from pluralign.policy.sampling.stage import read_samples, sample_references
from tiny_policy import user

PROMPTS = [user(f"question {i}") for i in range(5)]
SETTINGS = SamplingSettings(completions=3, max_new_tokens=7, seed=4)


class Stub(BaseHTTPRequestHandler):
    """Answers like vLLM; the test sets `server.answer` and `server.failures`."""

    def do_GET(self):
        cards = [{"id": name, "root": f"/models/{name}", "max_model_len": 40} for name in self.server.models]
        self.reply(200, {"data": cards})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append((self.path, body, self.headers.get("Authorization")))
            status = self.server.failures.pop(0) if self.server.failures else 200
        if status == "drop":
            self.connection.close()
            return
        self.reply(status, self.server.answer(body) if status == 200 else {"error": "no such luck"})

    def reply(self, status, content):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def answer(body):
    choices = [
        {
            "index": i,
            "text": f"{i}",
            "finish_reason": "length" if i == 2 else "stop",
            "token_ids": [9] * (i + 1),
        }
        for i in range(body["n"])
    ]
    return {"choices": choices[::-1]}


@pytest.fixture
def server():
    stub = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    stub.lock = threading.Lock()
    stub.models, stub.requests, stub.failures, stub.answer = ["policy"], [], [], answer
    thread = threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{stub.server_port}"
    yield stub
    stub.shutdown()
    stub.server_close()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_policy.tokenizer()


def sampler(server, tokenizer, **options):
    return ServerSampler(server.url, tokenizer, patience=0.001, **options)


def test_what_is_asked_and_what_comes_back(server, tokenizer):
    found = sampler(server, tokenizer, api_key="secret").sample(PROMPTS, SETTINGS)
    assert found == [[Completion("0", 1, False), Completion("1", 2, False), Completion("2", 3, True)]] * 5
    asked = {tuple(body["prompt"]): body for _, body, _ in server.requests}
    assert set(asked) == {tuple(ConversationReader(tokenizer).prompt_ids(prompt)) for prompt in PROMPTS}
    path, body, key = server.requests[0]
    assert (path, key) == ("/v1/completions", "Bearer secret")
    stated = {
        k: body[k]
        for k in ("model", "n", "max_tokens", "temperature", "top_p", "top_k", "repetition_penalty")
    }
    assert list(stated.values()) == ["policy", 3, 7, 1.0, 1.0, -1, 1.0]
    assert asked[tuple(ConversationReader(tokenizer).prompt_ids(PROMPTS[0]))]["seed"] == completion_seed(
        4, PROMPTS[0], 0
    )


def test_it_fits_the_stage(server, tokenizer, tmp_path):
    path = sample_references(
        PROMPTS, sampler(server, tokenizer), tmp_path / "s", SETTINGS, prompts_per_shard=2
    )
    rows = read_samples(path)
    assert len(rows) == 15
    assert rows[2]["cut_off"]
    stored = json.loads((path / "manifest.json").read_text())["description"]["sampler"]
    assert (stored["kind"], stored["model"], stored["root"]) == ("server", "policy", "/models/policy")


def test_a_busy_server_is_asked_again(server, tokenizer):
    ready = sampler(server, tokenizer, concurrency=1)
    server.failures = [503, "drop", 429]
    assert len(ready.sample(PROMPTS[:1], SETTINGS)) == 1
    assert len(server.requests) == 4
    server.failures = [500] * 5
    with pytest.raises(RunError, match="did not respond after 5 attempts: 500"):
        ready.sample(PROMPTS[:1], SETTINGS)


def test_a_refusal_is_not_repeated(server, tokenizer):
    ready = sampler(server, tokenizer)
    server.failures = [400]
    with pytest.raises(RunError, match="refused the request: 400 .*no such luck"):
        ready.sample(PROMPTS[:1], SETTINGS)
    assert len(server.requests) == 1


def test_tokens_are_counted_where_the_server_does_not_report_them(server, tokenizer):
    server.answer = lambda body: {
        "choices": [
            {"index": 0, "text": "abc", "finish_reason": "stop"},
            {"index": 1, "text": "abcd", "finish_reason": "length"},
        ]
    }
    ((first, second),) = sampler(server, tokenizer).sample(PROMPTS[:1], SamplingSettings(2, 4))
    assert (first, second) == (Completion("abc", 4, False), Completion("abcd", 4, True))


def test_ids_are_kept_where_they_are_a_whole_response(server, tokenizer, tmp_path):
    end, told = tokenizer.eos_token_id, [[70, 1], [70], [70, 71], 7]

    def answer(body):
        reasons = ["stop", "stop", "length", "stop"]
        kinds = enumerate(zip(told, reasons, strict=True))
        return {
            "choices": [
                {"index": i, "text": "x", "finish_reason": reason, "token_ids": ids}
                for i, (ids, reason) in kinds
            ]
        }

    server.answer = answer
    ready = sampler(server, tokenizer)
    (drawn,) = ready.sample(PROMPTS[:1], SamplingSettings(4, 4))
    # The second has no end although it ended, so something is missing.
    assert [one.token_ids for one in drawn] == [(70, end), None, (70, 71), None]
    assert [one.num_tokens for one in drawn] == [2, 1, 2, 2]
    rows = read_samples(sample_references(PROMPTS[:1], ready, tmp_path / "s", SamplingSettings(4, 4)))
    assert rows["token_ids"][:] == [[70, end], None, [70, 71], None]
    digest = tokenizer_digest(tokenizer)
    assert rows["tokenizer"][:] == [digest, None, digest, None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"choices": []}, "returned 0 completions of a prompt; 3 were requested"),
        (
            {"choices": [{"index": i, "text": "x", "finish_reason": "abort"} for i in range(3)]},
            "ended by 'abort'",
        ),
        ({"choices": [{"index": i, "text": None, "finish_reason": "stop"} for i in range(3)]}, "with a text"),
        (b"<html>", "after 5 attempts: its response is not JSON"),
        ({"choices": None}, "choices that are not a list of objects"),
        ({"choices": ["x", "y", "z"]}, "choices that are not a list of objects"),
        ({"choices": [{"text": "x", "finish_reason": "stop"}] * 3}, "index is not 0 to 2, once each"),
        (
            {"choices": [{"index": i % 2, "text": "x", "finish_reason": "stop"} for i in range(3)]},
            "index is not 0 to 2, once each",
        ),
        ({"model": "other", "choices": []}, "responded with the model 'other'; requested was 'policy'"),
        (
            {"choices": [{"index": i, "text": "\ud83d", "finish_reason": "stop"} for i in range(3)]},
            "half a surrogate pair",
        ),
        (b"[]", "returned list instead of an object"),
    ],
)
def test_malformed_responses_are_refused(server, tokenizer, content, message):
    server.answer = lambda body: content
    with pytest.raises(RunError, match=message):
        sampler(server, tokenizer).sample(PROMPTS[:1], SETTINGS)


def test_which_model(server, tokenizer):
    server.models = ["a", "b"]
    with pytest.raises(RunError, match="serves a, b; received model None"):
        sampler(server, tokenizer)
    assert sampler(server, tokenizer, model="b").describe()["root"] == "/models/b"


@pytest.mark.parametrize("content", [{"x": 1}, {"data": None}, {"data": ["policy"]}, {"data": [{}]}])
def test_a_server_of_something_else(server, tokenizer, monkeypatch, content):
    monkeypatch.setattr(Stub, "do_GET", lambda stub: stub.reply(200, content))
    with pytest.raises(RunError, match="lists no models"):
        sampler(server, tokenizer)


def test_an_answer_that_breaks_off_is_asked_for_again(server, tokenizer):
    answers = [b'{"choices": [', None]
    server.answer = lambda body: answers.pop(0) or answer(body)
    (found,) = sampler(server, tokenizer).sample(PROMPTS[:1], SETTINGS)
    assert [one.text for one in found] == ["0", "1", "2"]


def test_an_interruption_does_not_wait_for_the_server(server, tokenizer):
    asked, go_on, waited = threading.Event(), threading.Event(), threading.Event()

    def slow(body):
        asked.set()
        if not go_on.wait(20):
            waited.set()
        return answer(body)

    server.answer = slow
    ready = sampler(server, tokenizer, concurrency=2)

    def interrupt():
        asked.wait(30)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        ready.sample(PROMPTS, SETTINGS)
    assert not waited.is_set()
    go_on.set()


def test_prompts_that_do_not_fit_are_found_before_sampling(server, tokenizer, tmp_path):
    prompts = [*PROMPTS, user("x" * 50)]
    with pytest.raises(DataError, match="1 of 6 prompts are too long: prompt 5 has 53 tokens.* 40 positions"):
        sample_references(prompts, sampler(server, tokenizer), tmp_path / "s", SETTINGS)
    assert server.requests == []


def test_no_server(tokenizer):
    with pytest.raises(RunError, match="did not respond after 5 attempts"):
        ServerSampler("http://127.0.0.1:9", tokenizer, patience=0.001)
    with pytest.raises(ConfigError, match="an address such as"):
        ServerSampler("localhost:8000", tokenizer)
    with pytest.raises(ConfigError, match="concurrency"):
        ServerSampler("http://localhost", tokenizer, concurrency=0)
