"""Training of members: closed forms, independence of members, resuming, and what the objectives compute."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pluralign import losses
from pluralign.errors import EnsembleWarning
from pluralign.fitting.ensemble.config import GaussianEnsembleConfig
from pluralign.fitting.ensemble.targets import (
    GaussianObjective,
    PairObjective,
    bootstrap_counts,
    gaussian_targets,
    loss_of,
    row_shares,
)
from pluralign.fitting.ensemble.training import prior_precision, start_at_draws, train_members
from pluralign.fitting.tables.targets import AttributeRows, RatingTargets
from pluralign.fitting.train import state as training_state
from pluralign.fitting.train.state import TrainingState
from pluralign.heads import Attribute
from pluralign.heads.ensemble_members import Members

COUNT, WIDTH = 200, 5


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Squares:
    """Half the squared error of one output, and each member's own weights of the rows."""

    def __init__(self, features: Tensor, target: Tensor, share: Tensor) -> None:
        self.features, self.target, self.share = features, target, share
        self.num_rows = len(features)

    def losses(self, members, rows):
        error = members(self.features[rows])[..., 0] - self.target[rows, None]
        return self.share[rows] * 0.5 * error.square()


def problem(members: int = 3) -> Squares:
    features = draws(COUNT, WIDTH)
    target = features @ torch.linspace(-1, 1, WIDTH) + 0.3 * draws(COUNT, seed=1)
    return Squares(features, target, row_shares(draws(COUNT, members, seed=2).abs()))


def trained(objective, l2, *, seeds=(4, 5, 6), anchor=True, hidden=0, **options):
    members = Members(len(l2), WIDTH, 1, hidden)
    precision = prior_precision(members, l2, COUNT)
    penalty = start_at_draws(members, precision, COUNT, seeds, anchor=anchor)
    options = {"steps": 400, "lr": 0.02, "batch": COUNT} | options
    train_members(members, objective, penalty, **options)
    return members, penalty


def test_an_anchored_member_is_the_anchored_ridge_solution():
    """(X'SX + l2 I) w = X'S(y - b) + l2 w_0, with S the shares over N, and b the weighted mean residual."""
    objective, l2 = problem(), torch.tensor([[0.01], [0.1], [1.0]])
    members, penalty = trained(objective, l2)
    for m in range(3):
        share = objective.share[:, m].double() / COUNT
        x = torch.cat([objective.features, torch.ones(COUNT, 1)], 1).double()
        ridge = float(l2[m]) * torch.diag(torch.tensor([1.0] * WIDTH + [0.0])).double()
        anchor = torch.cat([penalty["weight"][1][m, 0], torch.zeros(1)]).double()
        right = x.T @ (share * objective.target.double()) + ridge @ anchor
        exact = torch.linalg.solve(x.T @ (share[:, None] * x) + ridge, right)
        torch.testing.assert_close(members.weight[m, 0].double(), exact[:-1], atol=2e-4, rtol=0)
        torch.testing.assert_close(members.bias[m, 0].double(), exact[-1], atol=2e-4, rtol=0)


def test_anchored_members_spread_like_the_posterior():
    """Unit noise: over draws of anchors and noise the weights have covariance (X'X + N l2 I)^-1."""
    features, l2, count = draws(COUNT, WIDTH), 0.05, 300
    noise = draws(COUNT, count, seed=3)
    objective = Squares(features, torch.zeros(COUNT), torch.ones(COUNT, count))
    objective.losses = lambda members, rows: (
        0.5
        * (  # type: ignore[method-assign]
            (members(features)[..., 0] - noise).square()
        )
    )
    members, _ = trained(objective, torch.full((count, 1), l2), seeds=range(count))
    weights = members.weight[:, 0].double()
    exact = torch.linalg.inv(features.T @ features + COUNT * l2 * torch.eye(WIDTH)).double()
    ratio = torch.cov(weights.T).diag() / exact.diag()
    assert float((ratio - 1).abs().max()) < 0.35  # chi-square with 299 degrees: standard error .08


@pytest.mark.parametrize(("hidden", "batch"), [(0, COUNT), (0, 64), (4, 64)])
def test_a_member_is_trained_as_it_would_be_alone(hidden, batch):
    objective = problem()
    options = {"hidden": hidden, "batch": batch, "steps": 60}
    l2 = torch.tensor([[0.01], [0.1], [1.0]])
    together, _ = trained(objective, l2, **options)
    for m in range(3):
        one = Squares(objective.features, objective.target, objective.share[:, m : m + 1])
        alone, _ = trained(one, l2[m : m + 1], seeds=(4 + m,), **options)
        for name, parameter in together.named_parameters():
            torch.testing.assert_close(parameter[m], getattr(alone, name)[0], atol=2e-5, rtol=1e-4)


