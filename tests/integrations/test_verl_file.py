"""The file for verl: `compute_score` over HTTP and in this process, and verl's own code calling it.

`peer`: verl 0.9.1 with its reward loop, in an environment where it is installed beside this project
(transformers < 5.11). Ray is imported, and not started.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import pluralign.model
from answering_server import Reply, Request, answering, in_turn
from doc_blocks import blocks, shell_lines
from pluralign.errors import ArgumentError
from pluralign.integrations import local_model, verl

PROMPT = [{"role": "system", "content": "s"}, {"role": "user", "content": "How?"}]


def value(talk: list[dict[str, str]]) -> float:
    """A score that all messages decide."""
    return sum((i + 1) * len(one["content"]) for i, one in enumerate(talk)) / 8


def scoring(request: Request) -> dict:
    return {"scores": [value(talk) for talk in request.body["conversations"]]}


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in (*verl._VARIABLES, "PLURALIGN_RISK", "PLURALIGN_MODEL", "PLURALIGN_PROMPT_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(monkeypatch):
    with answering(scoring) as found:
        monkeypatch.setenv("PLURALIGN_URL", found.url)
        yield found


def asked(**more):
    return {"data_source": "d", "solution_str": "So.", "ground_truth": "g"} | more


def test_the_prompt_comes_from_extra_info(server):
    talk = [*PROMPT, {"role": "assistant", "content": "So."}]
    for given in (PROMPT, tuple(PROMPT), np.array(PROMPT, dtype=object)):
        assert verl.compute_score(**asked(extra_info={"prompt": given})) == {"score": value(talk)}
    found = verl.compute_score(
        **asked(extra_info={"question": "How?"}, prompt_key="question", risk="cvar:0.1")
    )
    assert found == {"score": value([PROMPT[1], talk[-1]])}
    assert server.asked[0].path == "/v1/score"
    assert server.asked[0].body == {"conversations": [talk]}
    assert server.asked[-1].body == {
        "conversations": [[{"role": "user", "content": "How?"}, talk[-1]]],
        "risk": "cvar:0.1",
    }


def test_settings_of_the_call_win_over_the_environment(server, monkeypatch):
    monkeypatch.setenv("PLURALIGN_RISK", "mean")
    monkeypatch.setenv("PLURALIGN_URL", "http://127.0.0.1:9")
    verl.compute_score(**asked(extra_info={"prompt": "p"}, url=server.url, risk="cvar:0.5"))
    assert server.asked[0].body["risk"] == "cvar:0.5"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "has no 'prompt'; it has .*reward manager"),
        ({"extra_info": {"question": "q"}}, r"it has \['question'\]"),
        ({"extra_info": {"prompt": "  "}}, "has no 'prompt'"),
        ({"extra_info": {"prompt": []}}, "has no 'prompt'"),
        (
            {"extra_info": {"prompt": [{"role": "user", "content": [{"type": "image"}]}]}},
            "Images and other parts",
        ),
        ({"extra_info": {"prompt": ["text"]}}, "messages with a role"),
        ({"extra_info": {"prompt": "p"}, "rsik": "mean"}, "unknown setting rsik; allowed: url"),
    ],
)
def test_what_cannot_be_scored_says_why(server, given, message):
    with pytest.raises(verl.RewardError, match=message):
        verl.compute_score(**asked(**given))
    assert server.asked == []


def test_many_coroutines_wait_at_the_same_time(monkeypatch):
    together = threading.Barrier(100, timeout=20)  # more than the threads that Python gives to a loop

    def answer(request: Request) -> dict:
        together.wait()
        return scoring(request)

    with answering(answer) as server:
        calls = [asked(extra_info={"prompt": "p" * (i + 1)}, url=server.url) for i in range(100)]

        async def all_of_them():
            return await asyncio.gather(*(verl.compute_score_async(**call) for call in calls))

        found = asyncio.run(all_of_them())
    assert [one["score"] for one in found] == [
        value([{"content": "p" * (i + 1)}, {"content": "So."}]) for i in range(100)
    ]


def test_a_server_that_is_gone_does_not_keep_the_process(tmp_path):
    """Threads that wait for it would, for ten minutes."""
    program = tmp_path / "ends.py"
    program.write_text(
        "import asyncio\n"
        "from pluralign.integrations import verl\n"
        "async def leaves():\n"
        "    call = verl.compute_score_async(\n"
        "        data_source='d', solution_str='So.', ground_truth=None, extra_info={'prompt': 'p'},\n"
        "        url='http://127.0.0.1:9', patience=600)\n"
        "    await asyncio.wait_for(call, timeout=1)\n"
        "try:\n"
        "    asyncio.run(leaves())\n"
        "except TimeoutError:\n"
        "    print('left')\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "left\n"), done.stderr


class Model:
    """Scores like the server; counts its calls, refuses a word, and must not be called by two threads."""

    def __init__(self):
        self.sizes, self.busy = [], threading.Lock()

    def score(self, talks, risk):
        assert self.busy.acquire(blocking=False)
        try:
            self.sizes.append(len(talks))
            if any("refused" in talk[-1]["content"] for talk in talks):
                raise ArgumentError("no such word")
            return torch.tensor([value(talk) for talk in talks], dtype=torch.float64)
        finally:
            self.busy.release()


def test_a_model_in_this_process_is_shared_by_threads_and_batches_by_itself(monkeypatch):
    model, loaded = Model(), []
    gate = threading.Event()

    def load(folder):
        loaded.append(folder)
        gate.wait(20)
        return model

    monkeypatch.setattr(pluralign.model.RewardModel, "from_pretrained", load)
    monkeypatch.setattr(local_model, "_models", {})
    score, asking = local_model.LocalModel.score, []

    def counted(self, messages):
        asking.append(messages)
        return score(self, messages)

    monkeypatch.setattr(local_model.LocalModel, "score", counted)

    def one(i: int):
        text = "refused" if i == 7 else "a" * i
        return verl.compute_score(**asked(extra_info={"prompt": "p"}, model="folder", solution_str=text))

    with ThreadPoolExecutor(40) as pool:
        futures = [pool.submit(one, i) for i in range(40)]
        while len(asking) < 40:  # all wait for the model, those that the worker took with it and the others
            assert not any(future.done() for future in futures)
            threading.Event().wait(0.005)
        gate.set()
        for i, future in enumerate(futures):
            if i == 7:
                with pytest.raises(verl.RewardError, match="folder: ArgumentError: no such word"):
                    future.result(20)
            else:
                assert future.result(20) == {"score": value([{"content": "p"}, {"content": "a" * i}])}
    assert loaded == ["folder"]
    assert max(model.sizes) > 1


def test_a_folder_without_a_model_is_an_error_of_every_call(tmp_path):
    for _ in range(2):
        with pytest.raises(verl.RewardError, match="ArtifactError"):
            verl.compute_score(**asked(extra_info={"prompt": "p"}, model=str(tmp_path)))


def test_other_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'RewardManger'"):
        _ = verl.RewardManger


# --- verl's own code ------------------------------------------------------------------------------------


class Tokenizer:
    """A character per token; 0 is the end and 1 fills."""

    def decode(self, ids, skip_special_tokens):
        assert skip_special_tokens
        return "".join(chr(int(one)) for one in ids if int(one) > 1)


@pytest.fixture(scope="module")
def released():
    """verl as installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("ray")
        return pytest.importorskip("verl")


