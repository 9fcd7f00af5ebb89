"""`JudgeSource` against a local server: what is asked, counted, kept and refused."""

from __future__ import annotations

import json
import math
import sqlite3
import threading

import pytest
import torch

import pluralign as pl
from answering_server import Reply, Request, answering
from pluralign.errors import CacheError, ConfigError, DataError, RunError
from pluralign.policy import JudgeSource
from pluralign.policy.judges.judge import Pace
from pluralign.policy.rewards.sources import rewards_of

TALKS = [
    [{"role": "user", "content": f"q{i} {{response}}"}, {"role": "assistant", "content": "x" * (i + 1)}]
    for i in range(4)
]
PROMPT = "Judge.\n{prompt}\n=> {response}"


def chat(text, **more):
    return {
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"} | more
        ]
    }


def length_judge(request: Request):
    """Scores a response by its length; a persona that is strict takes one point off."""
    if request.path == "/v1/models":
        return {"data": [{"id": "small-judge"}]}
    messages = request.body["messages"]
    score = messages[-1]["content"].rpartition("=> ")[2].count("x")
    strict = messages[0]["role"] == "system" and "strict" in messages[0]["content"]
    return chat(f"Fine.\nScore: {max(1, score - strict)}")


def judge(server, **options):
    options = {"prompt": PROMPT, "cache": None, "patience": 0.0} | options
    return JudgeSource(server.url, options.pop("prompt"), **options)


def test_scores_become_an_empirical_distribution():
    with answering(length_judge) as server:
        source = judge(server, personas={"mild": "a mild reader", "strict": "a strict teacher"}, repeats=2)
        scores = source.scores(TALKS)
        distribution = source.distribution(TALKS)
    expected = torch.tensor([[1.0, 1, 1, 1], [2, 2, 1, 1], [3, 3, 2, 2], [4, 4, 3, 3]], dtype=torch.float64)
    assert torch.equal(scores, expected)
    torch.testing.assert_close(distribution.mean(), expected.mean(1))
    torch.testing.assert_close(distribution.std(), expected.std(1, correction=0))
    assert source.counts == {"answers": 32}
    asked = [one.body for one in server.asked if one.path == "/v1/chat/completions"]
    assert {one["model"] for one in asked} == {"small-judge"}
    assert all("draw" not in one for one in asked)
    assert any(one["messages"][-1]["content"] == "Judge.\nq0 {response}\n=> x" for one in asked)
    # repeated questions are asked with other seeds, and each persona is named
    assert len({one["seed"] for one in asked}) == 16
    assert sum("a strict teacher" in one["messages"][0]["content"] for one in asked) == 16


def test_it_is_a_reward_source_and_a_rater_for_combine():
    with answering(length_judge) as server:
        source = judge(server)
        rows = {"prompt": [talk[:1] for talk in TALKS], "completion": [talk[1]["content"] for talk in TALKS]}
        assert rewards_of(source, rows) == [1.0, 2.0, 3.0, 4.0]
        json.dumps(source.describe())
        assert source.describe() != judge(server, scale=(1, 2, 3, 4)).describe()
        both = pl.combine([source, judge(server, scale=(1, 2, 3, 4, 5, 6))], reference=TALKS)
        assert (both.score(TALKS).diff() > 0).all()


def test_probabilities_become_a_categorical():
    def answer(request: Request):
        assert request.body["logprobs"]
        assert (request.body["max_tokens"], request.body["top_logprobs"]) == (1, 20)
        top = [{"token": "1", "logprob": math.log(0.2)}, {"token": " 5", "logprob": math.log(0.6)}]
        return chat("5", logprobs={"content": [{"token": "5", "logprob": -0.5, "top_logprobs": top}]})

    with answering(answer) as server:
        source = judge(server, kind="probabilities", model="m")
        distribution = source.distribution(TALKS[:2])
        torch.testing.assert_close(distribution.mean(), torch.full((2,), 4.0, dtype=torch.float64))
        assert distribution.cdf(1.0).tolist() == pytest.approx([0.25, 0.25])
        assert source.scores(TALKS[:1]).tolist() == [[pytest.approx(4.0)]]


def test_refusals_and_prose_are_counted_and_never_a_score():
    said = {1: chat("I'm sorry, I can't."), 2: chat("Lovely!"), 3: chat("", finish_reason="content_filter")}
    said[4] = chat("Long reasons", finish_reason="length")

    def answer(request: Request):
        return said[request.body["messages"][-1]["content"].rpartition("=> ")[2].count("x")]

    with answering(answer) as server:
        source = judge(server, model="m")
        assert source.scores(TALKS).isnan().all()
        assert source.counts == {"answers": 4, "refused": 2, "unparseable": 1, "cut off": 1}
        with pytest.raises(
            DataError, match=r"4 of 4 conversations have no score.*conversation 0 \(1 x refused\)"
        ):
            source.distribution(TALKS)
        rows = {"prompt": [TALKS[1][:1]], "completion": ["xx"]}
        with pytest.raises(DataError, match="1 x unparseable"):
            source(rows)


