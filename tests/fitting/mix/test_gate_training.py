"""Training a gate: what it finds; that it repeats itself, goes on after an interruption, survives trouble."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import softplus

from pluralign.errors import ConfigError, GateWarning
from pluralign.fitting.mix import gate as gate_module
from pluralign.fitting.mix.config import MixConfig
from pluralign.fitting.mix.gate import GatePairs, entropy, train_gate
from pluralign.fitting.train import loop
from pluralign.fitting.train.state import TrainingState

SMALL = {
    "gate_hidden": 16,
    "gate_layers": 1,
    "gate_batch": 128,
    "gate_steps": 60,
    "gate_eval_every": 10,
    "gate_lr": 0.03,
    "gate_temperature": 1.0,
}


def pairs_of_two_kinds(count=1500, seed=0):
    """Two kinds of prompt; in each one attribute decides, with the logit 20 (r_chosen - r_rejected)."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(2, (count,), generator=generator)
    prompt = torch.randn(count, 5, generator=generator)
    prompt[:, 0] = 2 * kind - 1
    difference = 0.1 * torch.randn(count, 2, generator=generator)
    deciding = difference.gather(1, kind[:, None])[:, 0]
    first = torch.rand(count, generator=generator) < torch.sigmoid(20 * deciding)
    difference = torch.where(first[:, None], difference, -difference)
    return GatePairs(prompt, difference, torch.ones(count), [f"g{i % 300}" for i in range(count)]), kind


@pytest.fixture(scope="module")
def trained():
    pairs, _ = pairs_of_two_kinds()
    return train_gate(pairs, MixConfig(**SMALL))


def test_the_gate_finds_which_attribute_counts_where(trained):
    gate, summary = trained
    pairs, kind = pairs_of_two_kinds(seed=1)
    weights = gate(pairs.prompt)
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))
    assert float(weights[kind == 0, 0].mean()) > 0.85
    assert float(weights[kind == 1, 1].mean()) > 0.85
    best = float(softplus(-20 * pairs.difference.gather(1, kind[:, None])).mean())
    assert summary["loss"] < summary["loss_of_equal_weights"] - 0.05
    assert summary["loss"] == pytest.approx(best, abs=0.06)
    assert summary["entropy"] == pytest.approx(summary["entropy_share"] * math.log(2))


