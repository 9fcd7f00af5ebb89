"""`pluralign serve` as people run it: a parent, a worker, kills, stops, and mistakes on the command line."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import pluralign as pl
from fake_backbone import ratings_rows, talk
from http_server import Server
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.policy.rewards.programs import probing
from pluralign.server import worker
from pluralign.server.supervisor import listen
from tiny_backbones import tiny_decoder

NUM_REQUESTS = 1500  # while the worker is killed twice


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model on a tiny decoder that lies in a folder, so that another process can load it."""
    place = tmp_path_factory.mktemp("served")
    backbone = tiny_decoder(place / "backbone")
    fitted = pl.fit(
        "quantile",
        ratings=pl.load_ratings(ratings_rows(10)),
        backbone=backbone,
        config={"l1": 0.003, "levels": [0.25, 0.5, 0.75], "baselines": False},
        cache=None,
        progress=False,
    )
    fitted.save_pretrained(place / "model")
    return place


@contextlib.contextmanager
def serving(
    model: Path | str, *flags: str, ready: bool = True
) -> Iterator[tuple[Server, subprocess.Popen[str]]]:
    """The command in a process group of its own, stopped at the end."""
    parent = subprocess.Popen(
        [sys.executable, "-m", "pluralign.cli.main", "serve", "--port", "0", str(model), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    server = Server(0)
    try:
        if ready:
            assert parent.stdout is not None
            line = parent.stdout.readline()
            assert line, parent.communicate()[1]
            server.port = int(line.strip().rpartition(":")[2])
        yield server, parent
    finally:
        parent.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            parent.wait(60)
        parent.kill()
        parent.communicate()


def worker_of(parent: subprocess.Popen[str]) -> int:
    """The number of the only child."""
    (child,) = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    return int(child)


def patient(server: Server, body: Any) -> Any:
    """A client that tries again where a connection breaks, as OpenRLHF's does."""
    end = time.monotonic() + 180
    while time.monotonic() < end:
        try:
            answer = server.post("/v1/score", body)
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
            continue
        if answer.status not in (429, 503):
            return answer
        time.sleep(0.05)
    raise AssertionError("no answer")


@pytest.mark.slow
def test_it_serves_scores_like_the_model_survives_kills_and_stops(folder):
    model = pl.RewardModel.from_pretrained(folder / "model", cache=None)
    talks = [talk(f"{n} words of an answer " * (1 + n % 5)) for n in range(40)]
    expected = model.score(talks, risk="cvar:0.5").tolist()
    with serving(folder / "model", "--risk", "cvar:0.5") as (server, parent):
        assert server.post("/v1/score", {"conversations": talks}).json["scores"] == pytest.approx(
            expected, abs=1e-5
        )
        answered = itertools.count()
        passed = [threading.Event(), threading.Event()]  # a third, and two thirds

        def ask(place: int) -> float:
            answer = patient(server, {"conversations": [talks[place % 40]]})
            count = next(answered)
            for third, event in enumerate(passed, 1):
                if count >= third * NUM_REQUESTS // 3:
                    event.set()
            score: float = answer.json["scores"][0]
            return score

        def kill_twice() -> None:
            for event in passed:
                assert event.wait(120)
                os.kill(worker_of(parent), signal.SIGKILL)

        with ThreadPoolExecutor(17) as pool:
            killer = pool.submit(kill_twice)
            found = list(pool.map(ask, range(NUM_REQUESTS)))
            killer.result()
        assert found == pytest.approx([expected[place % 40] for place in range(NUM_REQUESTS)], abs=1e-5)
        assert "pluralign_worker_restarts 2.0" in server.get("/metrics").body.decode()

        # A stop in the middle answers or refuses all that was sent.
        with ThreadPoolExecutor(8) as pool:
            late = [pool.submit(server.post, "/v1/score", {"conversations": talks}) for _ in range(8)]
            time.sleep(0.05)
            parent.send_signal(signal.SIGTERM)
            for one in late:
                try:
                    answer = one.result()
                except OSError:  # refused: it came after the stop
                    continue
                assert answer.status in (200, 503)
                if answer.status == 200:
                    assert answer.json["scores"] == pytest.approx(expected, abs=1e-5)
        assert parent.wait(60) == 0


@pytest.mark.slow
def test_programs_are_served_by_the_tests_of_their_prompts(tmp_path):
    tasks = tmp_path / "tasks.jsonl"
    row = {"prompt": "Square a number.", "tests": ["assert f(2) == 4", "assert f(3) == 9"]}
    tasks.write_text(json.dumps(row) + "\n")
    with serving("--programs", str(tasks), "--policy_tokenizer", "none", "--sandbox", "rlimits") as (
        server,
        _,
    ):
        for code, share in (("def f(x): return x * x", 1.0), ("def f(x): return 4", 0.5)):
            talk = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": code}]
            assert server.post("/v1/score", {"conversations": [talk]}).json == {"scores": [share]}
            body = {"query": [row["prompt"] + code], "prompts": [row["prompt"]], "labels": [""]}
            assert server.post("/get_reward", body).json["rewards"] == [share]
        talk[0] = {"role": "user", "content": "Another task."}
        refused = server.post("/v1/score", {"conversations": [talk]})
        assert (refused.status, "no tests for the prompt" in refused.body.decode()) == (422, True), refused


@pytest.mark.slow
def test_a_worker_stops_with_its_parent(folder):
    with serving(folder / "model") as (_, parent):
        worker = worker_of(parent)
        parent.kill()
        for _ in range(600):
            if not Path(f"/proc/{worker}").exists():
                break
            time.sleep(0.05)
        assert not Path(f"/proc/{worker}").exists()


@pytest.mark.slow
def test_a_folder_that_changed_is_not_served_on_silently(folder, tmp_path):
    import shutil

    shutil.copytree(folder / "model", tmp_path / "model")
    with serving(tmp_path / "model") as (server, parent):
        before = server.post("/v1/score", {"conversations": [talk("one")]}).json
        config = json.loads((tmp_path / "model" / "config.json").read_text())
        (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"added": 1}))
        assert server.post("/v1/score", {"conversations": [talk("one")]}).json == before  # it is in memory
        os.kill(worker_of(parent), signal.SIGKILL)
        assert parent.wait(60) == 1
        assert parent.stderr is not None
        assert "changed since this server began to serve it" in parent.stderr.read()


