"""`/v1/score`, `/v1/distribution`, `/health`, `/metrics`: one response, one score; refusals say why."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

import pluralign as pl
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, talk, votes_rows
from fake_models import mixed_model
from http_server import running
from pluralign.server import ServerConfig, create_app
from tiny_backbones import tiny_decoder

TEXTS = [talk(f"{x} {y} words of {x}") for x in (-1.5, 0.0, 0.25, 2.0) for y in (0.3, 1.2)]


@pytest.fixture(scope="module")
def model() -> pl.RewardModel:
    return mixed_model([0.1, 0.3, 0.5, 0.7, 0.9])


@pytest.fixture(scope="module")
def server(model):
    with running(create_app(model, ServerConfig(risk="cvar:0.5", max_items=16, max_body_mb=0.05))) as found:
        yield found


def test_scores_are_those_of_the_model_alone_and_in_any_batch(model, server):
    expected = model.score(TEXTS, risk="cvar:0.5").tolist()
    whole = server.post("/v1/score", {"conversations": TEXTS})
    assert (whole.status, list(whole.json)) == (200, ["scores"])
    assert whole.json["scores"] == pytest.approx(expected, abs=1e-5)
    with ThreadPoolExecutor(8) as pool:
        alone = list(pool.map(lambda one: server.post("/v1/score", {"conversations": [one]}).json, TEXTS * 4))
    assert [one["scores"][0] for one in alone] == pytest.approx(expected * 4, abs=1e-5)


def test_each_request_has_its_own_measure_weights_and_steering(model, server):
    asked: list[dict[str, Any]] = [
        {"risk": "mean"},
        {"risk": "cvar:0.4"},
        {"weights": {"a1": 1.0}},
        {"weights": [0.2, 0.8], "risk": "entropic:1"},
        {"steer": {"a0": "quantile:0.3"}},
    ]

    def score(options: dict[str, Any]) -> list[float]:
        found: list[float] = server.post("/v1/score", {"conversations": TEXTS, **options}).json["scores"]
        return found

    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(score, asked * 3))
    for options, scores in zip(asked * 3, found, strict=True):
        expected = model.score(TEXTS, **({"risk": "cvar:0.5"} | options)).tolist()
        assert scores == pytest.approx(expected, abs=1e-5), options


def test_distributions_are_the_models_and_can_be_made_again(model, server):
    answer = server.post("/v1/distribution", {"conversations": TEXTS, "risk": "mean", "levels": [0.2, 0.9]})
    rows = answer.json["distributions"]
    distribution = model.distribution(TEXTS)
    assert [row["mean"] for row in rows] == pytest.approx(distribution.mean().tolist(), abs=1e-5)
    assert [row["std"] for row in rows] == pytest.approx(distribution.std().tolist(), abs=1e-5)
    assert [row["utility"] for row in rows] == pytest.approx(distribution.mean().tolist(), abs=1e-5)
    expected = distribution.quantile(torch.tensor([0.2, 0.9]))
    torch.testing.assert_close(torch.tensor([row["quantiles"] for row in rows]), expected)
    (kind,) = {row["kind"] for row in rows}
    again = getattr(pl, kind)(
        torch.tensor([row["parameters"]["values"] for row in rows]), rows[0]["parameters"]["levels"]
    )
    torch.testing.assert_close(again.cvar(0.3), distribution.cvar(0.3))


FAMILIES: dict[str, dict[str, Any]] = {
    "bradley_terry": {"l2": 0.01},
    "categorical": {"l2": 0.003, "steps": 5, "baselines": False},
    "gaussian_ensemble": {"l2": 0.1, "std_l2": 0.1, "heads": 2, "steps": 5, "baselines": False},
    "regression": {"l2": 0.1, "baselines": False},
}


@pytest.mark.filterwarnings("ignore::pluralign.errors.PluralignWarning")
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_is_served(family):
    table: dict[str, Any] = (
        {"pairs": pl.load_pairs(pairs_rows())}
        if family == "bradley_terry"
        else {"ratings": pl.load_ratings(ratings_rows())}
    )
    model = pl.fit(
        family, **table, backbone=FakeBackbone(), config=FAMILIES[family], cache=None, progress=False
    )
    distribution = model.distribution(TEXTS)
    with running(create_app(model)) as server:
        scores = server.post("/v1/score", {"conversations": TEXTS}).json["scores"]
        rows = server.post("/v1/distribution", {"conversations": TEXTS}).json["distributions"]
    assert scores == pytest.approx(distribution.mean().tolist(), abs=1e-5)
    parameters = {
        name: torch.tensor([row["parameters"][name] for row in rows]) for name in rows[0]["parameters"]
    }
    again = getattr(pl, rows[0]["kind"])(**parameters)
    torch.testing.assert_close(again.std(), distribution.std())


@pytest.mark.filterwarnings("ignore::pluralign.errors.PluralignWarning")
def test_ensembles_and_combinations_are_served():
    ratings, votes = pl.load_ratings(ratings_rows()), pl.load_comparisons(votes_rows())
    options: dict[str, Any] = {"backbone": FakeBackbone(), "cache": None, "progress": False}
    ensemble = pl.fit(
        "quantile", ratings=ratings, ensemble=2, config={"l1": 0.003, "baselines": False}, **options
    )
    other = pl.fit(
        "categorical", votes=votes, config={"l2": 0.003, "steps": 5, "baselines": False}, **options
    )
    reference = [talk(f"{x / 10} {y}") for x in range(-20, 21) for y in (0.3, 1.2)]
    both = pl.combine([ensemble, other], reference)
    with running(create_app(ensemble)) as server:
        row = server.post("/v1/distribution", {"conversations": TEXTS[:1]}).json["distributions"][0]
    members = [
        getattr(pl, one["kind"])(torch.tensor([one["parameters"]["values"]]), one["parameters"]["levels"])
        for one in row["members"]
    ]
    again = pl.distributions.Ensemble(members, row["parameters"]["weights"])
    torch.testing.assert_close(again.std(), ensemble.distribution(TEXTS[:1]).std())
    with running(create_app(both)) as server:
        found = server.post("/v1/score", {"conversations": TEXTS, "risk": "cvar:0.2"}).json["scores"]
        refused = server.post("/v1/score", {"conversations": TEXTS, "weights": [1.0]})
    assert found == pytest.approx(both.score(TEXTS, risk="cvar:0.2").tolist(), abs=1e-5)
    assert (refused.status, "one reward model" in refused.json["error"]["message"]) == (422, True)


@pytest.mark.parametrize(
    ("body", "status", "message", "allowed"),
    [
        ({"conversations": TEXTS, "risk": "cvr:0.1"}, 422, "did you mean 'cvar'", "cvar:<fraction>"),
        ({"conversations": TEXTS, "risk": "cvar:2"}, 422, "(0, 1]", None),
        (
            {"conversations": TEXTS, "risk": "worst_case(" * 3000},
            422,
            "risk: String should have at most 200",
            None,
        ),
        ({"conversations": TEXTS, "risk": "x" * 200}, 422, f"measure '{'x' * 80}...'", "mean"),
        ({"conversations": TEXTS, "steer": {"a0": "m" * 201}}, 422, "steer.a0: String should have", None),
        ({"conversations": TEXTS, "risk": "worst_case"}, 422, "worst_case compares heads", None),
        ({"conversations": TEXTS, "weights": {"a9": 1}}, 422, "a9", "a0"),
        ({"conversations": TEXTS, "weights": {"a0": -1}}, 422, "weight", None),
        ({"conversations": TEXTS, "steer": {"a0": "entropic:1"}}, 422, "steer", None),
        ({"conversations": TEXTS, "rsik": "mean"}, 422, "rsik", None),
        ({"conversations": []}, 422, "conversations", None),
        ({"conversations": [[]]}, 422, "conversations[0]", None),
        ({"conversations": [[{"role": "user", "content": "x"}]]}, 422, "must be the response", None),
        ({"conversations": [[{"role": "assistant"}]]}, 422, "message 0 of conversation 0", None),
        ({"conversations": [[{"role": 3, "content": "x"}]]}, 422, "conversations[0][0].role", None),
        ({"conversations": TEXTS * 3}, 422, "allowed: at most 16", None),
        ({"texts": TEXTS}, 422, "conversations: Field required", None),
        ([], 422, "object", None),
        (b"", 400, "not JSON", None),
        (b'{"conversations": ', 400, "not JSON", None),
        (b'{"conversations": "\xff\xfe"}', 400, "not JSON", None),
        (b'{"conversations": [[{"role": "assistant", "content": "\\ud83d"}]]}', 400, "not JSON", None),
        (b'{"conversations": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", 400, "not JSON", None),
        (b'{"conversations": [], "weights": {"a0": NaN}}', 422, "weights", None),
        ({"conversations": [talk("1 1 " + "long " * 20_000)]}, 413, "larger than", None),
    ],
)
def test_bad_input_is_refused_with_the_reason(server, body, status, message, allowed):
    answer = server.post("/v1/score", body)
    assert answer.status == status, answer.body
    error = answer.json["error"]
    assert message in error["message"], error
    assert set(error) <= {"message", "allowed"}
    if allowed is not None:
        assert allowed in error["allowed"]
    assert server.post("/v1/score", {"conversations": TEXTS}).status == 200


def test_paths_and_methods_that_do_not_exist(server):
    assert "/v1/score" in server.get("/v2/score").json["error"]["allowed"]
    assert server.get("/v2/score").status == 404
    assert server.get("/v1/score").status == 405
    assert "error" in server.get("/v1/score").json


def test_a_conversation_that_cannot_be_scored_takes_no_other_with_it():
    class Picky:
        def __init__(self) -> None:
            self.batches: list[int] = []

        def distribution(self, conversations):
            time.sleep(0.05)
            self.batches.append(len(conversations))
            texts = [one[-1]["content"] for one in conversations]
            if "poison" in texts:
                raise pl.errors.ArgumentError("a text that is not liked")
            if "bug" in texts:
                raise KeyError("the text was: bug")
            return pl.Point([float(len(text)) for text in texts])

    texts = ["a", "poison", "bb", "bug", "ccc", "dddd"] * 3
    scorer = Picky()
    with running(create_app(scorer, ServerConfig(window_ms=50))) as server, ThreadPoolExecutor(18) as pool:
        found = list(pool.map(lambda text: server.post("/v1/score", {"conversations": [talk(text)]}), texts))
    assert max(scorer.batches) > 1
    for text, answer in zip(texts, found, strict=True):
        if text == "poison":
            assert (answer.status, answer.json["error"]["message"]) == (422, "a text that is not liked")
        elif text == "bug":
            assert (answer.status, "KeyError in the server" in answer.json["error"]["message"]) == (500, True)
        else:
            assert answer.json == {"scores": [float(len(text))]}


class Held:
    """A scorer that waits until it may go on."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()

    def distribution(self, conversations):
        self.go.wait(30)
        return pl.Point([float(len(one[-1]["content"])) for one in conversations])


