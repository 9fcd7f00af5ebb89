"""The explorer over HTTP: what it answers, its limits, its headers, and refusals in the words of the page."""

from __future__ import annotations

import hashlib
import html
import json
import re
import threading
import time
from collections.abc import Iterator
from importlib import resources
from typing import Any
from urllib.parse import urlencode

import pytest

import pluralign as pl
from explorer_client import FORM, RESPONSES, exported, fields, key_of, post, said
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, talk, votes_rows
from http_server import Server, running
from pluralign.server import ServerConfig, create_app
from pluralign.server.explorer.pages import ASSETS

OPTIONS: dict[str, Any] = {"cache": None, "progress": False}


def fitted(**options: Any) -> pl.RewardModel:
    return pl.fit(
        "quantile",
        ratings=pl.load_ratings(ratings_rows(attributes=2)),
        backbone=options.pop("backbone", None) or FakeBackbone(),
        config={"l1": 0.003, "levels": [0.1, 0.3, 0.5, 0.7, 0.9], "gate_steps": 20, "baselines": False},
        **OPTIONS,
        **options,
    )


@pytest.fixture(scope="module")
def model() -> pl.RewardModel:
    return fitted(pairs=pl.load_pairs(pairs_rows()))


@pytest.fixture(scope="module")
def server(model: pl.RewardModel) -> Iterator[Server]:
    with running(create_app(model, ServerConfig(risk="cvar:0.5", max_body_mb=0.2))) as found:
        yield found


def test_the_page_loads_nothing_from_elsewhere_and_evaluates_nothing(server):
    answer = server.get("/")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    text = answer.body.decode()
    assert not re.findall(r"https?://", text)
    assert not re.findall(r"<script(?![^>]* src=)", text)
    assert not re.findall(r' (?:style|on\w+)="', text)
    for path in re.findall(r'(?:src|href)="(/[^"]+)"', text):
        found = server.get(path)
        assert found.status == 200, path
        assert found.headers["content-type"] == ASSETS[path.split("/")[-1].split("?")[0]]
        assert found.headers["x-content-type-options"] == "nosniff"


def test_files_of_other_projects_are_the_published_ones():
    """The digests of the files in the packages on npm that LICENSES.txt names."""
    folder = resources.files("pluralign.server.explorer") / "assets"
    named = (folder / "LICENSES.txt").read_text(encoding="utf-8")
    known = {
        "htmx.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
        "vega.min.js": "463f3db6a40b20e9747b4ed38f37ed0add508838f9141b1cf8366784b07b30c8",
        "vega-lite.min.js": "58c27358e26f2d319cf62f45bc17a4c8362f08645001df2ec8d341eee4097c7f",
        "vega-interpreter.min.js": "ee191cf04168e0c043214cea7c4e5ef80e908daa0e757c19c8061df5f898cf89",
    }
    foreign = {one.name for one in folder.iterdir() if one.name.endswith(".min.js")}
    assert foreign == set(known)
    for name, digest in known.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        assert name in named


def test_the_ranking_is_that_of_the_model(model, server):
    talks = [talk(text) for text in RESPONSES]
    for options in (
        {},
        {"risk": "mean"},
        {"risk": "entropic:1"},
        {"weigh": "on", "weight-0": 0.25, "weight-1": 0.75},
        {"steer-0": "quantile:0.25", "risk": "cvar:0.3"},
    ):
        found = exported(server, fields(**options))
        kept = {"weights": found["weights"], "steer": found["steer"]}
        expected = model.score(talks, risk=found["risk"], **{k: v for k, v in kept.items() if v}).tolist()
        assert [row["utility"] for row in found["responses"]] == pytest.approx(expected, abs=1e-5), options
        assert [expected[number - 1] for number in found["order"]] == sorted(expected, reverse=True)
        assert [row["text"] for row in found["responses"]] == list(RESPONSES)
    assert exported(server, fields())["risk"] == "cvar:0.5"  # the server's own


def test_moving_the_measure_does_not_run_the_backbone_again(model):
    backbone = model.backbone
    with running(create_app(model, ServerConfig())) as server:
        key = key_of(post(server, "read", fields()))
        before = len(backbone.embedded)
        for risk in ("mean", "cvar:0.1", "entropic:2", "quantile:0.9"):
            answer = post(server, "rank", {"key": key, "risk": risk})
            assert answer.status == 200
            assert key_of(answer) == key
            ranked = [int(n) for n in re.findall(r"Response (\d)", said(answer).split("Ranking by")[1])][:3]
            expected = exported(server, fields(risk=risk))["order"]
            assert ranked == expected
        again = post(
            server, "rank", {"key": key, "risk": "mean", "weigh": "on", "weight-0": 0, "weight-1": 1}
        )
        assert "Your weights are in use" in said(again)
        exports = 4 * len(RESPONSES)  # they read the texts that they write
        assert len(backbone.embedded) == before + exports


