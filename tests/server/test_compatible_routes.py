"""Endpoints for other software: the same score as ours, or 422 with the reason; requests are held."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import pluralign as pl
from fake_backbone import FakeBackbone, ratings_rows
from http_server import running
from pluralign.server import ServerConfig, create_app
from tiny_tokenizers import make_tokenizer

PROMPT = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "Hello"}]
TALKS = [[*PROMPT, {"role": "assistant", "content": f"{x} 0.5 words"}] for x in (-1.0, 0.0, 0.5, 2.0)]


@pytest.fixture(scope="module")
def model():
    return pl.fit(
        "quantile",
        ratings=pl.load_ratings(ratings_rows()),
        backbone=FakeBackbone(),
        config={"l1": 0.003, "levels": [0.1, 0.3, 0.5, 0.7, 0.9], "baselines": False},
        cache=None,
        progress=False,
    )


@pytest.fixture(scope="module")
def server(model):
    tokenizer = make_tokenizer("llama-3")
    with running(create_app(model, ServerConfig(risk="cvar:0.5"), policy_tokenizer=tokenizer)) as found:
        yield found


def written() -> tuple[list[str], list[str]]:
    """The texts and prompts as a policy's tokenizer decodes them."""
    tokenizer = make_tokenizer("llama-3")
    before = tokenizer.apply_chat_template(PROMPT, tokenize=False, add_generation_prompt=True)
    return [f"{before}{talk[-1]['content']}<|eot_id|>" for talk in TALKS], [before] * len(TALKS)


def test_one_response_has_one_score_by_every_face(model, server):
    expected = model.score(TALKS, risk="cvar:0.5").tolist()
    texts, prompts = written()
    whole = server.post("/get_reward", {"query": texts, "prompts": prompts, "labels": [""] * 4}).json
    bare = server.post("/get_reward", {"query": texts}).json
    assert server.post("/v1/score", {"conversations": TALKS}).json["scores"] == pytest.approx(
        expected, abs=1e-5
    )
    distribution = model.distribution(TALKS)
    for found in (whole, bare):
        assert found["rewards"] == pytest.approx(expected, abs=1e-5)
        assert found["scores"] == found["rewards"]
        assert found["extra_logs"]["reward_std"] == pytest.approx(distribution.std().tolist(), abs=1e-5)
        assert found["extra_logs"]["reward_mean"] == pytest.approx(distribution.mean().tolist(), abs=1e-5)
    rows = server.post("/classify", {"model": "m", "input": texts, "use_activation": False}).json
    assert [row["probs"] for row in rows["data"]] == [pytest.approx([one], abs=1e-5) for one in expected]
    assert [(row["index"], row["num_classes"]) for row in rows["data"]] == [(i, 1) for i in range(4)]
    assert rows["model"] == "m"
    single = server.post("/classify", {"input": texts[2]}).json
    assert single["data"][0]["probs"] == pytest.approx([expected[2]], abs=1e-5)
    llama = server.post("/llama_factory", {"model": "model", "messages": texts}).json
    assert llama["scores"] == pytest.approx(expected, abs=1e-5)
    other = server.post("/get_reward?risk=mean", {"query": texts}).json
    assert other["rewards"] == pytest.approx(distribution.mean().tolist(), abs=1e-5)


def test_one_query_a_request_over_many_connections_is_scored_in_batches(model, server):
    texts, prompts = written()
    expected = model.score(TALKS, risk="cvar:0.5").tolist() * 10

    def ask(place: int) -> float:
        body = {"query": [texts[place % 4]], "prompts": [prompts[0]], "labels": [None]}
        answer = server.post("/get_reward", body)
        reward: float = answer.json["rewards"][0]
        return reward

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(ask, range(40))) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/get_reward", {"query": ["no template at all"]}, "text 0: nothing in the text marks the start"),
        ("/get_reward", {"query": written()[0][:1], "prompts": ["Hello"]}, "does not begin with its prompt"),
        ("/get_reward", {"query": written()[0], "prompts": ["Hello"]}, "4 texts and 1 prompts"),
        ("/get_reward", {"query": []}, "query"),
        ("/get_reward", {"query": "text"}, "query"),
        ("/classify", {"input": []}, "input"),
        ("/classify", {"input": 3}, "input"),
        ("/classify", {"input": [written()[0][0], "rest of a text"]}, "text 1: nothing in the text marks"),
        ("/llama_factory", {"messages": [written()[0][0] + "<|eot_id|>more"]}, "not certain where it ends"),
        ("/get_reward?risk=cvr:0.1", {"query": written()[0]}, "did you mean 'cvar'"),
    ],
)
def test_what_is_not_certain_is_422_with_the_reason(server, path, body, message):
    answer = server.post(path, body)
    assert (answer.status, message in answer.json["error"]["message"]) == (422, True), answer.body