def test_a_number_that_may_have_been_cut_off_is_no_score():
    """The first digit of 10 is on the scale too."""
    said = ["Score: 1", "Score: 1\n", "Score: 1."]

    def answer(request: Request):
        place = request.body["messages"][-1]["content"].rpartition("=> ")[2].count("x") - 1
        return chat(said[place], finish_reason="length")

    with answering(answer) as server:
        source = judge(server, model="m", scale=range(1, 11))
        found = source.scores(TALKS[:3]).flatten().tolist()
        assert math.isnan(found[0])
        assert found[1:] == [1.0, 1.0]
        assert source.counts == {"answers": 3, "cut off": 1}


def test_where_some_answers_fail_the_others_count():
    calls, lock = [], threading.Lock()

    def answer(request: Request):
        with lock:
            calls.append(request)
            return chat("Hm." if len(calls) % 2 else "Score: 3")

    with answering(answer) as server:
        source = judge(server, model="m", repeats=4, concurrency=1)
        assert source.distribution(TALKS[:1]).mean().tolist() == [3.0]
        assert source.counts == {"answers": 4, "unparseable": 2}


def test_answers_are_kept_and_an_interrupted_run_goes_on(tmp_path):
    broken = threading.Event()

    def answer(request: Request):
        return Reply(400, b"gone") if broken.is_set() and "q3" in str(request.body) else length_judge(request)

    file = tmp_path / "made" / "answers.sqlite"
    with answering(answer) as server:
        broken.set()
        with pytest.raises(RunError, match="refused the request: 400 gone"):
            judge(server, cache=file, model="m", concurrency=1).scores(TALKS)
        asked = len(server.asked)
        broken.clear()
        again = judge(server, cache=file, model="m", concurrency=1)
        assert again.scores(TALKS).flatten().tolist() == [1, 2, 3, 4]
        assert len(server.asked) == asked + 1
        # unchanged questions are not asked again, nor by another process; a changed one is
        assert judge(server, cache=file, model="m").scores(TALKS).flatten().tolist() == [1, 2, 3, 4]
        assert len(server.asked) == asked + 1
        judge(server, cache=file, model="m", prompt=f"{PROMPT}!").scores(TALKS[:1])
        judge(server, cache=file, model="m", repeats=2).scores(TALKS[:1])
        assert len(server.asked) == asked + 3


def test_a_damaged_answer_is_an_error_and_no_score(tmp_path):
    file = tmp_path / "answers.sqlite"
    with answering(length_judge) as server:
        judge(server, cache=file, model="m").scores(TALKS[:1])
        with sqlite3.connect(file) as cache:
            cache.execute("UPDATE answers SET answer = '{'")
        with pytest.raises(CacheError, match="cannot be read"):
            judge(server, cache=file, model="m").scores(TALKS[:1])


def test_a_file_that_is_no_cache_is_refused(tmp_path):
    file = tmp_path / "answers.sqlite"
    file.write_text("not a database, but long enough to be one" * 30)
    with answering(length_judge) as server, pytest.raises(CacheError, match="cannot be used as a cache"):
        judge(server, cache=file)


def test_no_more_requests_at_a_time_than_allowed():
    lock, now, most = threading.Lock(), [0], [0]
    gate = threading.Semaphore(0)

    def answer(request: Request):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        gate.release()
        threading.Event().wait(0.02)
        with lock:
            now[0] -= 1
        return length_judge(request)

    with answering(answer) as server:
        judge(server, model="m", repeats=6, concurrency=3).scores(TALKS)
    assert most[0] <= 3