def test_too_much_that_waits_is_429_with_a_time_to_come_again():
    scorer = Held()
    config = ServerConfig(max_waiting=4, batch_tokens=1, window_ms=0)
    with running(create_app(scorer, config)) as server, ThreadPoolExecutor(12) as pool:
        scorer.go.clear()
        first = [pool.submit(server.post, "/v1/score", {"conversations": [talk("abc")]}) for _ in range(12)]
        while sum(one.done() for one in first) < 7:
            time.sleep(0.01)
        refused = [one.result() for one in first if one.done()]
        scorer.go.set()
        rest = [one.result() for one in first]
    assert {answer.status for answer in refused} == {429}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert [answer.json for answer in rest if answer.status == 200] == [{"scores": [3.0]}] * 5


def test_a_request_that_takes_too_long_is_given_up():
    scorer = Held()
    with running(create_app(scorer, ServerConfig(timeout=0.2))) as server:
        scorer.go.clear()
        answer = server.post("/v1/score", {"conversations": [talk("abc")]})
        scorer.go.set()
        assert (answer.status, "busy" in answer.json["error"]["message"]) == (503, True)
        assert server.post("/v1/score", {"conversations": [talk("ab")]}).json == {"scores": [2.0]}


def test_health_is_200_only_once_it_scores():
    go = threading.Event()

    def load():
        go.wait(30)
        return Held()

    with running(create_app(load), ready=False) as server:
        assert (server.get("/health").status, server.get("/health").json) == (503, {"status": "loading"})
        refused = server.post("/v1/score", {"conversations": TEXTS})
        assert (refused.status, "is being loaded" in refused.json["error"]["message"]) == (503, True)
        assert "retry-after" in refused.headers
        go.set()
        server.wait_until_ready()
        assert server.get("/health").json == {"status": "ready", "risk": "mean", "attributes": []}
        assert server.post("/v1/score", {"conversations": TEXTS}).status == 200

    def broken():
        raise pl.errors.ArtifactError("no such model")

    with running(create_app(broken), ready=False) as server:
        while server.get("/health").json != {"status": "failed"}:
            time.sleep(0.01)
        assert server.get("/health").status == 503