def batch(released, texts, prompts, turns=2):
    """What the agent loop hands to the reward loop: responses padded on the right."""
    from tensordict import TensorDict

    width = max(map(len, texts)) + 1
    responses = torch.ones(len(texts), width, dtype=torch.int64)
    mask = torch.zeros(len(texts), 3 + width, dtype=torch.int64)
    mask[:, :3] = 1
    for row, text in enumerate(texts):
        ids = [*map(ord, text), 0]
        responses[row, : len(ids)] = torch.tensor(ids)
        mask[row, 3 : 3 + len(ids)] = 1
    beside = {
        "raw_prompt": np.empty(len(texts), dtype=object),
        "__num_turns__": np.array([turns] * len(texts)),
    }
    beside["raw_prompt"][:] = prompts
    beside["data_source"] = np.array(["d"] * len(texts))
    beside["reward_model"] = np.array([{"ground_truth": ""}] * len(texts))
    beside["extra_info"] = np.array([{"prompt": one} for one in prompts])
    tensors = {
        "prompts": torch.ones(len(texts), 3, dtype=torch.int64),
        "responses": responses,
        "attention_mask": mask,
    }
    return released.DataProto(TensorDict(tensors, batch_size=len(texts)), beside)


def config(**reward):
    from omegaconf import OmegaConf

    basic = {"custom_reward_function": {"path": None, "name": "compute_score"}}
    manager = {"source": "register", "name": "pluralign", "module": {"path": None}}
    return OmegaConf.create({"reward": basic | {"reward_manager": manager} | reward})


def rewards_of(manager, data):
    async def all_of_them():
        return await asyncio.gather(*(manager.run_single(data[i : i + 1]) for i in range(len(data))))

    return manager.loop.run_until_complete(all_of_them())


def expected(texts, prompts):
    return [value([*prompt, {"content": text}]) for text, prompt in zip(texts, prompts, strict=True)]


TEXTS = ["So.", "Because it is.", ""]
PROMPTS = [PROMPT, PROMPT[1:], PROMPT]


