"""`/v1/votes` and `/v1/posterior`: who may vote on what, and what is refused."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import pluralign as pl
from fake_backbone import FakeBackbone, ratings_rows, talk
from http_server import running
from pluralign.server.app import build
from pluralign.server.config import ServerConfig
from pluralign.server.scoring import Predictor
from pluralign.server.vote_routes import VoteDesk
from pluralign.server.votes import Item, Vote, VoteStore, item_id

TALKS = [talk("1.5 1 words"), talk("-1 0.5 more words")]


@pytest.fixture(scope="module")
def model():
    return pl.fit(
        "categorical",
        ratings=pl.load_ratings(ratings_rows(attributes=2)),
        backbone=FakeBackbone(),
        config={"l2": 0.003, "steps": 5, "baselines": False},
        cache=None,
        progress=False,
    )


def desk(path: Path, token: str | None = None, voters: dict[str, str] | None = None) -> VoteDesk:
    return VoteDesk(VoteStore(path / "votes.sqlite"), token, voters)


def ballot(identity: str, category: Any = 0, **more: Any) -> dict[str, Any]:
    return {"id": identity, "conversation": TALKS[0], "attribute": "a0", "category": category, **more}


def test_votes_move_the_posterior_of_a_model(model, tmp_path):
    with running(build(model, ServerConfig(), desk=desk(tmp_path))) as server:
        names = list(model.head.categories_of("a0").names)
        asked = {"votes": [ballot("1", names[-1], voter="ann"), ballot("2", len(names) - 1, voter="bob")]}
        answer = server.post("/v1/votes", asked)
        item = item_id(TALKS[0], "a0")
        assert (answer.status, answer.json) == (200, {"accepted": 2, "duplicates": 0, "items": [item, item]})
        assert server.post("/v1/votes", asked).json["duplicates"] == 2
        found = server.get(f"/v1/posterior?item={item}").json
        distribution = model.attribute_distributions(TALKS)["a0"]
        prior = distribution.point_masses()[1][0]
        assert found["prior"] == pytest.approx(prior.tolist(), abs=1e-6)
        expected = 5 * prior.double() / prior.double().sum()
        expected[-1] += 2
        assert found["posterior"] == pytest.approx((expected / expected.sum()).tolist(), abs=1e-5)
        assert server.get("/v1/posterior").json["items"] == [{"item": item, "attribute": "a0", "votes": 2}]
        assert server.get("/v1/posterior?item=no").status == 404
        assert server.get("/v1/posterior?limit=0").status == 422
    with running(build(model, ServerConfig(), desk=desk(tmp_path))) as server:  # after a new start
        assert server.get(f"/v1/posterior?item={item}").json["posterior"] == pytest.approx(found["posterior"])


@pytest.mark.parametrize(
    ("row", "status", "message", "allowed"),
    [
        (ballot("1"), 422, "voter is missing", False),
        (ballot("1", "superb", voter="ann"), 422, "no such category", True),
        (ballot("1", 99, voter="ann"), 422, "no such category", True),
        (ballot("1", -1, voter="ann"), 422, "greater than or equal to 0", False),
        (ballot("1", 1.5, voter="ann"), 422, "category", False),
        (ballot("1", voter="ann") | {"attribute": "a9"}, 422, "no such attribute", True),
        ({k: v for k, v in ballot("1", voter="ann").items() if k != "attribute"}, 422, "several", True),
        (ballot("1", voter="ann", time=1e12), 422, "not in the past", False),
        (ballot("1", voter="ann", time=-5), 422, "not in the past", False),
        (
            ballot("1", voter="ann") | {"conversation": [{"role": "user", "content": "x"}]},
            422,
            "response",
            False,
        ),
        (ballot("", voter="ann"), 422, "id", False),
        (ballot("1", voter="ann", weight=3), 422, "weight", False),
    ],
)
def test_votes_that_make_no_sense_are_refused(model, tmp_path, row, status, message, allowed):
    with running(build(model, ServerConfig(), desk=desk(tmp_path))) as server:
        good = ballot("good", voter="ann")
        answer = server.post("/v1/votes", {"votes": [good, row]})
        assert (answer.status, message in answer.json["error"]["message"]) == (status, True), answer.body
        assert ("allowed" in answer.json["error"]) == allowed
        assert server.get("/v1/posterior").json == {"items": []}  # nor the good one


def test_who_may_vote_is_a_token(model, tmp_path):
    people = {"ann": "a-token", "bob": "b-token"}
    app = build(model, ServerConfig(), token="server", desk=desk(tmp_path, "server", people))
    with running(app) as server:

        def send(row: dict[str, Any], token: str | None) -> Any:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            return server.send("POST", "/v1/votes", {"votes": [row]}, headers)

        assert send(ballot("1"), None).status == 401
        assert send(ballot("1"), "wrong").status == 401
        assert send(ballot("1"), "a-token").json["accepted"] == 1
        assert send(ballot("2", voter="ann"), "b-token").status == 422
        assert send(ballot("2", voter="bob"), "b-token").json["accepted"] == 1
        assert send(ballot("3", voter="zoe"), "server").json["accepted"] == 1
        assert send(ballot("1", 2), "b-token").status == 409  # ann's vote
        own = {"Authorization": "Bearer a-token"}
        assert server.send("POST", "/v1/score", {"conversations": TALKS}, own).status == 401
        found = server.send(
            "GET", f"/v1/posterior?item={item_id(TALKS[0], 'a0')}", None, {"Authorization": "Bearer server"}
        )
        assert found.json["voters"] == 3


def test_without_a_file_or_categories_there_is_nothing_to_vote_for(model, tmp_path):
    with running(build(model, ServerConfig())) as server:
        assert server.post("/v1/votes", {"votes": [ballot("1", voter="ann")]}).status == 404
        assert "--votes FILE" in server.get("/v1/posterior").json["error"]["message"]
    other = pl.fit(
        "regression",
        ratings=pl.load_ratings(ratings_rows()),
        backbone=FakeBackbone(),
        config={"l2": 0.1, "baselines": False},
        cache=None,
        progress=False,
    )
    with running(build(other, ServerConfig(), desk=desk(tmp_path))) as server:
        refused = server.post("/v1/votes", {"votes": [ballot("1", voter="ann")]})
        assert (refused.status, "no categories" in refused.json["error"]["message"]) == (422, True)


def test_a_full_disk_is_507_and_scores_go_on(model, tmp_path):
    at = desk(tmp_path)
    at.store._connection.execute("PRAGMA max_page_count = 8")
    with running(build(model, ServerConfig(), desk=at)) as server:
        statuses = []
        for n in range(200):
            rows = [ballot(f"{n} {m} {'x' * 150}", voter=f"{m}") for m in range(10)]
            statuses.append(server.post("/v1/votes", {"votes": rows}).status)
            if statuses[-1] != 200:
                break
        assert statuses[-1] == 507
        assert server.post("/v1/score", {"conversations": TALKS}).status == 200
        assert server.get("/v1/posterior").json["items"][0]["votes"] == 10 * statuses.count(200)


def test_a_file_that_is_gone_is_503_and_no_vote_is_acknowledged(model, tmp_path):
    with running(build(model, ServerConfig(), desk=desk(tmp_path))) as server:
        (tmp_path / "votes.sqlite").unlink()
        answer = server.post("/v1/votes", {"votes": [ballot("1", voter="ann")]})
        assert (answer.status, answer.headers["retry-after"]) == (503, "60")
        assert "was removed or replaced" in answer.json["error"]["message"]
        assert server.post("/v1/score", {"conversations": TALKS}).status == 200


def test_many_votes_are_predicted_in_turns_with_what_others_ask(model, tmp_path, monkeypatch):
    """At most 32 conversations at once, and scores of others between them."""
    read, order = Predictor.category_probs, []

    def slow(self, conversations):
        order.append(len(conversations))
        time.sleep(0.1)
        return read(self, conversations)

    monkeypatch.setattr(Predictor, "category_probs", slow)
    rows = [ballot(str(n), voter="ann") | {"conversation": talk(f"{n / 50} 1 words")} for n in range(100)]
    with running(build(model, ServerConfig(), desk=desk(tmp_path))) as server, ThreadPoolExecutor(1) as pool:
        votes = pool.submit(server.post, "/v1/votes", {"votes": rows})
        while not order:
            time.sleep(0.001)
        assert server.post("/v1/score", {"conversations": TALKS}).status == 200
        assert len(order) < 4
        assert votes.result().json["accepted"] == 100
        assert order == [32, 32, 32, 4]
        item = votes.result().json["items"][77]
        expected = model.attribute_distributions([rows[77]["conversation"]])["a0"].point_masses()[1][0]
        assert server.get(f"/v1/posterior?item={item}").json["prior"] == pytest.approx(
            expected.tolist(), abs=1e-5
        )


def test_web_pages_of_elsewhere_cannot_vote_through_a_browser(model, tmp_path):
    body = {"votes": [ballot("1", voter="ann")]}
    with running(build(model, ServerConfig(), desk=desk(tmp_path))) as server:
        assert server.post("/v1/votes", body, Origin="https://example.com").status == 403
        assert server.post("/v1/votes", body, Origin="null").status == 403
        assert server.post("/v1/votes", body, Origin="http://localhost:3000").status == 200


def test_votes_for_other_categories_are_not_mixed(model, tmp_path):
    item = item_id(TALKS[0], "a0")
    store = VoteStore(tmp_path / "votes.sqlite")
    store.add([Vote("old", item, "ann", 0, 0.0)], [Item(item, "a0", ("no", "yes"), (0.5, 0.5))])
    store.close()
    with running(build(model, ServerConfig(), desk=desk(tmp_path))) as server:
        answer = server.post("/v1/votes", {"votes": [ballot("1", voter="bob")]})
        assert (answer.status, "other categories" in answer.json["error"]["message"]) == (409, True)


def test_texts_are_not_stored(model, tmp_path):
    secret = "1 1 xyzzy-plugh"
    with running(build(model, ServerConfig(), desk=desk(tmp_path))) as server:
        server.post("/v1/votes", {"votes": [ballot("1", voter="ann") | {"conversation": talk(secret)}]})
    for file in tmp_path.iterdir():
        assert b"xyzzy" not in file.read_bytes()
