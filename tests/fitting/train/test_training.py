"""The training loop: what it finds, when it stops, and that an interruption changes nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from pluralign.errors import ConfigError, ConvergenceWarning
from pluralign.fitting.train.loop import Schedule, _seeded, train
from pluralign.fitting.train.state import TrainingState


class Problem:
    """A ridge regression of 200 rows, whose optimum has a closed form."""

    def __init__(self, noise=0.3):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(200, 4, generator=generator)
        self.y = self.x @ torch.tensor([1.0, -2.0, 0.0, 0.5]) + noise * torch.randn(200, generator=generator)
        self.module = nn.Linear(4, 1, bias=False)
        nn.init.zeros_(self.module.weight)
        self.rows = torch.arange(200)

    def loss(self, rows):
        return (self.module(self.x[rows])[:, 0] - self.y[rows]).square()

    def mean(self, rows):
        return self.loss(rows).mean()

    def penalised(self, rows):
        return self.mean(rows) + 0.5 * self.module.weight.square().sum()

    def optimum(self):
        return torch.linalg.solve(self.x.T @ self.x / 200 + 0.5 * torch.eye(4), self.x.T @ self.y / 200)


def test_it_finds_the_optimum_of_loss_and_penalty():
    problem = Problem()
    summary = train(problem.module, problem.penalised, slice(None), Schedule(lr=0.05), name="ridge")
    torch.testing.assert_close(problem.module.weight[0], problem.optimum(), atol=1e-3, rtol=0)
    assert summary == {"steps": 300, "best_step": 300, "loss": None, "diverged": False}
    assert not problem.module.training
    assert not problem.module.weight.requires_grad


def test_an_epoch_has_every_row_once_and_leaves_out_what_fills_no_batch():
    problem, seen = Problem(), []

    def noted(rows):
        seen.append(rows.tolist())
        return problem.mean(rows)

    train(problem.module, noted, problem.rows, Schedule(steps=7, batch=60, epochs=True))
    for epoch in (seen[:3], seen[3:6]):
        assert len({row for batch in epoch for row in batch}) == 180
    assert seen[:3] != seen[3:6]
    assert len(seen[6]) == 60


def test_parameters_are_brought_back_after_every_step():
    problem = Problem()
    allowed = problem.module.weight.data
    train(
        problem.module, problem.mean, slice(None), Schedule(lr=0.05), after_step=lambda: allowed.clamp_(min=0)
    )
    assert float(problem.module.weight.min()) == 0.0
    assert float(problem.module.weight[0, 0]) == pytest.approx(1, abs=0.3)


def test_the_seed_decides_batches_and_dropout():
    weights = []
    for seed, outside in ((1, 0), (1, 5), (2, 0)):
        problem = Problem()
        problem.module = nn.Sequential(nn.Dropout(0.5), problem.module)
        torch.manual_seed(outside)
        before = torch.random.get_rng_state()
        train(problem.module, problem.mean, problem.rows, Schedule(steps=20, batch=16), seed=seed)
        assert torch.equal(torch.random.get_rng_state(), before)
        weights.append(problem.module[1].weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_best_evaluation_on_held_out_rows_is_kept():
    """Training rows pull the weights away from where held-out rows are right at the start."""
    problem = Problem(noise=0.0)
    problem.y[150:] = 0.0
    schedule = Schedule(lr=0.05, eval_every=5, patience=3)

    def evaluate():
        assert not torch.is_grad_enabled()
        assert not problem.module.training
        return float(problem.mean(problem.rows[150:]))

    summary = train(problem.module, problem.mean, problem.rows[:150], schedule, evaluate=evaluate)
    assert (summary["best_step"], summary["steps"], summary["loss"]) == (0, 15, 0.0)
    assert not problem.module.weight.any()


def test_an_interrupted_training_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("pluralign.fitting.train.state.REST", 0)
    schedule, path = Schedule(steps=60, batch=32, eval_every=10), tmp_path / "state.safetensors"
    whole, cut, resumed = Problem(), Problem(), Problem()
    train(whole.module, whole.mean, whole.rows, schedule)
    calls = []

    def breaks(rows):
        calls.append(len(rows))
        if len(calls) == 35:
            raise KeyboardInterrupt
        return cut.mean(rows)

    with pytest.raises(KeyboardInterrupt):
        train(cut.module, breaks, cut.rows, schedule, state=TrainingState(path, "k"))
    steps = []
    train(
        resumed.module,
        lambda rows: steps.append(len(rows)) or resumed.mean(rows),
        resumed.rows,
        schedule,
        state=TrainingState(path, "k"),
    )
    assert torch.equal(resumed.module.weight, whole.module.weight)
    assert steps.count(32) == 30


def saved_state(path):
    """The file of a training that was interrupted, and how it is changed."""
    problem = Problem()
    calls = []

    def breaks(rows):
        calls.append(len(rows))
        if len(calls) == 35:
            raise KeyboardInterrupt
        return problem.mean(rows)

    with pytest.raises(KeyboardInterrupt):
        train(problem.module, breaks, problem.rows, SHORT, state=TrainingState(path, "k"))

    def change(tensors=None, **facts):
        with safe_open(path, framework="pt") as file:
            known = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            save_file(known | (tensors or {}), path, file.metadata() | facts)

    return change


SHORT = Schedule(steps=60, batch=32, eval_every=10)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path, change: path.write_bytes(path.read_bytes()[:200]),
        lambda path, change: path.write_bytes(b"no state"),
        lambda path, change: change(step="many"),
        lambda path, change: change(best_loss=""),
        lambda path, change: change({"module.other": torch.zeros(1)}),
        lambda path, change: change({"module.weight": torch.zeros(1, 7)}),
        lambda path, change: change({"best.weight": torch.zeros(2)}),
        lambda path, change: change({"optimizer.0.exp_avg": torch.zeros(7)}),
        lambda path, change: change({"optimizer.first.exp_avg": torch.zeros(7)}),
    ],
)
def test_a_damaged_state_is_logged_and_training_starts_again(tmp_path, monkeypatch, caplog, damage):
    monkeypatch.setattr("pluralign.fitting.train.state.REST", 0)
    path = tmp_path / "state.safetensors"
    damage(path, saved_state(path))
    whole, again = Problem(), Problem()
    train(whole.module, whole.mean, whole.rows, SHORT)
    summary = train(again.module, again.mean, again.rows, SHORT, state=TrainingState(path, "k"))
    assert f"{path} is damaged (" in caplog.text
    assert summary["steps"] == 60
    assert torch.equal(again.module.weight, whole.module.weight)


def test_a_loss_that_is_not_finite_ends_training_with_the_best_evaluation():
    problem = Problem()
    calls = []

    def breaks(rows):
        calls.append(0)
        return problem.mean(rows) / (0.0 if len(calls) == 30 else 1.0)

    with pytest.warns(ConvergenceWarning, match="not finite after step 20"):
        summary = train(problem.module, breaks, problem.rows, Schedule(eval_every=10))
    assert (summary["diverged"], summary["best_step"]) == (True, 20)
    assert bool(problem.module.weight.isfinite().all())


@pytest.mark.parametrize("one_generator", [False, True])
def test_random_numbers_of_any_device_are_seeded_and_restored(monkeypatch, one_generator):
    """Devices have a module of their own in torch; Apple's has one generator, and takes no device."""
    device, states, calls = torch.device("xpu", 1), {0: "before 0", 1: "before 1", None: "before"}, []

    class On:
        now = None if one_generator else 0

        def __init__(self, device):
            self.device = device

        def __enter__(self):
            On.now, self.then = self.device.index, On.now

        def __exit__(self, *_):
            On.now = self.then

    def place(given):
        assert len(given) == (0 if one_generator else 1)
        return given[0].index if given else None

    module = SimpleNamespace(
        get_rng_state=lambda *given: states[place(given)],
        set_rng_state=lambda state, *given: states.update({place(given): state}),
        manual_seed=lambda seed: (calls.append(seed), states.update({On.now: f"seed {seed}"})),
        **({} if one_generator else {"device": On}),
    )
    monkeypatch.setattr(torch, "xpu", module)
    outside, before = torch.get_rng_state(), dict(states)
    with _seeded(device, 7):
        assert states == before | {None if one_generator else 1: "seed 7"}
        first = torch.rand(1)
    assert states == before
    assert torch.equal(torch.get_rng_state(), outside)
    with _seeded(torch.device("cpu"), 7):
        assert torch.equal(torch.rand(1), first)
    monkeypatch.setattr(torch, "xpu", None)
    with _seeded(device, 7):
        assert torch.equal(torch.rand(1), first)


def test_what_is_not_a_schedule():
    for wrong in ({"lr": 0.0}, {"steps": 0}, {"batch": 0}, {"weight_decay": float("nan")}, {"patience": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Schedule(**wrong)
