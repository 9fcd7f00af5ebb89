"""The reward function of TRL: called as its trainers call it, and inside two of them."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import pluralign as pl
import tiny_policy
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows
from fake_models import CONFIGS, fake_model
from pluralign.errors import ArgumentError, RiskError
from pluralign.integrations.trl import RewardFunction
from pluralign.model.profiles import sign_values
from pluralign.policy.rewards.scoring import score_responses
from pluralign.warning_signs import SIGNS

USER = tiny_policy.user("q")
TEXTS = ["0.5 -1 yes", "1.5 0.2 no", "-2 0 maybe", "0.1 0.1 so"]


def talks(texts: list[str]) -> list[Any]:
    return [[*USER, {"role": "assistant", "content": text}] for text in texts]


class Log:
    """What a trainer keeps of `log_extra` and `log_metric`."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.columns: dict[str, list[Any]] = {}

    @property
    def options(self) -> dict[str, Any]:
        return {"log_extra": self.columns.__setitem__, "log_metric": self.metrics.__setitem__}


@pytest.mark.parametrize("family", CONFIGS)
def test_every_family_gives_its_own_scores(family: str) -> None:
    model, log = fake_model(family), Log()
    risk = "mean" if family == "bradley_terry" else "cvar:0.25"
    f = RewardFunction(model, risk=risk)
    ids = [[1]] * 4
    messages = [[{"role": "assistant", "content": text}] for text in TEXTS]
    as_messages = f(
        prompts=[USER] * 4, completions=messages, completion_ids=ids, difficulty=[1] * 4, **log.options
    )
    as_texts = f(prompts=["q"] * 4, completions=TEXTS, completion_ids=ids, trainer_state=object())
    wanted = model.score(talks(TEXTS), risk=risk).tolist()
    assert as_messages == pytest.approx(wanted)
    assert as_texts == pytest.approx(wanted)
    distribution = model.distribution(talks(TEXTS))
    assert log.metrics["pluralign/mean"] == pytest.approx(distribution.mean().mean().item(), rel=1e-5)
    assert log.metrics["pluralign/std"] == pytest.approx(distribution.std().mean().item(), rel=1e-5)
    assert log.metrics["pluralign/tail"] == pytest.approx(distribution.cvar(0.1).mean().item(), rel=1e-5)
    assert log.metrics["pluralign/utility"] == pytest.approx(sum(wanted) / 4, rel=1e-5)
    assert ("pluralign/disagreement" in log.metrics) == (family == "gaussian_ensemble")
    for name, one in model.attribute_distributions(talks(TEXTS)).items():
        assert log.metrics[f"pluralign/attribute/{name}"] == pytest.approx(one.mean().mean().item(), rel=1e-5)
    assert log.columns["reward_std"] == pytest.approx(distribution.std().tolist(), rel=1e-5)


def many() -> list[str]:
    return [f"{0.1 * n:.1f} {0.3 * (n % 7):.1f} so" for n in range(40)]


def signs(log: Log, prefix: str = "pluralign") -> dict[str, float]:
    start = f"{prefix}/signs/"
    return {key.removeprefix(start): value for key, value in log.metrics.items() if key.startswith(start)}


def gated() -> pl.RewardModel:
    data = {"ratings": pl.load_ratings(ratings_rows(attributes=2)), "pairs": pl.load_pairs(pairs_rows())}
    return pl.fit("quantile", **data, backbone=FakeBackbone(), config=CONFIGS["quantile"], cache=None)


@pytest.mark.parametrize("family", [*CONFIGS, "gated"])
def test_warning_signs_are_those_of_the_same_responses_elsewhere(family: str) -> None:
    """Under the names and with the numbers of runs of `align`, which `score_responses` computes."""
    model, log, few = gated() if family == "gated" else fake_model(family), Log(), Log()
    RewardFunction(model)(["q"] * 40, many(), **log.options)
    expected = sign_values(score_responses(model, pl.risk.parse("mean"), talks(many())).columns)
    assert signs(log) == pytest.approx(expected)
    assert set(signs(log)) <= set(SIGNS)
    assert ("uniform_gate" in signs(log)) == (family == "gated")
    RewardFunction(model, prefix="other")(["q"] * 4, TEXTS, **few.options)
    assert set(signs(few, "other")) == set(expected) - {"unstable_utility", "equal_stds", "correlated_heads"}


def test_given_weights_leave_no_gate_to_warn_of() -> None:
    log = Log()
    RewardFunction(gated(), weights=[1.0, 2.0])(["q"] * 4, TEXTS, **log.options)
    assert set(signs(log)) == {"crossing", "peaked_predictions"}


class TwoHeads:
    """Heads that read two numbers of a text."""

    def distribution(self, conversations: list[Any]) -> Any:
        texts = [one[-1]["content"].split()[:2] for one in conversations]
        means = torch.tensor([[float(x), float(y)] for x, y in texts])
        return pl.distributions.GaussianEnsemble(means, torch.ones_like(means))


def test_heads_are_held_against_those_of_the_first_step() -> None:
    function, log = RewardFunction(TwoHeads()), Log()
    first = [f"{n} {-n}" for n in range(100)]  # of 100, 95 % are below 94.05 and below -4.95
    function(["q"] * 100, first, **log.options)
    assert "heads_above_reference" not in signs(log)  # nothing says that this was the first step
    function(["q"] * 100, first, trainer_state=SimpleNamespace(global_step=0), **log.options)
    assert signs(log)["heads_above_reference"] == 0
    later = ["95 -4", "95 -5", "94 -4", "200 3"]
    function(["q"] * 4, later, trainer_state=SimpleNamespace(global_step=3), **log.options)
    assert signs(log)["heads_above_reference"] == 0.5


