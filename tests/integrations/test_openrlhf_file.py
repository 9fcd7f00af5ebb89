"""The file for OpenRLHF: what it sends and returns, and OpenRLHF's own code calling it.

`peer`: `openrlhf/utils/agent.py` as released, which `studies.speed.openrlhf_client` finds.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from answering_server import Reply, Request, answering, in_turn
from doc_blocks import blocks
from pluralign.integrations import openrlhf
from studies.speed.openrlhf_client import openrlhf_agent, openrlhf_folder

PROMPT = "<|user|>How?<|assistant|>"


def rewarding(request: Request) -> dict:
    """As /get_reward answers: a reward that the text decides."""
    rewards = [len(text) / 8 for text in request.body["query"]]
    return {"rewards": rewards, "scores": rewards, "extra_logs": {"reward_std": [0.5 for _ in rewards]}}


@pytest.fixture
def server(monkeypatch):
    for name in (*openrlhf._VARIABLES, "PLURALIGN_RISK"):
        monkeypatch.delenv(name, raising=False)
    with answering(rewarding) as found:
        monkeypatch.setenv("PLURALIGN_URL", found.url)
        yield found


def test_what_is_sent_and_returned(server, monkeypatch):
    query = f"{PROMPT}So.</s>"
    found = openrlhf.reward_func([query, PROMPT], [PROMPT] * 2, [None, 3])
    rewards = [len(query) / 8, len(PROMPT) / 8]
    assert found == {"rewards": rewards, "scores": rewards, "extra_logs": {"reward_std": [0.5, 0.5]}}
    assert server.asked[0].path == "/get_reward"
    assert server.asked[0].body == {
        "query": [query, PROMPT],
        "prompts": [PROMPT] * 2,
        "labels": ["None", "3"],
    }
    monkeypatch.setenv("PLURALIGN_RISK", "worst_case(cvar:0.1)")
    openrlhf.reward_func([query], [PROMPT], [""])
    assert server.asked[1].path == "/get_reward?risk=worst_case%28cvar%3A0.1%29"


def test_the_reason_of_a_missing_reward_is_on_stderr(monkeypatch, capsys):
    with answering(in_turn(Reply(422, {"error": {"message": "text 0: no certain split"}}))) as server:
        monkeypatch.setenv("PLURALIGN_URL", server.url)
        with pytest.raises(openrlhf.RewardError, match="no certain split"):
            openrlhf.reward_func(["a"], [""], [""])
    assert "pluralign: no reward:" in capsys.readouterr().err


@pytest.fixture
def folder():
    """OpenRLHF's package, as files."""
    try:
        return openrlhf_folder()
    except RuntimeError as reason:
        pytest.skip(str(reason))


@pytest.fixture
def agent(folder):
    """OpenRLHF's module."""
    pytest.importorskip("aiohttp")
    return openrlhf_agent()


class Engine:
    """vLLM's, with one answer."""

    async def generate(self, tokens, params, multi_modal_data=None):
        del tokens, params, multi_modal_data
        answer = SimpleNamespace(token_ids=[7, 8, 0], finish_reason="stop", logprobs=None)
        return SimpleNamespace(outputs=[answer])


class Tokenizer:
    """A character per token, and two for the answer."""

    def __call__(self, text, add_special_tokens, return_tensors):
        assert (add_special_tokens, return_tensors) == (False, "pt")
        return {"input_ids": torch.tensor([[ord(letter) for letter in text]])}

    def decode(self, ids, skip_special_tokens):
        assert skip_special_tokens is False
        return "".join({7: "ye", 8: "s", 0: "</s>"}.get(one) or chr(one) for one in ids)


def rollout(agent, endpoint, prompts):
    executor = agent.SingleTurnAgentExecutor(endpoint)
    params = SimpleNamespace(max_tokens=16, logprobs=None)

    async def all_of_them():
        asked = [executor.execute(p, "label", params, 512, Tokenizer(), Engine()) for p in prompts]
        return await asyncio.gather(*asked)

    return asyncio.run(all_of_them())


@pytest.mark.peer
def test_openrlhf_gets_the_same_from_the_file_and_from_the_url(agent, server, tmp_path):
    copy = tmp_path / "pluralign_reward.py"
    copy.write_bytes(Path(openrlhf.__file__).read_bytes())
    prompts = [f"{PROMPT}{'x' * i}" for i in range(24)]
    by_file = rollout(agent, str(copy), prompts)
    by_url = rollout(agent, f"{server.url}/get_reward", prompts)
    for prompt, mine, theirs in zip(prompts, by_file, by_url, strict=True):
        assert mine["reward"] == theirs["reward"] == [len(f"{prompt}yes</s>") / 8]
        assert (mine["scores"], mine["extra_logs"]) == (theirs["scores"], theirs["extra_logs"])
        # as OpenRLHF's samples_generator makes tensors of them
        assert torch.tensor([mine["reward"]]).numel() == 1
        assert all(torch.tensor([value]).numel() == 1 for value in mine["extra_logs"].values())


@pytest.mark.peer
def test_openrlhf_has_the_flags_of_the_page(folder):
    source = folder / "cli/train_ppo_ray.py"
    known = set(re.findall(r'"--([a-z_.0-9]+)"', source.read_text(encoding="utf-8")))
    commands = [block.code for block in blocks("docs/how-to/openrlhf.md") if "train_ppo_ray" in block.code]
    flags = {flag for code in commands for flag in re.findall(r"--([a-z_0-9]+\.[a-z_.0-9]+)", code)}
    assert len(commands) == 2
    assert "reward.remote_url" in flags
    assert flags <= known


@pytest.mark.peer
def test_openrlhf_by_the_file_outlasts_a_server_that_is_away(agent, monkeypatch, tmp_path):
    """Its own client gives up after five tries."""
    monkeypatch.setattr(openrlhf.time, "sleep", lambda _: None)
    away = [Reply(503, {})] * 12
    turn = in_turn(*away, "scored")

    def answer(request: Request):
        reply = turn(request)
        return rewarding(request) if reply == "scored" else reply

    with answering(answer) as server:
        monkeypatch.setenv("PLURALIGN_URL", server.url)
        (found,) = rollout(agent, openrlhf.__file__, [PROMPT])
    assert found["reward"] == [len(f"{PROMPT}yes</s>") / 8]
    assert len(server.asked) == 13