def test_a_bulk_does_not_hold_up_single_requests():
    class Slow(Held):
        def distribution(self, conversations):
            time.sleep(0.002 * len(conversations))
            return super().distribution(conversations)

    order: list[str] = []

    def ask(server, name, count):
        assert server.post("/v1/score", {"conversations": [talk(name)] * count}).status == 200
        order.append(name)

    with running(create_app(Slow(), ServerConfig(batch_tokens=160))) as server, ThreadPoolExecutor(2) as pool:
        bulk = pool.submit(ask, server, "bulk", 500)
        time.sleep(0.1)
        pool.submit(ask, server, "single", 1).result()
        bulk.result()
    assert order == ["single", "bulk"]


def test_a_token_is_asked_for_everywhere_but_at_health(model):
    asked = {"conversations": TEXTS[:1]}
    with running(create_app(model, token="sésame"), ready=True) as server:
        password = base64.b64encode("any:sésame".encode()).decode()
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Bearer"},
            {"Authorization": "Basic !!"},
            {"Authorization": "Digest sésame"},
        ):
            for method, path in (
                ("POST", "/v1/score"),
                ("GET", "/metrics"),
                ("GET", "/openapi.json"),
                ("GET", "/x"),
            ):
                encoded = {name: value.encode().decode("latin-1") for name, value in headers.items()}
                answer = server.send(method, path, asked if method == "POST" else None, encoded)
                assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        right = {"Authorization": "Bearer sésame".encode().decode("latin-1")}
        assert server.send("POST", "/v1/score", asked, right).status == 200
        assert server.send("POST", "/v1/score", asked, {"Authorization": f"Basic {password}"}).status == 200