def test_a_folder_that_changes_while_it_is_loaded_is_not_served(tmp_path, monkeypatch):
    """What was loaded would not be what the digest says."""
    (tmp_path / "config.json").write_text("{}")
    given = {"model": str(tmp_path), "personas": {}, "digest": None, "device": None, "cache": None}
    digest = worker._digest(given)
    monkeypatch.setattr(worker, "load_scorer", lambda *_, **__: "a model")
    assert worker._loaded(given, digest) == "a model"
    changes = lambda *_, **__: (tmp_path / "config.json").write_text('{"added": 1}')  # noqa: E731
    monkeypatch.setattr(worker, "load_scorer", changes)
    with pytest.raises(
        ArtifactError, match="changed while it was loaded; start the server when it is complete"
    ):
        worker._loaded(given, digest)


def test_a_voter_with_the_servers_token_is_refused(folder, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("people.json").write_text('{"ann": "secret"}')
    flags = "--votes votes.sqlite --voters people.json --token secret"
    status, _, err = command(f"serve {folder / 'model'} {flags}")
    assert (status, "a voter has the server's own token" in err) == (2, True), err


@pytest.mark.slow
def test_what_the_worker_finds_wrong_ends_the_command_with_the_reason(folder, tmp_path):
    import shutil

    shutil.copytree(folder / "model", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"damaged")
    for place, flags, message in (
        (tmp_path / "model", [], "model.safetensors"),
        (folder / "model", ["--risk", "cvr:0.1"], "did you mean 'cvar'"),
        (folder / "model", ["--policy_tokenizer", str(tmp_path / "none")], "--policy_tokenizer"),
        (folder / "model", ["--votes", str(tmp_path)], str(tmp_path)),
    ):
        with serving(place, *flags, ready=False) as (_, parent):
            assert parent.wait(60) == 1
            assert parent.stderr is not None
            said = parent.stderr.read()
        assert message in said
        assert "Traceback" not in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 can be reached from other machines, so a token is needed"),
        (["--token", ""], "--token: allowed: printable ASCII characters"),
        (["--token", "two words"], "--token: allowed: printable ASCII characters"),
        (["--voters", "people.json"], "--voters says who may vote, so it needs --votes"),
        (["--vote_half_life", "30"], "--vote_half_life is about votes, so it needs --votes"),
        (["--fade_prior", "false"], "--fade_prior is about votes, so it needs --votes"),
        (["--votes", "v.sqlite", "--voters", "missing.json"], "--voters missing.json cannot be read"),
        (["--max_items", "0"], "max_items"),
        (["--hosts", "http://models.lab"], "hosts = 'http://models.lab'; allowed: names and addresses"),
        (["--prot", "1"], "did you mean --port?"),
        (["--port", "eighty"], "--port: received 'eighty'"),
        (["--programs", "tasks.jsonl"], "needed: the folder of a model, or --programs TABLE"),
        (["--all_or_nothing", "true"], "--all_or_nothing belongs to --programs, which is missing"),
        (["--port", "70000"], "--port: received 70000; allowed: 0 to 65535"),
        (["--grace", "-1"], "--grace: received -1; allowed: seconds"),
        (["--host", "no.such.host.invalid", "--token", "t"], "no.such.host.invalid"),
    ],
)
def test_mistakes_on_the_command_line(folder, command, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    status, _, err = command(f"serve {folder / 'model'}", *flags)
    assert status in (1, 2)
    assert message in err, err
    assert "Traceback" not in err


def test_neither_a_model_nor_programs(command):
    assert "needed: the folder of a model, or --programs TABLE" in command("serve")[2]
    status, _, err = command("serve --programs tasks.jsonl --votes votes.sqlite")
    assert (status, "--votes applies to a reward model" in err) == (2, True), err


def test_programs_are_refused_in_the_words_of_flags_before_a_port_is_taken(command, monkeypatch):
    status, _, err = command("serve --programs tasks.jsonl --program_columns.test x")
    assert (status, "--program_columns.test: allowed: prompt, tests, entry_point" in err) == (2, True), err
    monkeypatch.setattr(probing, "_try_level", lambda level, *_: (None, f"no {level} here"))
    status, _, err = command("serve --programs tasks.jsonl")
    assert (status, "accepts connections" in err) == (1, False), err
    assert "namespaces: no namespaces here" in err
    assert "--sandbox rlimits consents" in err


def test_what_is_no_model_folder(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "run"):
        Path(name).mkdir()
    Path("run/run.json").write_text("{}")
    assert "nowhere is not a folder" in command("serve nowhere")[2]
    assert "it has no config.json" in command("serve empty")[2]
    assert "a run folder without a finished model" in command("serve run")[2]


def test_a_port_in_use(folder, command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, err = command(f"serve {folder / 'model'} --port {port}")
    assert (status, f"port {port} is in use" in err) == (1, True), err


def test_without_its_packages_the_command_says_what_to_install(folder, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    status, _, err = command(f"serve {folder / 'model'}")
    assert (status, "pip install 'pluralign[server]'" in err) == (1, True), err


def test_a_port_that_may_not_be_had():
    with listen("127.0.0.1", 0) as first, pytest.raises(ArgumentError, match="is in use"):
        listen("127.0.0.1", first.getsockname()[1])


def test_the_parent_imports_no_model():
    code = "import sys, pluralign.server.supervisor\n"
    code += "print([m for m in ('torch', 'transformers', 'fastapi', 'uvicorn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