def test_without_anchors_linear_members_meet_and_with_them_they_do_not():
    objective = problem()
    objective.share = torch.ones(COUNT, 3)
    l2 = torch.full((3, 1), 0.1)
    free, _ = trained(objective, l2, anchor=False)
    held, _ = trained(objective, l2, anchor=True)
    assert float(free.weight.std(0).max()) < 1e-4
    assert float(held.weight.std(0).max()) > 1e-2


def test_drawn_functions_have_the_prior_variance_with_and_without_hidden_units():
    """D / (N l2) at features of squared norm D, whatever the architecture, and at most 1."""
    rows, l2 = draws(500, 64, seed=8), 0.05
    for hidden in (0, 128):
        members = Members(100, 64, 1, hidden)
        precision = prior_precision(members, torch.full((100, 1), l2), 4000)
        start_at_draws(members, precision, 4000, range(100), anchor=True)
        with torch.no_grad():
            variance = float(members(rows)[..., 0].square().mean())
        assert variance == pytest.approx(64 / (4000 * l2), rel=0.15)
    members = Members(2, 64, 1)
    few = start_at_draws(members, prior_precision(members, torch.ones(2, 1), 1), 400, [7, 7], anchor=True)
    many = start_at_draws(
        members, prior_precision(members, torch.ones(2, 1), 1), torch.tensor([400, 1600]), [7, 7], anchor=True
    )
    ratio = many["weight"][1] / few["weight"][1]
    torch.testing.assert_close(ratio.mean((1, 2)), torch.tensor([1.0, 0.5]))
    members = Members(100, 64, 1)
    start_at_draws(
        members, prior_precision(members, torch.full((100, 1), 1e-6), 9), 9, range(100), anchor=True
    )
    with torch.no_grad():
        assert float(members(rows).square().mean()) == pytest.approx(1, rel=0.15)


def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr(training_state, "REST", 0)  # every look is written
    l2, options = torch.full((3, 1), 0.1), {"batch": 64, "steps": 120}
    whole, _ = trained(problem(), l2, **options)

    class Stops(Squares):
        """Raises at its 61st step, and counts."""

        calls, last = 0, 60

        def losses(self, members, rows):
            self.calls += 1
            if self.calls > self.last:
                raise KeyboardInterrupt
            return super().losses(members, rows)

    given = problem()
    stops, goes_on = (Stops(given.features, given.target, given.share) for _ in range(2))
    goes_on.last = 1000
    path = tmp_path / "heads.safetensors"
    with pytest.raises(KeyboardInterrupt):
        trained(stops, l2, state=TrainingState(path, "key"), **options)
    again, _ = trained(goes_on, l2, state=TrainingState(path, "key"), **options)
    assert goes_on.calls == 120 - 50  # from the last look on
    assert torch.equal(again.weight, whole.weight)


def test_a_loss_that_is_not_finite_keeps_the_last_evaluation():
    objective = problem()
    real, calls = objective.losses, []

    def breaks(members, rows):
        calls.append(1)
        return real(members, rows) * (float("nan") if len(calls) > 40 else 1.0)

    objective.losses = breaks
    with pytest.warns(EnsembleWarning, match="not finite after step 25"):
        members, _ = trained(objective, torch.full((3, 1), 0.1), steps=100)
    assert len(calls) == 41
    assert bool(members.weight.isfinite().all())


# -- targets ---------------------------------------------------------------------------------------


def crowd_targets(raters: int = 4) -> RatingTargets:
    """Two attributes on six texts; the second is rated on three of them only."""
    generator = torch.Generator().manual_seed(3)
    parts = []
    for name, items in (("a", torch.arange(6)), ("b", torch.tensor([1, 2, 5]))):
        item = items.repeat_interleave(raters)
        target = torch.rand(len(item), generator=generator, dtype=torch.float64)
        weight = torch.full((len(item),), 1 / raters, dtype=torch.float64)
        parts.append(AttributeRows(Attribute(name, 0, 1), item, target, weight))
    return RatingTargets([[{}]] * 6, list("uvwxyz"), tuple(parts))


@pytest.mark.parametrize("loss", ["gaussian_nll", "beta_nll"])
def test_two_points_stand_for_all_raters(loss):
    """The mean loss of a text's ratings, computed rating by rating."""
    targets = crowd_targets()
    points = gaussian_targets(targets)
    features = draws(6, WIDTH)
    config = GaussianEnsembleConfig(loss=loss, heads=2)
    share = row_shares(points.present[:, :, None].expand(-1, -1, 2))
    objective = GaussianObjective(features, points.points, share, loss_of(config), 0.05)
    members = Members(4, WIDTH, 2)
    for parameter in members.parameters():
        parameter.data.copy_(draws(*parameter.shape, seed=11))
    got = objective.losses(members, slice(None)).mean(0)
    means, stds = objective.distributions(members, slice(None))
    direct = losses.gaussian_nll if loss == "gaussian_nll" else losses.beta_nll
    for a, rows in enumerate(targets.attributes):
        y = ((rows.target - points.center[a].double()) / points.scale[a].double()).float()
        for h in range(2):
            each = direct(means[rows.item, a, h], stds[rows.item, a, h], y)
            torch.testing.assert_close(got[2 * a + h], each.mean(), atol=1e-5, rtol=1e-5)