def test_what_is_not_kept_any_more_is_said(model):
    with running(create_app(model, ServerConfig(kept_mb=1e-6))) as server:
        first = key_of(post(server, "read", fields()))
        assert post(server, "rank", {"key": first, "risk": "mean"}).status == 200
        second = key_of(post(server, "read", fields()))
        assert second != first
        gone = post(server, "rank", {"key": first, "risk": "mean"})
        assert gone.status == 410
        assert post(server, "rank", {"key": second, "risk": "mean"}).status == 200
        assert post(server, "rank", {"risk": "mean"}).status == 410


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        (fields(["0 1 a", " \n", "0 1 b", ""]), 422, "Responses 2, 4 are empty. Write something there, or"),
        (fields([""]), 422, "Response 1 is empty. Write something there, or remove it."),
        (fields([]), 422, "There is no response. Add at least one."),
        (fields(prompt=[("user", " ")]), 422, "The prompt is empty."),
        (fields(prompt=[("robot", "hi")]), 422, "Reload the page"),
        (fields(["0 1"] * 101), 422, "There are 101 responses; this page takes at most 100."),
        (fields(prompt=[("user", "x")] * 51), 422, "The prompt has 51 turns"),
        (fields(risk="cvr:0.1"), 422, "did you mean 'cvar'"),
        (fields(risk="cvar:2"), 422, "(0, 1]"),
        (fields(risk="worst_case"), 422, "worst_case compares heads"),
        (fields(risk="x" * 300), 422, "too long to be one"),
        (fields(weigh="on", **{"weight-0": 0, "weight-1": 0}), 422, "All weights are 0."),
        (fields(weigh="on", **{"weight-0": -1, "weight-1": 1}), 422, "The weight of a0 is not a number"),
        (fields(weigh="on", **{"weight-0": "nan"}), 422, "The weight of a0 is not a number"),
        (fields(**{"steer-0": "entropic:1"}), 422, "allowed: mean, median"),
        (fields(["0 1 " + "long " * 60_000]), 413, "larger than 0.2 MB"),
        (b"response=%ff", 400, "not what the page sends"),
        (b"response=0+1&" * 2001, 400, "too many fields"),
        (b"\xff\xfe", 400, "not what the page sends"),
    ],
)
def test_refusals_are_in_the_words_of_the_page(server, form, status, words):
    body = form if isinstance(form, bytes) else urlencode(form).encode()
    answer = server.send("POST", "/explorer/read", body, FORM)
    assert answer.status == status
    assert words in said(answer)
    assert answer.headers["hx-retarget"] == "#problem"
    assert "conversation" not in said(answer)
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_what_is_allowed_is_said_once(server):
    answer = post(server, "read", fields(risk="nonsense"))
    assert said(answer).startswith(
        "Unknown risk measure 'nonsense'. Allowed: mean , median , quantile:<level> ,"
    )
    assert said(answer).count("median") == 1


def test_too_many_tokens_are_refused_in_its_words(model):
    with running(create_app(model, ServerConfig(max_tokens=50, max_items=3))) as server:
        answer = post(server, "read", fields(["0 1 " + "long " * 200]))
        assert (answer.status, "The texts are too long" in said(answer)) == (422, True)
        answer = post(server, "read", fields(["0 1 a"] * 4))
        assert (answer.status, "at most 3 responses at once" in said(answer)) == (422, True)


def test_hostile_texts_are_never_markup(server):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    form = fields([f"0 1 {evil}", "0 1 b"], [("user", evil)], risk=f"<b>{evil[:100]}")
    refused = post(server, "read", form)
    shown = post(server, "read", fields([f"0 1 {evil}", "0 1 b"], [("user", evil)]))
    assert (refused.status, shown.status) == (422, 200)
    for answer in (refused, shown):
        assert "<script" not in answer.body.decode()
        assert "<img" not in answer.body.decode()
    python = post(server, "export?what=python", fields([f"0 1 {evil}"]))
    assert python.headers["content-disposition"].startswith("attachment")
    assert python.headers["x-content-type-options"] == "nosniff"


def test_one_response_and_a_hundred(server):
    one = post(server, "read", fields(RESPONSES[:1]))
    assert one.status == 200
    assert "There is nothing to rank it against; add another." in said(one)
    many = post(server, "read", fields([f"{n / 50 - 1} 0.5 r{n}" for n in range(100)]))
    assert many.status == 200
    assert "The first 12 of 100" in said(many)
    (rewards,) = re.findall(r'data-chart="rewards"[^>]*data-spec=\'([^\']+)\'', many.body.decode())
    spec = json.loads(html.unescape(rewards))
    assert len(spec["encoding"]["y"]["axis"]["values"]) == 100


