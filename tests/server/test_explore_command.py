"""`pluralign explore` as people run it: an address at once, a page, the models of personas, and Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import Any

import pytest

import pluralign as pl
from explorer_client import exported, fields, post, said
from fake_backbone import ratings_rows
from http_server import Server
from pluralign.cli import explore, serving
from pluralign.cli.main import main
from pluralign.server import loading
from tiny_backbones import tiny_decoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, one of a persona on the same backbone and one of a persona on another."""
    place = tmp_path_factory.mktemp("explored")
    backbones = [tiny_decoder(place / name, kind) for name, kind in (("first", "llama"), ("second", "qwen2"))]
    for name, backbone, seed in (("model", 0, 0), ("near", 0, 1), ("far", 1, 2)):
        pl.fit(
            "quantile",
            ratings=pl.load_ratings(ratings_rows(10, seed=seed)),
            backbone=backbones[backbone],
            config={"l1": 0.003, "levels": [0.25, 0.5, 0.75], "baselines": False},
            cache=None,
            progress=False,
        ).save_pretrained(place / name)
    return place


def test_models_of_personas_share_the_backbone_where_they_can(folder):
    scorer = loading.load_scorer(str(folder / "model"))
    people = loading.load_personas({n: str(folder / n) for n in ("near", "far")}, scorer)
    assert people["near"].backbone is scorer.backbone
    assert people["far"].backbone is not scorer.backbone
    with pytest.raises(pl.errors.ArtifactError):
        loading.load_personas({"none": str(folder / "first")}, scorer)


@pytest.mark.slow
def test_a_page_until_ctrl_c(folder):
    words = ["explore", str(folder / "model"), "--no_browser", "--risk", "median"]
    words += ["--personas.near", str(folder / "near"), "--personas.far", str(folder / "far")]
    running = subprocess.Popen(
        [sys.executable, "-m", "pluralign.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout is not None
        url = running.stdout.readline().strip()  # before the model is loaded
        assert url.startswith("http://127.0.0.1:")
        server = Server(int(url.rpartition(":")[2]))
        assert server.get("/").status == 200
        server.wait_until_ready()
        found = exported(server, fields(["a b c", "d e f"]))
        assert [one["name"] for one in found["personas"]] == ["near", "far"]
        talks = [[*found["prompt"], {"role": "assistant", "content": text}] for text in ("a b c", "d e f")]
        for one in found["personas"]:
            alone = pl.RewardModel.from_pretrained(folder / one["name"], cache=None)
            expected = alone.distribution(talks).mean().tolist()
            assert [cell["mean"] for cell in one["responses"]] == pytest.approx(expected, abs=1e-5)
        answer = post(server, "read", fields(["a b c", "d e f"]))
        assert f"pluralign score --model {folder / 'model'} --data responses.jsonl --risk median" in said(
            answer
        )
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0
        assert running.stderr is not None
        told = running.stderr.read()
        assert "the model scores" in told
        assert "Traceback" not in told
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere is not a folder"),
        ([".", "--risk", "cvr:0.1"], "did you mean 'cvar'"),
        ([".", "--port", "70000"], "--port: received 70000"),
        ([".", "--personas.ann", "nowhere"], "--personas.ann nowhere is not a folder"),
        (["."], "it has no config.json"),
        ([".", "--host", "0.0.0.0"], "unknown option --host"),
    ],
)
def test_mistakes_on_the_command_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["explore", *words]) in (1, 2)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({}, "linux", False),
        ({}, "darwin", True),
        ({"DISPLAY": ":10", "SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"}, "linux", False),
    ],
)
def test_a_browser_opens_only_where_somebody_looks(environment, platform, expected):
    assert explore.has_display(environment, platform) is expected


@pytest.mark.parametrize(("words", "opened"), [([], True), (["--no_browser"], False)])
def test_the_browser_opens_once_the_address_answers(words, opened, monkeypatch, capsys):
    seen: list[str] = []

    def serve(place: Any, config: Any, settings: Any, **calls: Any) -> None:
        assert (place.host, place.port, settings["token"]) == ("127.0.0.1", 0, None)
        calls["on_listening"]("http://127.0.0.1:1234")

    monkeypatch.setattr(explore, "serve", serve)
    monkeypatch.setattr(webbrowser, "open", seen.append)
    monkeypatch.setattr(explore, "has_display", lambda *given: True)
    assert main(["explore", "model", *words]) == 0
    assert seen == (["http://127.0.0.1:1234"] if opened else [])
    assert capsys.readouterr().out == "http://127.0.0.1:1234\n"
    assert serving.serve is not serve
