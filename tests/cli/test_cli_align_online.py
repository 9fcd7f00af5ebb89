"""`pluralign align --method ppo`: prompts and a reward to a policy, interrupted, continued, refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import fake_backbone
import pluralign as pl
import remembered_probes
import tiny_bandit
from pluralign.policy import PPOConfig, PPOTrainer
from pluralign.policy.online.scoring import RolloutScorer
from tiny_bandit import SETTINGS

SMALL = (
    "--steps 3 --prompts_per_step 4 --completions 2 --max_new_tokens 5 --beta 0.2 --epochs 2 --use_cpu "
    "--learning_rate 1e-2 --critic_learning_rate 1e-2"
)
LINE = f"align --method ppo --model policy --prompts prompts.jsonl {SMALL}"
FUNCTION = "--reward_function judge.py:letters"
JUDGE = """
import os, signal
from pathlib import Path

calls = 0

def letters(prompts, completions):
    global calls
    calls += 1
    strike = Path("strike")
    if strike.exists() and calls == int(strike.read_text()):
        strike.unlink()
        os.kill(os.getpid(), signal.SIGINT)
    print("a line of the user's own")
    return [c.count("a") - 0.1 * len(c) for c in completions]

def some_nan(prompts, completions):
    return [float("nan") if i == 3 else 0.0 for i, _ in enumerate(completions)]

def constant(prompts, completions):
    return [1.0] * len(completions)

def server(prompts, completions):
    global calls
    calls += 1
    if calls > 1:
        raise ConnectionError("connection refused")
    return letters(prompts, completions)