def test_what_users_write_is_never_logged(model, server, caplog):
    caplog.set_level(logging.DEBUG)
    secret = "xyzzy-plugh"
    server.post("/v1/score", {"conversations": [talk(f"1 1 {secret}")]})
    server.post("/v1/score", {"conversations": [talk(f"no number {secret}")]})
    server.post("/v1/score", {"conversations": [talk("1 1")], "risk": secret})
    server.post("/v1/score", secret.encode())
    server.post(f"/v1/{secret}", {})
    assert secret not in caplog.text
    assert secret not in server.get("/metrics").body.decode()


def test_metrics_count_requests_and_batches(model):
    with running(create_app(model)) as server:
        server.post("/v1/score", {"conversations": TEXTS})
        server.post("/v1/score", {"conversations": []})
        text = server.get("/metrics").body.decode()
    assert 'pluralign_requests_total{path="/v1/score",status="200"} 1.0' in text
    assert 'pluralign_requests_total{path="/v1/score",status="422"} 1.0' in text
    assert f"pluralign_conversations_total {float(len(TEXTS))}" in text
    assert "pluralign_ready 1.0" in text


def test_openapi_describes_the_routes_with_examples(server):
    page = server.get("/openapi.json").json
    assert {"/v1/score", "/v1/distribution", "/health", "/metrics"} <= set(page["paths"])
    score = page["paths"]["/v1/score"]["post"]
    content = score["requestBody"]["content"]["application/json"]
    assert content["schema"] == {"$ref": "#/components/schemas/ScoreRequest"}
    for value in [example["value"] for example in content["examples"].values()]:
        value["conversations"][0][-1]["content"] = "1 2 as the fake backbone wants numbers"
        assert server.post("/v1/score", value | {"risk": "mean"}).status == 200
    references = {part.split('"')[0] for part in json.dumps(page).split("#/components/schemas/")[1:]}
    assert references <= set(page["components"]["schemas"])