def test_the_same_seed_gives_the_same_gate_and_another_does_not(trained):
    pairs, _ = pairs_of_two_kinds()
    state = torch.random.get_rng_state()
    again, summary = train_gate(pairs, MixConfig(**SMALL))
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's random numbers are left alone
    for a, b in zip(trained[0].state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert summary == trained[1]
    other, _ = train_gate(pairs, MixConfig(**SMALL), seed=1)
    assert not torch.equal(other.out.weight, again.out.weight)


def test_an_interrupted_training_continues_where_it_stopped(trained, tmp_path, monkeypatch):
    pairs, _ = pairs_of_two_kinds()
    path = tmp_path / "gate.safetensors"
    real, steps = loop._step, []

    def stops(*args):
        step = args[-2]
        if step == 25 and 25 not in steps:
            steps.append(25)
            raise KeyboardInterrupt
        steps.append(step)
        return real(*args)

    monkeypatch.setattr(loop, "_step", stops)
    monkeypatch.setattr("pluralign.fitting.train.state.REST", 0)
    with pytest.raises(KeyboardInterrupt):
        train_gate(pairs, MixConfig(**SMALL), state=TrainingState(path, "key"))
    begun = len(steps)
    gate, summary = train_gate(pairs, MixConfig(**SMALL), state=TrainingState(path, "key"))
    assert steps[begun] == 20
    assert summary == trained[1]
    for name, tensor in trained[0].state_dict().items():
        assert torch.equal(gate.state_dict()[name], tensor)
    begun = len(steps)
    train_gate(pairs, MixConfig(**SMALL), state=TrainingState(path, "of other data"))
    assert steps[begun] == 0


@pytest.mark.parametrize("regularisation", ["dropout", "batchnorm", "none"])
def test_published_architectures_train(regularisation):
    pairs, kind = pairs_of_two_kinds(800)
    config = MixConfig(**SMALL | {"gate_layers": 3, "gate_regularisation": regularisation})
    gate, summary = train_gate(pairs, config)
    assert summary["loss"] < summary["loss_of_equal_weights"]
    assert float(gate(pairs.prompt)[kind == 0, 0].mean()) > 0.6
    assert not any(p.requires_grad for p in gate.parameters())
    torch.testing.assert_close(gate(pairs.prompt[:3]), gate(pairs.prompt)[:3])


def test_a_training_that_diverges_keeps_its_best_evaluation(trained, monkeypatch):
    pairs, _ = pairs_of_two_kinds()
    real, calls = gate_module._loss, []

    def breaks(gate, prompt, difference, weight):
        calls.append(gate.training)
        loss = real(gate, prompt, difference, weight)
        return loss * float("nan") if sum(calls) == 46 else loss

    monkeypatch.setattr(gate_module, "_loss", breaks)
    with pytest.warns(GateWarning, match="not finite after step 40; the best weights.*gate_lr"):
        gate, summary = train_gate(pairs, MixConfig(**SMALL))
    assert summary["diverged"]
    assert summary["steps"] == 40
    assert summary["loss"] < summary["loss_of_equal_weights"]
    assert bool(torch.isfinite(gate(pairs.prompt)).all())


def test_attributes_that_always_agree_leave_equal_weights_and_that_is_reported():
    pairs, _ = pairs_of_two_kinds(300)
    same = GatePairs(pairs.prompt, pairs.difference[:, :1].expand(-1, 2), pairs.weight, pairs.groups)
    with pytest.warns(GateWarning, match="nearly equal weights"):
        gate, summary = train_gate(same, MixConfig(**SMALL | {"gate_steps": 10}))
    torch.testing.assert_close(gate(pairs.prompt), torch.full((300, 2), 0.5))
    assert summary["entropy_share"] == pytest.approx(1)


def test_one_group_holds_nothing_out_and_trains_to_the_end():
    pairs, _ = pairs_of_two_kinds(300)
    alone = GatePairs(pairs.prompt, pairs.difference, pairs.weight, ["g"] * 300)
    _, summary = train_gate(alone, MixConfig(**SMALL))
    assert summary["held_out_pairs"] == 0
    assert summary["best_step"] == summary["steps"] == 60


def test_prompts_that_say_nothing_leave_what_holds_for_all_of_them():
    pairs, _ = pairs_of_two_kinds(2000)
    generator = torch.Generator().manual_seed(3)
    margin = 20 * (0.8 * pairs.difference[:, 0] + 0.2 * pairs.difference[:, 1])
    chosen = torch.rand(2000, generator=generator) < torch.sigmoid(margin)
    difference = torch.where(chosen[:, None], pairs.difference, -pairs.difference)
    blind = GatePairs(torch.randn(2000, 5, generator=generator), difference, pairs.weight, pairs.groups)
    gate, summary = train_gate(blind, MixConfig(**SMALL | {"gate_lr": 0.3}))
    assert summary["loss"] <= summary["loss_of_constant_weights"] < summary["loss_of_equal_weights"]
    weights = gate(blind.prompt)[:, 0]
    assert float(weights.mean()) == pytest.approx(0.8, abs=0.1)
    _, published = train_gate(blind, MixConfig(**SMALL | {"gate_scale": 20.0, "gate_steps": 1}))
    assert published["loss_of_constant_weights"] == published["loss_of_equal_weights"]


def test_weights_count_like_repeated_pairs_in_evaluation():
    pairs, _ = pairs_of_two_kinds(200)
    weight = torch.arange(200) % 3 + 1.0
    weighted = GatePairs(pairs.prompt, pairs.difference, weight, pairs.groups)
    repeated = pairs[torch.arange(200).repeat_interleave(weight.long())]
    gate, _ = train_gate(pairs, MixConfig(**SMALL | {"gate_steps": 10}))
    assert gate_module._loss_on(gate, weighted) == pytest.approx(
        gate_module._loss_on(gate, repeated), rel=1e-5
    )


def test_entropy_is_that_of_the_definition():
    weights = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.9, 0.1]])
    expected = [math.log(2), 0.0, -0.9 * math.log(0.9) - 0.1 * math.log(0.1)]
    torch.testing.assert_close(entropy(weights), torch.tensor(expected))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mix": "average"}, "vincentize, mixture"),
        ({"gate_regularisation": "l2"}, "dropout, batchnorm, none"),
        ({"gate_temperature": 0.0}, "above 0"),
        ({"gate_lr": float("nan")}, "finite"),
        ({"gate_batch": 1}, "at least 2"),
        ({"gate_steps": 0}, "at least 1"),
        ({"gate_scale": -1.0}, "above 0"),
        ({"gate_dropout": 1.0}, "below 1"),
        ({"debias_coupling": "both"}, "shift, parity"),
        ({"debias_threshold": 2.0}, "correlation"),
    ],
)
def test_illegal_values(values, message):
    with pytest.raises(ConfigError, match=message):
        MixConfig(**values)