"""


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def policy(workplace):
    remembered_probes.install()
    tiny_bandit.model().save_pretrained("policy")
    tiny_bandit.tokenizer().save_pretrained("policy")
    rows = [{"prompt": text} for text in ("xa", "xbc", "c", "ddda")]
    Path("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("held.jsonl").write_text(json.dumps({"prompt": "b"}) + "\n" + json.dumps({"prompt": "c"}) + "\n")
    Path("judge.py").write_text(JUDGE)


def model_of(run):
    return load_file(f"{run}/model/model.safetensors")


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=0, rtol=0)


def test_a_policy_comes_out_and_a_second_call_does_nothing(policy, command):
    from transformers import AutoModelForCausalLM

    line = f"{LINE} {FUNCTION} --gold_function judge.py:letters --eval_data held.jsonl --out run --json"
    status, out, err = command(line)
    assert status == 0, err
    result = json.loads(out)
    assert {"reward", "gold", "kl_k3", "length"} <= set(result["metrics"])
    assert result["metrics"]["gold"] == pytest.approx(result["metrics"]["reward"])
    assert result["best"]["metric"] == "gold"
    for name in ("model", "best_model"):
        AutoModelForCausalLM.from_pretrained(result[name])
    assert "3 steps of 4 x 2 answers to 4 distinct prompts of prompts.jsonl" in err
    assert "1 of 2 prompts of --eval_data are trained on" in err
    assert [f"step {n} of 3: utility" in err for n in (1, 2, 3)] == [True] * 3
    assert "held-out prompts after step 3: reward" in err
    logged = [json.loads(text) for text in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged if "reward/utility" in line] == [1, 2, 3]
    assert [line["step"] for line in logged if "eval/gold" in line] == [0, 3]
    status, out, err = command(line)
    assert status == 0
    assert "nothing to do" in err
    assert json.loads(out) == result


def test_it_is_the_trainer_with_these_settings(policy, command):
    status, _, err = command(f"{LINE} {FUNCTION} --advantages rloo --out run")
    assert status == 0, err
    talks = [{"prompt": [{"role": "user", "content": text}]} for text in ("xa", "xbc", "c", "ddda")]
    config = PPOConfig("again", use_cpu=True, advantages="rloo", **SETTINGS)

    def reward(conversations):
        texts = [one[-1]["content"] for one in conversations]
        return [text.count("a") - 0.1 * len(text) for text in texts]

    made = PPOTrainer("policy", config, prompts=talks, reward=reward)
    made.train()
    made.save_model("again/model")
    assert_equal(model_of("run"), model_of("again"))


@pytest.mark.parametrize("call", [1, 2, 3])
def test_ctrl_c_saves_the_state_and_the_same_command_continues(policy, command, call):
    """In the first step there is nothing to save; later the run goes on where it stopped."""
    status, _, err = command(f"{LINE} {FUNCTION} --out straight")
    assert status == 0, err
    Path("strike").write_text(str(call))
    status, _, err = command(f"{LINE} {FUNCTION} --out broken")
    assert status == 130, err
    assert "the same command continues" in err
    assert Path(f"broken/training/checkpoint-{call - 1}").exists() == (call > 1)
    status, _, err = command(f"{LINE} {FUNCTION} --out broken")
    assert status == 0, err
    assert (f"continuing from broken/training/checkpoint-{call - 1}" in err) == (call > 1)
    assert_equal(model_of("straight"), model_of("broken"))
    logged = [json.loads(text) for text in Path("broken/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged] == [1, 2, 3]


def test_ctrl_c_while_the_policy_is_saved(policy, command, monkeypatch):
    def struck(self, folder=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PPOTrainer, "save_model", struck)
        assert command(f"{LINE} {FUNCTION} --out run")[0] == 130
    status, _, err = command(f"{LINE} {FUNCTION} --out run")
    assert status == 0, err
    assert "continuing from run/training/checkpoint-3" in err
    assert Path("run/model/model.safetensors").exists()


def test_an_adapter(policy, command):
    pytest.importorskip("peft")
    status, _, err = command(f"{LINE} {FUNCTION} --lora_r 2 --lora_target_modules q_proj,v_proj --out run")
    assert status == 0, err
    assert Path("run/model/adapter_model.safetensors").exists()


def test_a_critic_with_a_model_of_its_own(policy, command):
    tiny_bandit.model(7).save_pretrained("critic")
    status, _, err = command(f"{LINE} {FUNCTION} --critic_model critic --out run")
    assert status == 0, err
    held = load_file("run/training/checkpoint-3/trained.safetensors")
    assert "critic.model.model.embed_tokens.weight" in held
    assert json.loads(Path("run/run.json").read_text())["inputs"]["critic_model"]
    status, _, err = command(f"{LINE} {FUNCTION} --critic_model critic --advantages grpo --out other")
    assert (status, "--critic_model: received with advantages grpo" in err) == (1, True), err


# ---- reward models ----------------------------------------------------------------------------------------

FITS = (
    "fit --ratings ratings.jsonl --l1 0.003 --levels [0.1,0.3,0.5,0.7,0.9] --out quantile",
    "fit --family bradley_terry --pairs pairs.jsonl --l2 0.01 --out bt",
)


@pytest.fixture
def fitted(policy, fake, command, monkeypatch):
    """Two models that also read what the policy says: by how often it says each letter."""
    plain = fake_backbone.vector

    def vector(text):
        if text[:1].isdigit() or text[:1] == "-":
            return plain(text)
        return [float(text.count(letter)) for letter in "abcdx "]

    monkeypatch.setattr(fake_backbone, "vector", vector)
    for line in FITS:
        status, _, err = command(line)
        assert status == 0, err


def test_distributions_of_a_fitted_model_under_a_risk_measure(fitted, command):
    status, _, err = command(f"{LINE} --reward_model quantile --risk cvar:0.2 --out run")
    assert status == 0, err
    logged = [json.loads(text) for text in Path("run/metrics.jsonl").read_text().splitlines()]
    assert all(line["reward/utility"] <= line["reward/mean"] for line in logged)
    assert all(line["reward/std"] > 0 for line in logged)


def test_several_models_on_one_scale(fitted, command, monkeypatch):
    """--combine gives the trainer what `pluralign.combine` makes, and a stored combination is the same."""
    seen = []
    plain = RolloutScorer.__init__

    def noted(self, reward, risk, *more):
        seen.append((reward, risk))
        plain(self, reward, risk, *more)

    monkeypatch.setattr(RolloutScorer, "__init__", noted)
    status, _, err = command(
        f"{LINE} --reward_model quantile --combine [bt] --reference ratings.jsonl --risk cvar:0.2 --out run"
    )
    assert status == 0, err
    table = pl.load_responses("ratings.jsonl")
    texts = [pl.data.conversation(row["prompt"], row["response"]) for row in table]
    models = [pl.RewardModel.from_pretrained(Path(run) / "model", cache=None) for run in ("quantile", "bt")]
    both = pl.combine(models, reference=texts)
    expected = both.score(texts, risk="cvar:0.2")
    both.save_pretrained("both")
    status, _, err = command(f"{LINE} --reward_model both --risk cvar:0.2 --out stored")
    assert status == 0, err
    for reward, risk in seen:
        torch.testing.assert_close(reward.score(texts, risk=risk), expected, atol=1e-6, rtol=0)
    assert len(seen) == 2
    assert_equal(model_of("run"), model_of("stored"))


# ---- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", "one of --reward_model, --reward_function and --programs is needed; received none"),
        (f"{FUNCTION} --reward_model quantile", "received --reward_model and --reward_function"),
        (f"{FUNCTION} --risk cvar:0.1", "--reward_function gives numbers, not distributions"),
        (f"{FUNCTION} --combine [a]", "--combine applies to --reward_model"),
        ("--reward_function nowhere.py:f", "--reward_function: received 'nowhere.py:f'"),
        (f"{FUNCTION} --gold_function nowhere.py:f --eval_data held.jsonl", "--gold_function: received"),
        (f"{FUNCTION} --gold_function judge.py:letters", "--eval_data, which is missing"),
        (f"{FUNCTION} --eval_steps 2", "--eval_steps needs --eval_data"),
        (f"{FUNCTION} --beta -1", "--beta: received -1"),
        (f"{FUNCTION} --advantages reinforce", "--advantages: received 'reinforce'; allowed: gae, rloo"),
        (f"{FUNCTION} --lora_alpha 3", "--lora_alpha needs --lora_r"),
        (f"{FUNCTION} --reward_device cuda:7", "--reward_device"),
        ("--reward_model nothing", "--reward_model: nothing is not a model folder"),
        (
            f"{FUNCTION} --data t.jsonl",
            "--data: it is valid only with the methods that train on a table",
        ),
        (f"{FUNCTION} --stepz 3", "did you mean --steps"),
        (f"{FUNCTION} --output_dir here", "--out"),
        (f"{FUNCTION} --risk cvra:0.1", "did you mean"),
    ],
)
def test_flags_that_do_not_go_together(policy, command, flags, message):
    status, out, err = command(f"{LINE} {flags} --out run")
    assert (status in (1, 2), out) == (True, "")
    assert message in err
    assert not Path("run").exists()


def test_methods_send_people_to_each_other(policy, command):
    status, _, err = command("align --method grpo --model policy --prompts prompts.jsonl")
    assert (status, "--method ppo --advantages grpo" in err) == (2, True)
    status, _, err = command("align --method qrpo --model policy --data d --prompts prompts.jsonl")
    assert (status, "it is valid only with --method ppo" in err) == (2, True)


def test_a_measure_of_heads_and_several_models(fitted, command):
    combined = "--reward_model quantile --combine [bt] --reference ratings.jsonl"
    status, _, err = command(f"{LINE} {combined} --risk worst_case")
    assert (status, "keeps no heads" in err) == (2, True), err
    status, _, err = command(f"{LINE} --reward_model quantile --risk robust:0.4")
    assert (status, "of the family quantile" in err) == (2, True), err
    status, _, err = command(f"{LINE} --reward_model quantile --combine [bt]")
    assert (status, "--combine and --reference go together" in err) == (2, True), err


def test_nan_for_one_response_is_named(policy, command):
    status, _, err = command(f"{LINE} --reward_function judge.py:some_nan --out run")
    assert status == 1
    assert "1 of 8 rewards are not finite numbers" in err
    assert "of completion 3" in err


def test_a_prompt_longer_than_the_context(policy, command):
    with Path("prompts.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "b" * 30}) + "\n")
    status, _, err = command(f"{LINE} {FUNCTION} --out run")
    assert status == 1
    assert "prompt 4 has 30 tokens" in err
    assert "Lower --max_new_tokens" in err
    assert not Path("run").exists()


def test_a_policy_without_an_end_token(policy, command):
    tokenizer = tiny_bandit.tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained("mute")
    status, _, err = command(f"{LINE} {FUNCTION} --tokenizer mute --out run")
    assert (status, "--end_token" in err) == (1, True), err
    status, _, err = command(f"{LINE} {FUNCTION} --tokenizer mute --end_token z --out run")
    assert (status, "--end_token: received 'z'" in err) == (1, True), err
    status, _, err = command(f"{LINE} {FUNCTION} --tokenizer mute --end_token d --out run")
    assert status == 0, err


def test_a_reward_server_that_stops_answering(policy, command, monkeypatch):
    monkeypatch.setattr("pluralign.policy.online.scoring.time.sleep", lambda seconds: None)
    line = f"{LINE} --reward_function judge.py:server --reward_retries 2 --out run"
    status, _, err = command(line)
    assert status == 1
    assert "the reward cannot be reached" in err
    assert "connection refused" in err
    assert "the state after step 1 is saved; the same command continues from there" in err
    assert Path("run/training/checkpoint-1").exists()
    status, _, err = command(line)  # its first answer is the second step's
    assert "continuing from run/training/checkpoint-1" in err
    assert "the state after step 2 is saved" in err


# ---- the report -------------------------------------------------------------------------------------------


def test_a_report_of_a_run(policy, command):
    pytest.importorskip("jinja2")
    line = f"{LINE} {FUNCTION} --gold_function judge.py:letters --eval_data held.jsonl --eval_completions 4"
    status, _, err = command(f"{line} --out run")
    assert status == 0, err
    status, out, err = command("report run --json")
    assert (status, "report on run" in err) == (0, True), err
    content = json.loads(out)
    assert content["page"] == "run/report.html"
    page = Path("run/report.html").read_text()
    assert "PPO of policy" in page
    logged = [json.loads(text) for text in Path("run/metrics.jsonl").read_text().splitlines()]
    before, after = (line for line in logged if "eval/gold" in line)
    gold = content["headlines"][0]
    assert (gold["before"], gold["after"]) == (before["eval/gold"], after["eval/gold"])
    assert gold["difference"]["estimate"] == pytest.approx(after["eval/gold"] - before["eval/gold"])
    assert gold["difference"]["groups"] == 2
    reward = content["curves"][0]["lines"][0]
    assert reward["y"] == [line["reward/utility"] for line in logged if "reward/utility" in line]
    said = Path("run/training/samples/step-000003.jsonl").read_text().splitlines()
    assert content["examples"][1]["after"]["response"] == json.loads(said[4])["response"]
    status, _, err = command("report run/training --out of-the-trainer.html")
    assert status == 0, err
    assert f"{gold['after']:.2f}" in Path("of-the-trainer.html").read_text()


def test_a_report_of_a_run_that_was_interrupted(policy, command):
    pytest.importorskip("jinja2")
    Path("strike").write_text("3")
    assert command(f"{LINE} {FUNCTION} --out run")[0] == 130
    status, _, err = command("report run")
    assert status == 0, err
    assert "2 of 3 steps, not finished" in Path("run/report.html").read_text()
    status, _, err = command(f"{LINE} {FUNCTION} --out run")  # the page does not stand in the way
    assert status == 0, err


def test_runs_of_align_have_a_page_each(policy, command):
    pytest.importorskip("jinja2")
    assert command(f"{LINE} {FUNCTION} --out run")[0] == 0
    Path("other").mkdir()
    status, _, err = command("report run other")
    assert (status, "run is a run of align, which has a page of its own" in err) == (2, True), err
