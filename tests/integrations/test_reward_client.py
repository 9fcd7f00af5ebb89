"""The HTTP client inside the files for OpenRLHF and verl: alone, patient, and careful with its token."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from answering_server import Reply, answering, in_turn
from pluralign.integrations import openrlhf, verl

FILES = [openrlhf, verl]
START, END = "# --- client: the same lines", "# --- end of the client"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in (*openrlhf._VARIABLES, "PLURALIGN_RISK", "PLURALIGN_MODEL", "PLURALIGN_PROMPT_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def naps(monkeypatch):
    """Seconds that clients wait, without waiting them."""
    found: list[float] = []
    for module in FILES:
        monkeypatch.setattr(module.time, "sleep", found.append)
    return found


def test_both_files_have_the_same_client():
    blocks = []
    for module in FILES:
        text = Path(module.__file__).read_text(encoding="utf-8")
        blocks.append(text[text.index(START) : text.index(END)])
    assert len(blocks[0]) > 3000
    assert blocks[0] == blocks[1]


@pytest.mark.parametrize(("module", "function"), [(openrlhf, "reward_func"), (verl, "compute_score")])
def test_a_copy_needs_the_standard_library_only(module, function, tmp_path):
    copy = tmp_path / "pluralign_reward.py"
    copy.write_bytes(Path(module.__file__).read_bytes())
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('x', {str(copy)!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        f"assert callable(module.{function})\n"
        "assert not [name for name in sys.modules if name.startswith(('pluralign', 'torch', 'numpy'))]\n"
    )
    # -S: no site-packages at all, -I: no environment variables and no current folder
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


@pytest.mark.parametrize("module", FILES)
def test_a_busy_server_is_asked_again_and_may_say_when(module, naps):
    replies = (Reply(503, {}), Reply(429, {}, {"Retry-After": "7"}), Reply(200, b"{half"), None, {"x": 1})
    with answering(in_turn(*replies)) as server:
        assert module.Client(server.url).post("/p", {"a": 1}) == {"x": 1}
    assert [one.body for one in server.asked] == [{"a": 1}] * 5
    assert len(naps) == 4
    assert naps[1] == 7.0
    assert all(0 < nap <= 30 for nap in naps)


@pytest.mark.parametrize("module", FILES)
def test_patience_ends_with_what_was_the_matter(module, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(module.time, "sleep", lambda nap: clock.__setitem__(0, clock[0] + nap))
    with answering(in_turn(Reply(500, {"error": {"message": "broken"}}))) as server:
        client = module.Client(server.url, patience=200)
        with pytest.raises(module.RewardError, match="no answer for 200 seconds.*500 broken"):
            client.post("/p", {})
        assert len(server.asked) > 5
        assert clock[0] <= 200
    with pytest.raises(module.RewardError, match="no answer for 200 seconds.*refused"):
        client.post("/p", {})  # nobody listens there any more


@pytest.mark.parametrize("module", FILES)
@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(401, {"error": {"message": "no token"}}), "401 no token: set PLURALIGN_TOKEN"),
        (Reply(422, {"error": {"message": "unknown risk"}}), "422 unknown risk"),
        (Reply(404, b"<html>not here"), "404 <html>not here"),
        (Reply(302, b"", {"Location": "http://elsewhere"}), "302"),
        (Reply(200, [1]), "answered list instead of an object"),
    ],
)
def test_a_refusal_is_final(module, reply, message, naps):
    with answering(in_turn(reply)) as server, pytest.raises(module.RewardError, match=message):
        module.Client(server.url).post("/p", {})
    assert len(server.asked) == 1
    assert naps == []


@pytest.mark.parametrize("module", FILES)
def test_the_token_goes_to_the_server_and_into_no_message(module, monkeypatch):
    with answering(in_turn(Reply(403, b"you sent Bearer s3cret-token"))) as server:
        monkeypatch.setenv("PLURALIGN_TOKEN", " s3cret-token\n")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # would see the token
        with pytest.raises(module.RewardError, match="you sent Bearer .token.") as raised:
            module.Client(server.url).post("/p", {})
    assert server.asked[0].headers["Authorization"] == "Bearer s3cret-token"
    assert "s3cret" not in str(raised.value)
    with pytest.raises(module.RewardError, match="not encrypted"):
        module.Client("http://rewards.example:8000")
    module.Client("https://rewards.example")
    monkeypatch.setenv("PLURALIGN_TOKEN_OVER_HTTP", "1")
    module.Client("http://rewards.example:8000")


@pytest.mark.parametrize("module", FILES)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "rewards:8000"}, "is not the address"),
        ({"url": "http://me:secret@host"}, "is not the address"),
        ({"url": "http://[::1"}, "is not the address"),
        ({"url": "http://host:99999999"}, "is not the address"),
        ({"timeout": 0}, r"PLURALIGN_TIMEOUT \(timeout\): received 0"),
        ({"patience": "long"}, r"PLURALIGN_PATIENCE \(patience\): received 'long'"),
        ({"token": "a b"}, "characters that no header can hold"),
    ],
)
def test_wrong_settings(module, settings, message):
    with pytest.raises(module.RewardError, match=message) as raised:
        module.Client(**settings)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("module", FILES)
@pytest.mark.parametrize("values", [None, [], [1.0, 2.0], ["1"], [True], [float("nan")], [None], 1.0])
def test_what_is_no_number_is_no_reward(module, values):
    with pytest.raises(module.RewardError, match="finite numbers"):
        module._numbers({"scores": values}, "scores", 1)
    assert module._numbers({"scores": [1, 2.5]}, "scores", 2) == [1.0, 2.5]


@pytest.mark.parametrize("module", FILES)
def test_one_client_for_the_same_settings(module, monkeypatch):
    assert module.client() is module.client()
    before = module.client()
    monkeypatch.setenv("PLURALIGN_URL", "http://127.0.0.1:9")
    assert module.client() is not before
    assert module.client().url == "http://127.0.0.1:9"