def test_a_measure_that_is_no_measure(server):
    texts, prompts = written()
    for measure, words in (("cvr:0.1", "did you mean 'cvar'"), ("m" * 9999, "allowed: at most 200")):
        answer = server.post(f"/get_reward?risk={measure}", {"query": texts, "prompts": prompts})
        assert (answer.status, words in answer.json["error"]["message"]) == (422, True)
        assert len(answer.body) < 1000


def test_a_server_that_does_not_know_the_policy_refuses_texts(model):
    texts, prompts = written()
    with running(create_app(model)) as server:
        answer = server.post("/get_reward", {"query": texts, "prompts": prompts})
        assert (answer.status, "--policy_tokenizer" in answer.json["error"]["message"]) == (422, True)


def test_prompts_of_plain_text(model):
    expected = model.score([TALKS[3]]).tolist()
    with running(create_app(model, policy_tokenizer="none")) as server:
        found = server.post("/get_reward", {"query": ["Hello: 2.0 0.5 words"], "prompts": ["Hello: "]}).json
        assert found["rewards"] == pytest.approx(expected, abs=1e-5)
        refused = server.post("/classify", {"input": "Hello: 2.0 0.5 words"})
        assert (refused.status, "plain text" in refused.json["error"]["message"]) == (422, True)


class Held:
    """A scorer that waits until it may go on."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def distribution(self, conversations):
        self.go.wait(30)
        return pl.Point([float(len(one[-1]["content"])) for one in conversations])


def test_requests_are_held_while_the_model_loads_and_while_too_much_waits():
    scorer = Held()
    load = threading.Event()

    def loaded():
        load.wait(30)
        return scorer

    config = ServerConfig(max_waiting=2, batch_tokens=1, window_ms=0)
    app = create_app(loaded, config, policy_tokenizer="none")
    with running(app, ready=False) as server, ThreadPoolExecutor(12) as pool:
        body = {"query": ["ab: long"], "prompts": ["ab: "]}
        early = [pool.submit(server.post, "/get_reward", body) for _ in range(6)]
        time.sleep(0.2)
        load.set()
        late = [pool.submit(server.post, "/get_reward", body) for _ in range(6)]
        time.sleep(0.2)
        assert not any(one.done() for one in early + late)
        scorer.go.set()
        assert [one.result().json["rewards"] for one in early + late] == [[4.0]] * 12


def test_what_is_held_has_a_bound(monkeypatch):
    """Four texts, while the model loads and after that; a request that is larger alone gets in alone."""
    scorer, load = Held(), threading.Event()

    def loaded():
        load.wait(30)
        return scorer

    body = {"query": ["ab: long"], "prompts": ["ab: "]}
    large = {"query": ["ab: long"] * 6, "prompts": ["ab: "] * 6}
    app = create_app(loaded, ServerConfig(max_held=4), policy_tokenizer="none")
    with running(app, ready=False) as server, ThreadPoolExecutor(5) as pool:
        held = [pool.submit(server.post, "/get_reward", body) for _ in range(4)]
        while "pluralign_open_requests 5.0" not in server.get("/metrics").body.decode():
            time.sleep(0.01)
        for path, more in (
            ("/get_reward", body),
            ("/classify", {"input": "x"}),
            ("/llama_factory", {"messages": ["x"]}),
        ):
            answer = server.post(path, more)
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        load.set()
        scorer.go.set()
        assert [one.result().json["rewards"] for one in held] == [[4.0]] * 4
        assert server.post("/get_reward", large).json["rewards"] == [4.0] * 6


def test_what_is_held_too_long_is_503_at_last():
    scorer = Held()
    with running(
        create_app(lambda: scorer, ServerConfig(hold=0.3), policy_tokenizer="none"), ready=False
    ) as server:
        begun = time.monotonic()
        answer = server.post("/get_reward", {"query": ["ab: long"], "prompts": ["ab: "]})
        assert answer.status == 503
        assert time.monotonic() - begun >= 0.3
        scorer.go.set()