@pytest.mark.filterwarnings("ignore::pluralign.errors.PluralignWarning")
def test_a_model_without_attributes_says_so():
    scalar = pl.fit(
        "bradley_terry",
        pairs=pl.load_pairs(pairs_rows()),
        backbone=FakeBackbone(),
        config={"l2": 0.01},
        **OPTIONS,
    )
    with running(create_app(scalar)) as server:
        form = said(server.get("/explorer/form"))
        answer = post(server, "read", fields())
        found = exported(server, fields())
        refused = post(server, "read", fields(risk="worst_case"))
    assert "This model has no attributes, so there are no weights to move" in form
    assert "Worst member (needs an ensemble)" in form
    assert "there is nothing to weigh" in said(answer)
    assert "This model gives one number per response" in said(answer)
    assert found["attributes"] == []
    assert found["curves"] is None
    expected = scalar.score([talk(text) for text in RESPONSES]).tolist()
    assert [row["utility"] for row in found["responses"]] == pytest.approx(expected, abs=1e-5)
    assert "worst_case compares heads" in said(refused)


@pytest.mark.filterwarnings("ignore::pluralign.errors.PluralignWarning")
def test_an_ensemble_tells_people_from_doubt():
    ensemble = fitted(ensemble=3)
    with running(create_app(ensemble)) as server:
        form = said(server.get("/explorer/form"))
        answer = said(post(server, "read", fields()))
        found = exported(server, fields(risk="worst_case"))
    parts = ensemble.distribution([talk(text) for text in RESPONSES]).variances()
    rows = found["responses"]
    assert [row["within_std"] ** 2 for row in rows] == pytest.approx(parts.within.tolist(), rel=1e-4)
    assert [row["between_std"] ** 2 for row in rows] == pytest.approx(parts.between.tolist(), rel=1e-4)
    assert "disagreement between the members of the ensemble" in answer
    assert "needs an ensemble" not in form


def test_personas_say_who_objects(model):
    backbone = FakeBackbone()
    people = {
        name: pl.fit(
            "quantile",
            ratings=pl.load_ratings([row for row in ratings_rows(attributes=2) if row["attribute"] == likes]),
            backbone=backbone,
            config={"l1": 0.003, "levels": [0.1, 0.5, 0.9], "baselines": False},
            **OPTIONS,
        )
        for name, likes in (("fan", "a0"), ("critic", "a1"))
    }
    people["shared"] = fitted(backbone=model.backbone)
    with running(create_app(model, personas=people)) as server:
        key = key_of(post(server, "read", fields()))
        answer = said(post(server, "rank", {"key": key, "risk": "mean"}))
        found = exported(server, fields(risk="mean"))["personas"]
    assert [one["name"] for one in found] == ["fan", "critic", "shared"]
    talks = [talk(text) for text in RESPONSES]
    for one in found:
        means = people[one["name"]].distribution(talks).mean().tolist()
        assert [cell["mean"] for cell in one["responses"]] == pytest.approx(means, abs=1e-5)
        assert [cell["objects"] for cell in one["responses"]] == [mean < 0 for mean in means]
        assert means[one["favourites"][0] - 1] == max(means)
    assert "critic would object to response 3" in answer
    assert "They like response 1 best" in answer


@pytest.mark.filterwarnings("ignore::pluralign.errors.PluralignWarning")
def test_a_crowd_of_categories_says_what_objectors_would_call_it():
    rows = [
        row | {"attribute": "category", "scale": [0, 5], "ratings": [5 - one for one in row["ratings"]]}
        for row in ratings_rows()
    ]
    crowd = pl.fit(
        "categorical",
        ratings=pl.load_ratings(rows),
        backbone=FakeBackbone(),
        config={"l2": 0.003, "steps": 20, "baselines": False},
        **OPTIONS,
    )
    held = crowd.head.categories_of("category")
    with running(create_app(crowd)) as server:
        found = exported(server, fields())
        answer = said(post(server, "read", fields()))
    probs = crowd.attribute_distributions([talk(text) for text in RESPONSES])["category"].point_masses()[1]
    first = found["order"][0] - 1
    objecting = [n for n, reward in enumerate(held.rewards) if reward < crowd.head.reference.mean]
    assert 0 < len(objecting) < len(held.names)
    below = found["responses"][first]["below_average"]
    assert below == pytest.approx(float(probs[first, objecting].sum()), abs=1e-5)
    assert "By category, people who object would call it:" in answer
    for place in objecting:
        assert f"{held.names[place]} ({float(probs[first, place]):.0%})" in answer