def test_the_published_loss_has_its_expectation_on_two_points():
    """(mu - E y)^2 + s^2 + Var y, by a large sample of the noise."""
    targets = crowd_targets()
    points = gaussian_targets(targets)
    config = GaussianEnsembleConfig(loss="reparameterized_mse", heads=1)
    share = row_shares(points.present[:, :, None])
    objective = GaussianObjective(draws(6, WIDTH), points.points, share, loss_of(config), 0.05)
    members = Members(2, WIDTH, 2)
    torch.manual_seed(0)
    with torch.no_grad():
        sampled = torch.stack([objective.losses(members, slice(None)) for _ in range(4000)])
    std = 0.05 + float(torch.tensor(2.0).log())
    expected = points.points[..., 0].square().mean(0) + std**2
    torch.testing.assert_close(sampled.mean((0, 1)), (share[..., 0] * expected).mean(0), atol=0.05, rtol=0)


def test_standard_units_and_missing_ratings():
    points = gaussian_targets(crowd_targets())
    present = points.present.bool()
    assert present.tolist() == [[True, i in (1, 2, 5)] for i in range(6)]
    for a in range(2):
        values = points.points[:, present[:, a], a]
        assert float(values.mean()) == pytest.approx(0, abs=1e-6)
        assert float(values.square().mean()) == pytest.approx(1, abs=1e-5)
    assert float(points.points[:, ~present].abs().max()) == 0.0
    assert len(gaussian_targets(crowd_targets(raters=1)).points) == 1


def test_bootstraps_resample_groups():
    groups = [f"g{i}" for i in range(50) for _ in range(2)]
    counts = bootstrap_counts(groups, [1, 2])
    assert counts.shape == (100, 2)
    assert counts[::2].sum(0).tolist() == [50, 50]
    assert torch.equal(counts[::2], counts[1::2])  # a group comes as a whole
    assert not torch.equal(counts[:, 0], counts[:, 1])
    assert torch.equal(bootstrap_counts(groups, [2])[:, 0], counts[:, 1])
    assert torch.equal(bootstrap_counts(groups[::-1], [1, 2]).flip(0), counts)


def test_shares_have_mean_one_and_nothing_stays_nothing():
    shares = row_shares(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    assert shares.tolist() == [[0.5, 0.0], [1.5, 0.0]]


@pytest.mark.parametrize("rows", [slice(None), torch.tensor([3, 0])])
def test_pairs_have_the_bradley_terry_loss(rows):
    features = draws(9, WIDTH)
    chosen, rejected = torch.tensor([0, 1, 2, 3, 4]), torch.tensor([5, 6, 7, 8, 0])
    share = row_shares(draws(5, 2, seed=4).abs())
    members = Members(2, WIDTH, 1)
    members.weight.data.copy_(draws(2, 1, WIDTH, seed=5))
    got = PairObjective(features, chosen, rejected, share).losses(members, rows)
    margin = (features[chosen] - features[rejected]) @ members.weight[:, 0].T
    torch.testing.assert_close(got, (share * torch.nn.functional.softplus(-margin))[rows])


def test_balanced_anchors_leave_the_mean_of_the_ensemble_where_it_was():
    objective, l2 = problem(4), torch.full((4, 1), 0.3)
    objective.share = torch.ones(COUNT, 4)
    plain, _ = trained(objective, l2, seeds=range(4), anchor=False)
    members = Members(4, WIDTH, 1)
    precision = prior_precision(members, l2, COUNT)
    penalty = start_at_draws(members, precision, COUNT, range(4), anchor=True, balanced=4)
    drawn = start_at_draws(Members(4, WIDTH, 1), precision, COUNT, range(4), anchor=True)
    assert float(penalty["weight"][1].sum(0).abs().max()) < 1e-6
    torch.testing.assert_close(
        penalty["weight"][1].var(0, unbiased=False), drawn["weight"][1].var(0, unbiased=True)
    )
    train_members(members, objective, penalty, steps=400, lr=0.02, batch=COUNT)
    torch.testing.assert_close(members.weight.mean(0), plain.weight.mean(0), atol=1e-3, rtol=0)
    assert float(members.weight.std(0).min()) > 1e-3
    alone = start_at_draws(Members(1, WIDTH, 1), precision, COUNT, [0], anchor=True, balanced=1)
    assert float(alone["weight"][1].abs().max()) == 0.0