@pytest.mark.peer
@pytest.mark.parametrize("way", ["plug-in", "copied"])
def test_verl_runs_the_reward_manager(released, server, tmp_path, way):
    from verl.experimental.reward_loop.reward_manager.registry import REWARD_MANAGER
    from verl.trainer.ppo.reward import load_reward_manager

    if way == "copied":
        copy = tmp_path / "pluralign_reward.py"
        copy.write_bytes(Path(verl.__file__).read_bytes())
        manager = {"source": "importlib", "name": "RewardManager", "module": {"path": str(copy)}}
    else:
        manager = {"source": "register", "name": "pluralign", "module": {"path": None}}
        assert "pluralign" in REWARD_MANAGER  # since verl was imported
    settings = config(reward_manager=manager, reward_kwargs={"risk": "cvar:0.1"})
    loaded = load_reward_manager(settings, Tokenizer())
    data = batch(released, TEXTS, PROMPTS)
    found = rewards_of(loaded, data)
    assert [one["reward_score"] for one in found] == expected(TEXTS, PROMPTS)
    assert all(one["reward_extra_info"].keys() == {"score"} for one in found)
    assert {one.body["risk"] for one in server.asked} == {"cvar:0.1"}
    scores = type(loaded).assemble_rm_scores(data, [one["reward_score"] for one in found])
    assert [float(row[len(text)]) for row, text in zip(scores, TEXTS, strict=True)] == expected(
        TEXTS, PROMPTS
    )
    assert float(scores.sum()) == sum(expected(TEXTS, PROMPTS))


@pytest.mark.peer
@pytest.mark.parametrize("name", ["compute_score", "compute_score_async"])
def test_verl_runs_compute_score(released, server, name):
    from verl.trainer.ppo.reward import load_reward_manager

    function = {"path": verl.__file__, "name": name, "reward_kwargs": {"risk": "mean", "url": server.url}}
    manager = {"source": "register", "name": "naive", "module": {"path": None}}
    loaded = load_reward_manager(config(custom_reward_function=function, reward_manager=manager), Tokenizer())
    found = rewards_of(loaded, batch(released, TEXTS, PROMPTS))
    assert [one["reward_score"] for one in found] == expected(TEXTS, PROMPTS)


def documented_commands() -> list[list[str]]:
    """The settings of each command of the page that starts verl."""
    codes = [block.code for block in blocks("docs/how-to/verl.md") if "verl.trainer.main_ppo" in block.code]
    return [shell_lines(code)[-1].partition("verl.trainer.main_ppo")[2].split() for code in codes]


@pytest.mark.peer
@pytest.mark.parametrize("place", [0, 1, 2])
def test_verl_takes_the_settings_of_the_page(released, server, tmp_path, monkeypatch, place):
    from hydra import compose, initialize_config_module
    from verl.trainer.ppo.reward import load_reward_manager

    monkeypatch.chdir(tmp_path)
    Path("pluralign_reward.py").write_bytes(Path(verl.__file__).read_bytes())
    wanted = [
        re.sub(r"url=http://[a-z0-9.:]+", f"url={server.url}", one) for one in documented_commands()[place]
    ]
    with initialize_config_module("verl.trainer.config", version_base=None):
        settings = compose("ppo_trainer", overrides=wanted)
    prompts = [[one[-1]] for one in PROMPTS]
    data = batch(released, TEXTS, prompts)
    data.non_tensor_batch["extra_info"] = np.array([{"question": "How?"}] * len(TEXTS))
    found = rewards_of(load_reward_manager(settings, Tokenizer()), data)
    assert [one["reward_score"] for one in found] == expected(TEXTS, prompts)
    assert len(server.asked) == len(TEXTS)


@pytest.mark.peer
def test_verl_is_told_what_cannot_be_scored(released, server):
    from verl.trainer.ppo.reward import load_reward_manager

    loaded = load_reward_manager(config(), Tokenizer())
    with pytest.raises(verl.RewardError, match="trajectory of 4 turns"):
        rewards_of(loaded, batch(released, TEXTS, PROMPTS, turns=4))
    data = batch(released, TEXTS, PROMPTS)
    del data.non_tensor_batch["raw_prompt"]
    with pytest.raises(verl.RewardError, match="raw_prompt"):
        rewards_of(loaded, data)
    with pytest.raises(verl.RewardError, match="unknown setting rsik"):
        load_reward_manager(config(reward_kwargs={"rsik": "mean"}), Tokenizer())
    with answering(in_turn(Reply(422, {"error": {"message": "unknown risk"}}))) as refusing:
        loaded = load_reward_manager(config(reward_kwargs={"url": refusing.url}), Tokenizer())
        with pytest.raises(verl.RewardError, match="unknown risk"):
            rewards_of(loaded, batch(released, TEXTS, PROMPTS))