def test_texts_that_were_cut_off_are_named():
    class Cutting(FakeBackbone):
        def embed(self, conversations, **options):
            found = super().embed(conversations, **options)
            found.truncated[:] = torch.tensor([len(one[-1]["content"]) > 20 for one in conversations])
            return found

    model = pl.fit(
        "quantile",
        ratings=pl.load_ratings(ratings_rows()),
        backbone=Cutting(),
        config={"l1": 0.003, "baselines": False},
        cache=None,
        progress=False,
    )
    asked = [talk("1 1 short"), talk("1 1 a long one that is cut off"), talk("1 1")]
    with running(create_app(model)) as server:
        answer = server.post("/v1/score", {"conversations": asked}).json
        assert answer["truncated"] == [1]
        assert "pluralign_truncated_total 1.0" in server.get("/metrics").body.decode()


def test_more_tokens_than_may_be_are_refused_and_counted_by_the_models_tokenizer(
    model, tmp_path, monkeypatch
):
    body = {"conversations": [talk("1 1 " + "word " * 200)]}
    with running(create_app(model, ServerConfig(max_tokens=100))) as server:  # no tokenizer: by the length
        answer = server.post("/v1/score", body)
        assert (answer.status, "allowed: at most 100 a request" in answer.json["error"]["message"]) == (
            422,
            True,
        )
        assert server.post("/v1/score", {"conversations": [talk("1 1 word")]}).status == 200
    backbone = tiny_decoder(tmp_path)
    count = len(
        backbone.tokenizer(body["conversations"][0][-1]["content"], add_special_tokens=False).input_ids
    )
    counted = count + len(backbone.tokenizer("hello", add_special_tokens=False).input_ids)

    class Reader:
        def __init__(self) -> None:
            self.backbone = backbone

        def distribution(self, conversations):
            return pl.Point([1.0] * len(conversations))

    seen = []
    read = backbone.tokenizer.__class__.__call__
    monkeypatch.setattr(
        backbone.tokenizer.__class__,
        "__call__",
        lambda self, text, **k: seen.append(len(text)) or read(self, text, **k),
    )
    with running(create_app(Reader(), ServerConfig(max_tokens=50, max_body_mb=2))) as server:
        refused = server.post("/v1/score", {"conversations": [talk("word " * 300_000)]})
        assert (refused.status, "tokens or more" in refused.json["error"]["message"]) == (422, True)
        assert sum(seen) <= 65_536 + len("hello")  # not 1.5 million characters, for which others would wait
    for limit, status in ((counted, 200), (counted - 1, 422)):
        with running(create_app(Reader(), ServerConfig(max_tokens=limit))) as server:
            assert server.post("/v1/score", body).status == status
