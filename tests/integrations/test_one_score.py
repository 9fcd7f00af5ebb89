"""One response has one score: in Python, by the command, from every endpoint of the server, by the files for
OpenRLHF, verl and TRL, and from an exported checkpoint.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import pluralign as pl
from fake_backbone import FakeBackbone, ratings_rows
from http_server import running
from pluralign.cli.main import main
from pluralign.heads import BradleyTerryHead, ColumnScaling
from pluralign.integrations import local_model, openrlhf, verl
from pluralign.integrations.trl import RewardFunction
from pluralign.server import ServerConfig, create_app
from tiny_backbones import tiny_decoder
from tiny_tokenizers import make_tokenizer

PROMPT = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "Hello"}]
ANSWERS = [f"{x / 4} 0.5 words {'more ' * x}".strip() for x in range(-6, 18)]
TALKS = [[*PROMPT, {"role": "assistant", "content": answer}] for answer in ANSWERS]
TOKEN = "a-long-secret"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    model = pl.fit(
        "quantile",
        ratings=pl.load_ratings(ratings_rows()),
        backbone=FakeBackbone(),
        config={"l1": 0.003, "levels": [0.1, 0.3, 0.5, 0.7, 0.9], "baselines": False},
        cache=None,
        progress=False,
    )
    return model, model.save_pretrained(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def served(folder, monkeypatch):
    for name in (*verl._VARIABLES, "PLURALIGN_RISK", "PLURALIGN_MODEL", "PLURALIGN_PROMPT_KEY"):
        monkeypatch.delenv(name, raising=False)
    config = ServerConfig(risk="cvar:0.5")
    app = create_app(folder[0], config, policy_tokenizer=make_tokenizer("llama-3"), token=TOKEN)
    with running(app) as server:
        monkeypatch.setenv("PLURALIGN_URL", f"http://127.0.0.1:{server.port}")
        monkeypatch.setenv("PLURALIGN_TOKEN", TOKEN)
        yield server


@pytest.mark.parametrize("risk", [None, "entropic:1"])
def test_every_way_gives_the_same_score(folder, served, risk, monkeypatch):
    model, saved = folder
    measure = risk or "cvar:0.5"
    expected = pytest.approx(model.score(TALKS, risk=measure).tolist(), abs=1e-5)
    if risk is not None:
        monkeypatch.setenv("PLURALIGN_RISK", risk)

    before = make_tokenizer("llama-3").apply_chat_template(PROMPT, tokenize=False, add_generation_prompt=True)
    queries = [f"{before}{answer}<|eot_id|>" for answer in ANSWERS]
    assert openrlhf.reward_func(queries, [before] * len(queries), [""] * len(queries))["rewards"] == expected
    with ThreadPoolExecutor(8) as pool:
        alone = pool.map(lambda query: openrlhf.reward_func([query], [before], [None]), queries)
        assert [one["rewards"][0] for one in alone] == expected

    calls = [{"solution_str": answer, "extra_info": {"prompt": PROMPT}} for answer in ANSWERS]
    assert [verl.compute_score(**call)["score"] for call in calls] == expected

    async def together():
        return await asyncio.gather(*(verl.compute_score_async(**call) for call in calls))

    assert [one["score"] for one in asyncio.run(together())] == expected

    monkeypatch.setattr(pl.backbones, "load", lambda *_args, **_options: FakeBackbone())
    monkeypatch.setattr(local_model, "_models", {})
    with ThreadPoolExecutor(8) as pool:
        inside = pool.map(lambda call: verl.compute_score(**call, model=str(saved), risk=measure), calls)
        assert [one["score"] for one in inside] == expected

    callable_of_trl = RewardFunction(model, risk=measure)
    assert callable_of_trl([PROMPT] * len(ANSWERS), ANSWERS) == expected


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """A model that a stock checkpoint can hold."""
    folder = tmp_path_factory.mktemp("decoder")
    backbone = tiny_decoder(folder / "backbone")
    weights = torch.randn(backbone.response_size, generator=torch.Generator().manual_seed(0))
    return pl.RewardModel(backbone, BradleyTerryHead(ColumnScaling.empty(len(weights)), weights))


def test_the_command_every_face_and_a_checkpoint_give_it_too(decoder, tmp_path, capsys):
    tokenizer = decoder.backbone.tokenizer
    asked = [PROMPT, PROMPT[1:], [*PROMPT[1:], {"role": "assistant", "content": "Hi."}, *PROMPT[1:]]]
    talks = [[*asked[i % 3], {"role": "assistant", "content": answer}] for i, answer in enumerate(ANSWERS)]
    expected = decoder.score(talks).tolist()
    assert max(expected) - min(expected) > 0.1
    same = pytest.approx(expected, abs=1e-5)
    assert [decoder.score([one]).item() for one in talks] == same

    decoder.save_pretrained(tmp_path / "model")
    rows = [json.dumps({"prompt": one[:-1], "response": one[-1]["content"]}) + "\n" for one in talks]
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    for engine in ([], ["--engine", "local", "--rows_per_shard", "5"]):
        out = tmp_path / f"scores{len(engine)}.jsonl"
        line = ["score", "--model", str(tmp_path / "model"), "--data", str(tmp_path / "rows.jsonl"), *engine]
        assert main([*line, "--cache", "none", "--out", str(out)]) == 0, capsys.readouterr().err
        assert [json.loads(line)["utility"] for line in out.read_text().splitlines()] == same

    write = tokenizer.apply_chat_template
    texts = [write(one, tokenize=False) for one in talks]
    prompts = [write(one[:-1], tokenize=False, add_generation_prompt=True) for one in talks]
    with running(create_app(decoder, policy_tokenizer=tokenizer)) as server:
        for places in ([*range(len(talks))], *([i] for i in range(len(talks)))):
            some = pytest.approx([expected[i] for i in places], abs=1e-5)
            bodies = {
                "/v1/score": {"conversations": [talks[i] for i in places]},
                "/v1/distribution": {"conversations": [talks[i] for i in places]},
                "/get_reward": {"query": [texts[i] for i in places], "prompts": [prompts[i] for i in places]},
                "/classify": {"input": [texts[i] for i in places]},
                "/llama_factory": {"messages": [texts[i] for i in places]},
            }
            found = {path: server.post(path, body).json for path, body in bodies.items()}
            assert found["/v1/score"]["scores"] == some
            assert [one["utility"] for one in found["/v1/distribution"]["distributions"]] == some
            assert found["/get_reward"]["rewards"] == some
            assert [one["probs"][0] for one in found["/classify"]["data"]] == some
            assert found["/llama_factory"]["scores"] == some

    shift = decoder.export(tmp_path / "checkpoint", reference=talks)
    checkpoint = AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint")
    reads = AutoTokenizer.from_pretrained(tmp_path / "checkpoint")
    given = reads(
        [reads.apply_chat_template(one, tokenize=False) for one in talks], padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        assert (checkpoint(**given).logits[:, 0] + shift).tolist() == same


def test_a_refusal_of_the_server_reaches_the_user_with_its_reason(served, monkeypatch):
    call = {"solution_str": "0 1 a", "extra_info": {"prompt": PROMPT}}
    with pytest.raises(verl.RewardError, match="422.*did you mean 'cvar'"):
        verl.compute_score(**call, risk="cvr:0.1")
    with pytest.raises(openrlhf.RewardError, match="422.*does not begin with its prompt"):
        openrlhf.reward_func(["text"], ["prompt"], [""])
    monkeypatch.setenv("PLURALIGN_TOKEN", "wrong")
    with pytest.raises(verl.RewardError, match="401.*set PLURALIGN_TOKEN"):
        verl.compute_score(**call)
