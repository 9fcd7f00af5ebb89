"""The loop: ratios of 1, splits that do not matter, resuming, the reference, turns, bad input, Ctrl-C."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from datasets import Dataset

import tiny_bandit
from pluralign.distributions import GaussianEnsemble, Quantiles
from pluralign.errors import ArgumentError, ArtifactError, ConfigError, DataError, FingerprintError, RunError
from pluralign.policy import PPOConfig, PPOTrainer
from pluralign.policy.online.rollouts import Rollout, draw_once
from pluralign.policy.online.scoring import RolloutScorer
from pluralign.policy.sampling.settings import SamplingSettings
from tiny_bandit import PROMPTS, SETTINGS, reward


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def trainer(folder, model=None, source=reward, prompts=PROMPTS, made=None, **options):
    settings = SETTINGS | {"minibatches": 2, "use_cpu": True}
    config = PPOConfig(str(folder), **(settings | options))
    return PPOTrainer(
        tiny_bandit.model() if model is None else model,
        config,
        prompts=prompts,
        reward=source,
        processing_class=tiny_bandit.tokenizer(),
        **(made or {}),
    )


def weights(one):
    return {name: value.detach().clone() for name, value in one._models.plain.named_parameters()}


def assert_equal_weights(one, other, **tolerance):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], **tolerance, msg=lambda m, n=name: f"{n}: {m}")


def without_seconds(lines):
    return [{k: v for k, v in line.items() if not k.startswith("seconds/")} for line in lines]


@pytest.mark.parametrize("kind", ["gae", "rloo"])
def test_the_first_minibatch_has_ratios_of_1_and_later_ones_have_not(tmp_path, kind):
    made = trainer(tmp_path, advantages=kind, micro_batch_size=3)
    made.train()
    lines = [line for line in made.history if "update/kl" in line]
    assert len(lines) == 3
    for line in lines:
        assert line["update/first_ratio_error"] < 1e-5
        assert line["update/kl"] > 1e-4  # epochs move the policy away from the one that drew
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-5)  # the reference is the policy as given
    assert lines[-1]["kl_k3"] > 0


def test_how_a_minibatch_is_split_does_not_matter(tmp_path):
    """1 x 8 = 8 x 1: each token counts the same wherever it stands."""
    runs = [trainer(tmp_path / str(size), micro_batch_size=size, minibatches=1) for size in (8, 1, 3)]
    for run in runs:
        run.train()
    for other in runs[1:]:
        assert_equal_weights(runs[0], other, atol=2e-4, rtol=1e-3)


def test_packed_is_padded(tmp_path):
    """Scores of packed rollouts are those of one sequence at a time, and so are the updates."""
    packed, alone = trainer(tmp_path / "a"), trainer(tmp_path / "b", bin_tokens=1)
    rollouts = packed._drawing.of_step(0)
    width = max(len(one.response_ids) for one in rollouts)
    scores, values = packed._models.scores(rollouts, width)
    assert values.shape == (8, width, 1)
    for row, one in zip(scores, rollouts, strict=True):
        ids = torch.tensor([[*one.prompt_ids, *one.response_ids]])
        logits = packed.policy(input_ids=ids).logits[0, len(one.prompt_ids) - 1 : -1].log_softmax(-1)
        expected = logits.gather(1, torch.tensor(one.response_ids)[:, None])[:, 0]
        torch.testing.assert_close(row[: len(expected)], expected, atol=1e-5, rtol=1e-5)
    packed.train()
    alone.train()
    assert_equal_weights(packed, alone, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["gae", "grpo"])
def test_a_resumed_run_is_one_that_was_never_interrupted(tmp_path, kind):
    def noisy(conversations):  # a reward that draws, from Python's and torch's generators
        return [one + random.random() + float(torch.rand(())) for one in reward(conversations)]

    options = {"advantages": kind, "steps": 4, "normalize_rewards": True, "eval_steps": 2, "save_steps": 2}
    held_out = {"eval_prompts": ["b", "cc"], "gold": reward}
    random.seed(0)
    whole = trainer(tmp_path / "whole", source=noisy, made=held_out, **options)
    whole.train()

    class Down(Exception):
        pass

    calls = []

    def fails(conversations):
        calls.append(1)
        if len(calls) == 5:  # evaluation, two steps, evaluation, then this one
            raise Down
        return noisy(conversations)

    random.seed(0)
    first = trainer(tmp_path / "parts", source=fails, made=held_out, **options)
    with pytest.raises(Down):
        first.train()
    assert first.step == 2
    random.seed(99)
    torch.manual_seed(99)
    second = trainer(tmp_path / "parts", source=noisy, made=held_out, **options)
    second.train(resume_from_checkpoint=True)
    assert_equal_weights(whole, second, atol=0, rtol=0)
    lines = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    ]
    assert without_seconds(lines[0]) == without_seconds(lines[1])
    assert second.best == whole.best


def test_what_cannot_be_resumed_says_so(tmp_path):
    with pytest.raises(RunError, match="no complete checkpoint"):
        trainer(tmp_path).train(resume_from_checkpoint=True)
    trainer(tmp_path, steps=1).train()
    with pytest.raises(RunError, match=r"beta 0.2 -> 0.4"):
        trainer(tmp_path, steps=1, beta=0.4).train(resume_from_checkpoint=True)
    with pytest.raises(FingerprintError, match="another model"):
        trainer(tmp_path, tiny_bandit.model(1), steps=1).train(resume_from_checkpoint=True)
    (tmp_path / "checkpoint-1" / "optimizer.pt").write_bytes(b"half")
    with pytest.raises(ArtifactError, match="not a complete checkpoint"):
        trainer(tmp_path, steps=1).train(resume_from_checkpoint=True)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, caplog):
    straight = trainer(tmp_path / "straight", steps=2)
    straight.train()
    trainer(tmp_path, steps=2, save_steps=1, save_total_limit=0).train()
    path = tmp_path / "checkpoint-2" / "trained.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    again = trainer(tmp_path, steps=2)
    again.train(resume_from_checkpoint=True)
    assert_equal_weights(straight, again)
    assert "checkpoint-2 was not written completely or is damaged: trained.safetensors" in caplog.text
    first = tmp_path / "checkpoint-1"
    for name, content in (("optimizer.pt", {"optimizer": {}, "schedule": {}}), ("random.pt", {"torch": 1})):
        copied = tmp_path / "copies" / "checkpoint-1"
        shutil.copytree(first, copied)
        torch.save(content, copied / name)
        with pytest.raises(
            ArtifactError, match="checkpoint-1: its optimizer, schedule or random numbers can"
        ):
            trainer(tmp_path, steps=2).train(resume_from_checkpoint=copied)
        shutil.rmtree(copied)
    state = first / "trainer_state.json"
    for change in ({"settings": 3}, {"moments": {"odd": 1}}, {"reference_heads": "x"}):
        kept = state.read_text()
        state.write_text(json.dumps(json.loads(kept) | change))
        with pytest.raises(ArtifactError, match="checkpoint-1: its .* cannot be used"):
            trainer(tmp_path, steps=2).train(resume_from_checkpoint=first)
        state.write_text(kept)


def test_only_the_last_checkpoints_stay_and_none_is_half_written(tmp_path):
    trainer(tmp_path, save_steps=1, save_total_limit=2).train()
    assert sorted(path.name for path in tmp_path.glob("*checkpoint*")) == ["checkpoint-2", "checkpoint-3"]


def lora():
    from peft import LoraConfig

    return LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear")


def test_the_reference_of_an_adapter_is_its_base(tmp_path):
    pytest.importorskip("peft")
    made = trainer(tmp_path, made={"peft_config": lora()}, learning_rate=3e-2)
    made.train()
    rollouts = made._drawing.of_step(0)
    width = max(len(one.response_ids) for one in rollouts)
    base = trainer(tmp_path / "base")
    expected, _ = base._models.scores(rollouts, width)
    torch.testing.assert_close(made._models.reference_scores(rollouts, width), expected, atol=1e-5, rtol=1e-5)
    moved, _ = made._models.scores(rollouts, width)
    assert (moved - expected).abs().max() > 1e-2
    frozen = tiny_bandit.model().state_dict()["lm_head.weight"]
    torch.testing.assert_close(made.policy.get_base_model().lm_head.weight, frozen)
    made.save_model(tmp_path / "saved")
    assert (tmp_path / "saved" / "adapter_model.safetensors").exists()


def test_the_reference_of_a_whole_model_is_the_model_as_given(tmp_path):
    made = trainer(tmp_path)
    other = trainer(tmp_path / "other", made={"ref_model": tiny_bandit.model()})
    made.train()
    other.train()
    assert_equal_weights(made, other, atol=1e-6, rtol=1e-5)
    assert made.history[-1]["kl_k3"] > 0


def test_an_adapter_is_resumed_exactly(tmp_path):
    pytest.importorskip("peft")
    options = {"made": {"peft_config": lora()}, "steps": 2, "save_total_limit": 0, "save_steps": 1}
    whole = trainer(tmp_path, **options)
    whole.train()
    second = trainer(tmp_path, **options)
    second.train(resume_from_checkpoint=tmp_path / "checkpoint-1")
    assert_equal_weights(whole, second, atol=0, rtol=0)


def test_the_best_policy_is_kept_and_can_be_loaded(tmp_path):
    from transformers import AutoModelForCausalLM

    scores = iter([0.0, 5.0, 1.0, 2.0])

    def gold(conversations):
        return [next(scores)] * len(conversations)

    snapshots = {}

    def log(step, metrics):
        if "eval/gold" in metrics:
            snapshots[step] = {k: v.clone() for k, v in made.policy.state_dict().items()}

    held_out = {"eval_prompts": ["b"], "gold": gold, "loggers": [log]}
    made = trainer(tmp_path, eval_steps=1, made=held_out)
    last = made.train()
    assert (last["gold"], made.best) == (2.0, {"step": 1, "metric": "gold", "value": 5.0})
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "best").state_dict()
    for name, value in snapshots[1].items():
        torch.testing.assert_close(kept[name], value, atol=0, rtol=0)


def test_evaluations_draw_the_same_and_measure_the_distance(tmp_path):
    made = trainer(tmp_path, made={"eval_prompts": ["b", "ca"], "gold": reward}, eval_completions=3)
    before = made.evaluate()
    assert before == made.evaluate()
    assert (before["kl"], before["kl_k3"]) == (pytest.approx(0, abs=1e-5), pytest.approx(0, abs=1e-5))
    assert before["gold"] == pytest.approx(before["reward"])
    with pytest.raises(ArgumentError, match="eval_prompts"):
        trainer(tmp_path / "none").evaluate()


def two_turns(sampler, reader, rows, settings, rank=0, world=1):
    """The policy says something, a tool answers "dd", the policy goes on: a mask with a hole."""
    found = []
    for one in draw_once(sampler, reader, rows, settings, rank, world):
        ids = (*one.response_ids, 5, 5, 2)
        chosen = (*one.chosen, False, False, True)
        found.append(replace(one, response_ids=ids, chosen=chosen, ended=False))
    return found


def test_what_a_tool_said_is_not_trained(tmp_path):
    """The gradient of several turns is that of the tokens that the policy chose."""
    made = trainer(tmp_path, made={"draw": two_turns}, steps=1, epochs=1, minibatches=1, advantages="rloo")
    rollouts = made._drawing.of_step(0)
    before = {k: v.clone() for k, v in weights(made).items()}
    made.train()
    line = made.history[-1]
    assert line["length"] == pytest.approx(sum(sum(one.chosen) for one in rollouts) / len(rollouts))
    utilities = torch.tensor(reward([one.messages for one in rollouts])) - 1.0  # none has ended
    advantages = utilities.clone()
    for group in {one.group for one in rollouts}:
        places = [i for i, one in enumerate(rollouts) if one.group == group]
        for i in places:
            advantages[i] = utilities[i] - torch.stack([utilities[j] for j in places if j != i]).mean()
    policy, total, count = tiny_bandit.model(), 0.0, 0
    for one, advantage in zip(rollouts, advantages, strict=True):
        ids = torch.tensor([[*one.prompt_ids, *one.response_ids]])
        logits = policy(input_ids=ids).logits[0, len(one.prompt_ids) - 1 : -1].log_softmax(-1)
        chosen = torch.tensor(one.chosen)
        total = total - advantage * logits.gather(1, torch.tensor(one.response_ids)[:, None])[chosen].sum()
        count += int(chosen.sum())
    (total / count).backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in policy.parameters()])
    assert line["update/grad_norm"] == pytest.approx(float(norm), rel=1e-4)
    assert any((before[k] - v).abs().max() > 0 for k, v in weights(made).items())


def test_a_prompt_that_stands_in_several_rows_is_drawn_anew_each_time(tmp_path):
    made = trainer(tmp_path, prompts=["xa"], completions=8)
    rollouts = made._drawing.of_step(0)
    assert [one.group for one in rollouts] == [row for row in range(4) for _ in range(8)]
    answers = [tuple(one.response_ids for one in rollouts if one.group == row) for row in range(4)]
    assert len(set(answers)) == 4
    rows, settings = made._drawing.rows_of(0), made._drawing.settings(0)
    sampler, reader = made._models.sampler(), made._models.reader
    shares = [draw_once(sampler, reader, rows, settings, rank, 2) for rank in (0, 1)]
    assert sorted((*shares[0], *shares[1]), key=lambda one: one.group) == rollouts


# ---- rewards ----------------------------------------------------------------------------------------------


class Ensemble:
    """A reward model: two heads, that disagree about the letter b."""

    def distribution(self, conversations):
        texts = [one[-1]["content"] for one in conversations]
        means = torch.tensor([[t.count("a") + t.count("b"), t.count("a") - t.count("b")] for t in texts])
        return GaussianEnsemble(means.float(), torch.ones(len(texts), 2))


def test_a_risk_measure_acts_on_distributions(tmp_path):
    rollouts = trainer(tmp_path)._drawing.draw(
        [{"prompt": [{"role": "user", "content": "b"}]}], SamplingSettings(6, 5)
    )
    scores = RolloutScorer(Ensemble(), "worst_case")(rollouts)
    expected = [one.text.count("a") - one.text.count("b") for one in rollouts]
    assert scores.utilities.tolist() == expected
    assert scores.metrics["disagreement"] == pytest.approx(
        sum(2**0.5 * one.text.count("b") for one in rollouts) / 6, rel=1e-5
    )
    made = trainer(tmp_path, source=Ensemble(), risk="worst_case", steps=1)
    made.train()
    assert {"reward/mean", "reward/std", "reward/tail", "reward/disagreement"} <= set(made.history[0])


def test_rewards_of_rows_get_the_columns_of_the_prompts(tmp_path):
    class Tests:
        def describe(self):
            return {"kind": "tests"}

        def __call__(self, rows):
            assert rows["prompt"][0][-1]["role"] == "user"
            return [
                float(want in text) for want, text in zip(rows["wanted"], rows["completion"], strict=True)
            ]

    table = Dataset.from_list([{"prompt": "xa", "wanted": "a"}, {"prompt": "xb", "wanted": "b"}])
    made = trainer(tmp_path, source=Tests(), prompts=table, steps=1)
    assert made.train()["reward/utility"] >= 0


def test_a_reward_that_cannot_be_reached_is_asked_again_and_then_the_state_is_saved(tmp_path):
    calls = []

    def flaky(conversations):
        calls.append(1)
        if len(calls) in (2, 3):
            raise ConnectionError("refused")
        return reward(conversations)

    made = trainer(tmp_path, source=flaky, steps=2)
    made._scorer._wait = 0.001
    made.train()
    assert len(calls) == 4

    def gone(conversations):
        if made.step == 1:
            raise TimeoutError("no answer")
        return reward(conversations)

    made = trainer(tmp_path / "gone", source=gone, reward_retries=1)
    made._scorer._wait = 0.001
    with pytest.raises(TimeoutError):
        made.train()
    assert (tmp_path / "gone" / "checkpoint-1" / "trainer_state.json").exists()


# ---- bad input --------------------------------------------------------------------------------------------


def test_a_reward_that_is_not_finite_is_named(tmp_path):
    def broken(conversations):
        numbers = reward(conversations)
        numbers[3] = float("nan")
        return numbers

    made = trainer(tmp_path, source=broken)
    before = weights(made)
    with pytest.raises(DataError, match=r"1 of 8 responses .* nan for response 3"):
        made.train()
    assert all(torch.equal(value, before[name]) for name, value in weights(made).items())

    class Distribution:
        def distribution(self, conversations):
            values = torch.zeros(len(conversations), 2)
            values[2] = float("inf")
            return Quantiles(values, torch.tensor([0.25, 0.75]), validate=False)

    with pytest.raises(DataError, match="response 2"):
        trainer(tmp_path, source=Distribution()).train()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_reward_on_another_device(tmp_path):
    """The policy is on the CPU; distributions, numbers and gold come from a GPU."""

    class Far:
        def distribution(self, conversations):
            means = torch.tensor(reward(conversations), device="cuda")[:, None] + torch.zeros(
                3, device="cuda"
            )
            return GaussianEnsemble(means, torch.ones_like(means))

    def gold(conversations):
        return torch.tensor(reward(conversations), device="cuda")

    for source in (Far(), gold):
        given = {"eval_prompts": ["b"], "gold": gold}
        made = trainer(tmp_path / type(source).__name__, source=source, made=given)
        assert abs(made.train()["gold"]) < 10


@pytest.mark.parametrize("wrong", ["few", "text", "none"])
def test_a_reward_that_is_not_a_list_of_numbers(tmp_path, wrong):
    answers = {"few": [1.0], "text": "good", "none": None}
    with pytest.raises(DataError, match="the reward function"):
        trainer(tmp_path, source=lambda conversations: answers[wrong]).train()


@pytest.mark.parametrize("kind", ["gae", "rloo", "grpo"])
def test_constant_rewards_change_nothing_but_stay_finite(tmp_path, kind):
    made = trainer(
        tmp_path, source=lambda talks: [0.1] * len(talks), advantages=kind, normalize_rewards=True, beta=0.0
    )
    made.train()
    assert all(bool(value.isfinite().all()) for value in weights(made).values())
    assert all(value is not None for line in made.history for value in line.values())


def test_empty_generations(tmp_path):
    """A policy that ends at once says one token, its end, and is trained on that."""
    model = tiny_bandit.model()
    with torch.no_grad():  # every state points along the first axis, and so does the end token
        model.model.embed_tokens.weight[:, 0] = 5.0
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[0, 0] = 10.0
    made = trainer(tmp_path, model, source=lambda talks: [float(one[-1]["content"] == "") for one in talks])
    rollouts = made._drawing.of_step(0)
    assert {one.response_ids for one in rollouts} == {(0,)}
    assert {one.text for one in rollouts} == {""}
    assert made.train()["reward/utility"] == 1.0
    assert all(bool(value.isfinite().all()) for value in weights(made).values())


def test_a_response_without_a_token_of_its_own_is_passed_over(tmp_path):
    def mute(sampler, reader, rows, settings, rank=0, world=1):
        drawn = draw_once(sampler, reader, rows, settings, rank, world)
        return [replace(drawn[0], response_ids=(), chosen=()), *drawn[1:]]

    made = trainer(tmp_path, made={"draw": mute}, micro_batch_size=1)
    made.train()
    assert all(bool(value.isfinite().all()) for value in weights(made).values())


def test_prompts_that_do_not_fit(tmp_path):
    with pytest.raises(DataError, match=r"prompt 1 has 30 tokens"):
        trainer(tmp_path, prompts=["a", "b" * 30])
    for prompts, match in (([], "no row"), ([{"text": "a"}], "row 0"), (["a", ""], "row 1")):
        with pytest.raises(DataError, match=match):
            trainer(tmp_path, prompts=prompts)


def test_a_policy_without_an_end_token(tmp_path):
    tokenizer = tiny_bandit.tokenizer()
    tokenizer.eos_token = None
    model = tiny_bandit.model()

    def make(**options):
        config = PPOConfig(str(tmp_path), use_cpu=True, **options)
        return PPOTrainer(model, config, prompts=PROMPTS, reward=reward, processing_class=tokenizer)

    with pytest.raises(ArgumentError, match="end_token"):
        make()
    assert make(end_token="d", max_new_tokens=5)._models._ends == ["d"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"advantages": "reinforce"}, "gae, rloo, grpo"),
        ({"advantages": "rloo", "completions": 1}, "at least 2"),
        ({"beta": -1.0}, "beta"),
        ({"beta": float("nan")}, "beta"),
        ({"lam": 1.5}, "lam"),
        ({"steps": 0}, "steps"),
        ({"minibatches": 9}, "at most the 8"),
        ({"risk": "cvar:0.1"}, "returns numbers"),
        ({"lr_scheduler": "zigzag"}, "lr_scheduler"),
    ],
)
def test_settings_that_do_not_go_together(tmp_path, options, match):
    with pytest.raises(ConfigError, match=match):
        trainer(tmp_path, **options)


def test_a_best_metric_that_is_not_measured(tmp_path):
    with pytest.raises(ConfigError, match="best_metric.*allowed: .*kl"):
        trainer(tmp_path, best_metric="golf", made={"eval_prompts": ["a"]}).train()


# ---- Ctrl-C -----------------------------------------------------------------------------------------------


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


HELD_OUT = {"eval_prompts": ["b", "cc"]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    torch.set_num_threads(1)
    made = trainer(tmp_path_factory.mktemp("whole"), made=HELD_OUT, eval_steps=1)
    made.train()
    return made


@pytest.mark.parametrize("phase", ["drawing", "scoring", "updating", "evaluating", "logging"])
def test_ctrl_c_leaves_a_state_from_which_the_run_continues(tmp_path, whole, phase):
    armed = [True]

    def strike(here):
        if here == phase and armed and made.step == (2 if phase == "evaluating" else 1):
            armed.clear()
            interrupt()

    def scored(conversations):
        strike("evaluating" if len(conversations) == 2 else "scoring")
        return reward(conversations)

    def drawing(*args):
        strike("drawing")
        return draw_once(*args)

    given = {**HELD_OUT, "draw": drawing, "loggers": [lambda step, metrics: strike("logging")]}
    made = trainer(tmp_path / "parts", source=scored, made=given, eval_steps=1)
    made._updates.optimizer.register_step_pre_hook(lambda *_: strike("updating"))
    with pytest.raises(KeyboardInterrupt):
        made.train()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not armed
    assert (tmp_path / "parts" / f"checkpoint-{made.step}").exists()
    assert made.step == (2 if phase in ("updating", "evaluating") else 1)
    again = trainer(tmp_path / "parts", made=HELD_OUT, eval_steps=1)
    again.train(resume_from_checkpoint=True)
    assert_equal_weights(whole, again, atol=0, rtol=0)
    assert without_seconds(whole.history) == without_seconds(again.history)


def test_a_finished_run_is_not_trained_further(tmp_path):
    made = trainer(tmp_path, made={"eval_prompts": ["b"]})
    last = made.train()
    again = trainer(tmp_path, made={"eval_prompts": ["b"]})
    assert again.train(resume_from_checkpoint=True) == last
    assert_equal_weights(made, again, atol=0, rtol=0)


def test_rollouts_check_themselves():
    with pytest.raises(ArgumentError, match="one mask entry per token"):
        Rollout({}, 0, (1,), (2, 3), (True,), ({"role": "assistant", "content": ""},), True)
    with pytest.raises(ArgumentError, match="a rollout needs a prompt"):
        Rollout({}, 0, (), (2,), (True,), ({"role": "assistant", "content": ""},), True)