def test_sources_of_a_combination_are_its_personas(model):
    other = pl.fit(
        "categorical",
        votes=pl.load_comparisons(votes_rows()),
        backbone=FakeBackbone(),
        config={"l2": 0.003, "steps": 5, "baselines": False},
        **OPTIONS,
    )
    both = pl.combine([model, other], [talk(f"{x / 10} {y}") for x in range(-20, 21) for y in (0.3, 1.2)])
    talks = [talk(text) for text in RESPONSES]
    with running(create_app(both)) as server:
        found = exported(server, fields(risk="cvar:0.2"))
        key = key_of(post(server, "read", fields()))
        again = post(server, "rank", {"key": key, "risk": "cvar:0.2"})
        assert "This combination has no attributes" in said(server.get("/explorer/form"))
    expected = both.score(talks, risk="cvar:0.2").tolist()
    assert [row["utility"] for row in found["responses"]] == pytest.approx(expected, abs=1e-5)
    assert again.status == 200
    parts = both.source_distributions(talks)
    assert [one["name"] for one in found["personas"]] == ["source 1", "source 2"]
    for one, part in zip(found["personas"], parts, strict=True):
        assert [c["mean"] for c in one["responses"]] == pytest.approx(part.mean().tolist(), abs=1e-5)


class Slow:
    """Any scorer, once it may be loaded."""

    def __init__(self) -> None:
        self.may = threading.Event()

    def __call__(self) -> Any:
        assert self.may.wait(30)
        return self

    def distribution(self, conversations: Any) -> pl.Point:
        return pl.Point([float(len(one[-1]["content"])) for one in conversations])


def test_while_the_model_loads_the_page_says_so_and_asks_again():
    slow = Slow()
    with running(create_app(lambda: slow()), ready=False) as server:
        assert server.get("/").status == 200
        loading = server.get("/explorer/form")
        assert loading.status == 202
        assert "The model is being loaded" in said(loading)
        assert 'hx-get="/explorer/form"' in loading.body.decode()
        refused = post(server, "read", fields())
        assert (refused.status, "is being loaded" in said(refused)) == (503, True)
        slow.may.set()
        server.wait_until_ready()
        assert server.get("/explorer/form").status == 200
        answer = post(server, "read", fields(["aaa", "b"]))
        assert "Ranked by mean: 1. Response 1 (3.00), 2. Response 2 (1.00)." in said(answer)
        assert "there is no command that repeats it" in said(answer)


def test_the_token_guards_everything_of_the_model(model):
    with running(create_app(model, token="secret"), ready=False) as server:
        for _ in range(200):
            if server.get("/health").status == 200:
                break
            time.sleep(0.02)
        page = server.get("/")
        assert page.status == 200
        assert 'data-needs-token="yes"' in page.body.decode()
        assert "a0" not in page.body.decode()
        assert all(server.get(f"/explorer/{name}").status == 200 for name in ASSETS)
        right = {"Authorization": "Bearer secret"}
        for path in ("read", "rank", "export"):
            assert post(server, path, fields()).status == 401
            assert post(server, path, fields(), Authorization="Bearer wrong").status == 401
        assert server.get("/explorer/form").status == 401
        assert server.get("/explorer/form", **right).status == 200
        assert post(server, "read", fields(), **right).status == 200


def test_there_is_no_other_export(server):
    for what, shown in (("all", "all"), ("", ""), ("x" * 99, "x" * 20)):
        answer = post(server, f"export?what={what}", fields())
        assert answer.status == 422
        assert f"What = '{shown}': there is nothing of this name to export" in said(answer)
        assert "Allowed: everything , rows , python" in said(answer)
    assert (
        post(server, "export", fields()).json["order"]
        == post(server, "export?what=everything", fields()).json["order"]
    )


def test_pages_of_elsewhere_cannot_ask(server):
    answer = post(server, "read", fields(), Origin="https://elsewhere.example")
    assert answer.status == 403


def test_it_can_be_left_out(model):
    with running(create_app(model, ServerConfig(explorer=False))) as server:
        assert server.get("/").status == 404
        assert server.get("/explorer/form").status == 404
        assert server.post("/v1/score", {"conversations": [talk("0 1 a")]}).status == 200


def test_lines_come_as_they_were_typed(server):
    found = exported(server, fields(["0 1 a\r\nb", "0 1 c\nd"], [("system", "s\r\nt"), ("user", "u")]))
    assert [row["text"] for row in found["responses"]] == ["0 1 a\nb", "0 1 c\nd"]
    assert found["prompt"] == [{"role": "system", "content": "s\nt"}, {"role": "user", "content": "u"}]