def test_several_turns_and_turns_that_end_in_a_tool() -> None:
    model = fake_model("quantile")
    call = {"function": {"name": "f", "arguments": {}}}
    turns = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "12"},
        {"role": "assistant", "content": TEXTS[0]},
    ]
    log = Log()
    found = RewardFunction(model)([USER] * 3, [turns, turns[:2], []], environments=[None] * 3, **log.options)
    assert found == [pytest.approx(model.score([[*USER, *turns]]).item()), None, None]
    assert log.columns["reward_mean"][1:] == [None, None]
    assert RewardFunction(model)([USER], [turns[:2]]) == [None]


def test_weights_and_steering_reach_the_model() -> None:
    model = fake_model("quantile")
    names = [attribute.name for attribute in model.head.attributes]
    f = RewardFunction(model, weights={names[1]: 1.0}, steer={names[1]: "quantile:0.1"})
    wanted = model.score(talks(TEXTS), weights={names[1]: 1.0}, steer={names[1]: "quantile:0.1"})
    assert f(["q"] * 4, TEXTS) == pytest.approx(wanted.tolist())
    with pytest.raises(ArgumentError, match="only a RewardModel takes them"):
        RewardFunction(lambda found: [0.0], weights={"a": 1.0})


def test_functions_and_scorers_are_models_too() -> None:
    f = RewardFunction(lambda found: [float(len(one[-1]["content"])) for one in found], name="length")
    assert f.__name__ == "length"
    assert f(["q", "q"], ["ab", ""]) == [2.0, 0.0]
    assert RewardFunction(fake_model("quantile"), risk="cvar:0.1").__name__ == "pluralign_cvar_0.1"
    with pytest.raises(ArgumentError, match="returned nan for completion 1"):
        RewardFunction(lambda found: [0.0, float("nan")])(["q"] * 2, ["a", "b"])
    with pytest.raises(ArgumentError, match=r"numbers of shape \[1\]"):
        RewardFunction(lambda found: [0.0])(["q"] * 2, ["a", "b"])
    with pytest.raises(ArgumentError, match="needed: a reward model"):
        RewardFunction(3)
    with pytest.raises(RiskError):
        RewardFunction(fake_model("quantile"), risk="cvar:2")
    with pytest.raises(ArgumentError, match="2 prompts and 1 completions"):
        f(["q", "q"], ["a"])
    with pytest.raises(ArgumentError, match="completion: received int"):
        f(["q"], [3])


def test_columns_of_the_data_set_reach_a_source_of_rewards() -> None:
    reward = pl.policy.ProgramReward(pl.policy.ProgramLimits(memory_mib=256), workers=1)
    function, log = RewardFunction(reward), Log()
    prompts = [USER] * 4
    said = ["```python\ndef f(x): return x * x\n```", "def f(x): return 4", "no", "def f(x): return 9"]
    completions: list[Any] = [[{"role": "assistant", "content": text}] for text in said]
    completions[2] = [{"role": "tool", "content": "4"}]
    columns = {"tests": [["assert f(2) == 4", "assert f(3) == 9"]] * 4, "setup": [None] * 4, "name": "x"}
    try:
        found = function(prompts, completions, **log.options, **columns)
        assert found == [1.0, 0.5, None, 0.5]
        assert log.metrics["pluralign/utility"] == pytest.approx(2 / 3)
        assert function(["p"] * 2, said[:2], tests=columns["tests"][:2]) == [1.0, 0.5]
    finally:
        reward.close()


def test_calls_from_several_threads_do_not_meet() -> None:
    inside, most = 0, 0

    def slow(found: list[Any]) -> list[float]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threading.Event().wait(0.01)
        inside -= 1
        return [0.0] * len(found)

    f = RewardFunction(slow)
    threads = [threading.Thread(target=f, args=(["q"], ["a"])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


class AnyText(FakeBackbone):
    """Reads what an untrained policy says, which has no numbers in it."""

    def embed(self, conversations: Any, **options: Any) -> Any:
        texts = [f"{len(one[-1]['content'])} 0 words" for one in conversations]
        return super().embed(talks(texts), **options)


@pytest.mark.peer
@pytest.mark.parametrize("name", ["GRPO", "RLOO"])
def test_trl_trains_with_it(name: str, tmp_path: Path) -> None:
    """TRL's own trainer calls it, and its log has our names."""
    import datasets
    import trl

    model = fake_model("gaussian_ensemble")
    model.backbone = AnyText()
    policy = tiny_policy.saved(tmp_path / "policy")
    config = getattr(trl, f"{name}Config")(
        str(tmp_path / "run"), max_steps=1, per_device_train_batch_size=4, num_generations=2,
        max_completion_length=4, report_to="none", use_cpu=True, logging_steps=1, bf16=False,
        save_strategy="no",
    )  # fmt: skip
    trainer = getattr(trl, f"{name}Trainer")(
        str(policy),
        reward_funcs=[RewardFunction(model, risk="robust:0.5")],
        args=config,
        train_dataset=datasets.Dataset.from_list([{"prompt": USER}] * 8),
        processing_class=tiny_policy.tokenizer(),
    )
    trainer.train()
    logged = {key for line in trainer.state.log_history for key in line}
    assert {"pluralign/mean", "pluralign/disagreement", "rewards/pluralign_robust_0.5/mean"} <= logged
    assert "pluralign/signs/peaked_predictions" in logged
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())