def test_pace_spreads_requests(monkeypatch):
    clock, naps = [100.0], []
    monkeypatch.setattr("pluralign.policy.judges.judge.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("pluralign.policy.judges.judge.time.sleep", naps.append)
    pace = Pace(120)
    for _ in range(3):
        pace.wait()
    assert naps == [0.5, 1.0]
    clock[0] = 200.0
    pace.wait()
    assert len(naps) == 2
    with pytest.raises(ConfigError, match="requests_per_minute must be positive"):
        Pace(0)


def test_votes_of_personas_are_comparisons():
    def answer(request: Request):
        system, user = (message["content"] for message in request.body["messages"])
        first, second = user.partition("A=")[2].partition(" B=")[::2]
        if "loyal" in system:
            return chat("Verdict: A")  # whatever stands first
        if "silent" in system:
            return chat("As an AI, I have no preference." if "same" not in first else "Verdict: tie")
        longer = "tie" if len(first) == len(second) else "A" if len(first) > len(second) else "B"
        return chat(f"Hm.\nVerdict: {longer}")

    rows = [
        {"prompt": "p0", "response_a": "long answer", "response_b": "short", "group": "g0"},
        {"prompt": "p1", "response_a": "no", "response_b": "yes yes", "group": "g1"},
        {"prompt": "p2", "response_a": "same", "response_b": "same", "group": "g2"},
    ]
    personas = {"reader": "a reader", "dog": "a loyal dog", "monk": "a silent monk"}
    with answering(answer) as server:
        source = judge(
            server, model="m", personas=personas, vote_prompt="{prompt}: A={response_a} B={response_b}"
        )
        found = source.votes(rows)
        assert found["votes"] == [[1], [-1], [0, 0]]
        assert found["rater_ids"] == [["reader"], ["reader"], ["reader", "monk"]]
        assert source.counts == {"answers": 9, "refused": 2, "another verdict in the other order": 3}
        table = pl.load_comparisons(found)
        assert table["votes"][:] == [[1], [-1], [0, 0]]
        assert table["group"][:] == ["g0", "g1", "g2"]
        with pytest.raises(DataError, match="gave no vote on 3 pairs"):
            judge(
                server,
                model="m",
                personas=["a loyal dog"],
                vote_prompt="{prompt}: A={response_a} B={response_b}",
            ).votes(rows)
        with pytest.raises(DataError, match="row 0: response_b is None"):
            source.votes([{"prompt": "p", "response_a": "x"}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "Judge {response}"}, r"has no place \{prompt\}"),
        ({"prompt": 3}, "prompt: received int"),
        ({"vote_prompt": "{prompt} {response_a}"}, r"has no place \{response_b\}"),
        ({"kind": "stars"}, "kind must be one of scores, probabilities"),
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"kind": "probabilities", "repeats": 2}, "1 for probabilities"),
        ({"kind": "probabilities", "scale": range(11)}, "may be the beginning of '10'"),
        ({"scale": [1]}, "scale must be at least two"),
        ({"personas": []}, "at least one"),
        ({"personas": "a teacher"}, "personas: received str"),
        ({"personas": ["a", "a"]}, "none of them twice"),
        ({"personas": [None]}, "names and descriptions in words"),
        ({"temperature": -1}, "temperature must be finite"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"requests_per_minute": -1}, "requests_per_minute must be positive"),
        ({"risk": "cvr:0.1"}, "cvr"),
    ],
)
def test_wrong_settings(options, message):
    with answering(length_judge) as server, pytest.raises(ValueError, match=message) as raised:
        judge(server, **options)
    assert isinstance(raised.value, pl.errors.PluralignError)


def test_the_key_is_guarded_as_in_sampling():
    with pytest.raises(ConfigError, match="not encrypted"):
        JudgeSource("http://judge.example", api_key="secret")
    refuse = answering(lambda _: Reply(401, b"wrong key secret-key"))
    with refuse as server, pytest.raises(RunError, match="wrong key .key.") as raised:
        JudgeSource(server.url, api_key="secret-key", patience=0.0, cache=None)
    assert "secret-key" not in str(raised.value)


@pytest.mark.parametrize("talk", [[], TALKS[0][:1], [{"role": "assistant"}]])
def test_a_conversation_without_a_response_is_refused(talk):
    with answering(length_judge) as server, pytest.raises(pl.errors.ArgumentError, match="1"):
        judge(server, model="m").distribution([TALKS[0], talk])
    assert server.asked == []


@pytest.mark.parametrize("models", [{"data": []}, {"data": [{"id": "a"}, {"id": "b"}]}, {"data": None}])
def test_a_server_of_several_models_asks_for_a_name(models):
    with answering(lambda _: models) as server, pytest.raises(RunError, match="name the model of the judge"):
        judge(server)


@pytest.mark.parametrize(
    "reply", [{"choices": []}, {"choices": [{"text": "x"}]}, {"error": "x"}, {"choices": "x"}]
)
def test_what_is_no_chat_answer_is_an_error(reply):
    with (
        answering(lambda _: reply) as server,
        pytest.raises(RunError, match="no single choice with a message"),
    ):
        judge(server, model="m").scores(TALKS[:1])
