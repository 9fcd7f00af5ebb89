"""The losses of units: their mean is the objective of the frozen fit, written out again here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_tuning as tiny
import torch

from pluralign.families import CONFIGS, TUNING
from pluralign.fitting import Inputs, TuningConfig
from pluralign.fitting.train.journal import Journal
from pluralign.fitting.tuning.problem import Entries

pytestmark = pytest.mark.filterwarnings("ignore::pluralign.errors.PluralignWarning")


def inputs_of(**tables: Any) -> Inputs:
    given = dict.fromkeys(("ratings", "pairs", "votes")) | tables
    return Inputs(**given, embed=tiny.embed, journal=Journal(None), report=lambda line: None)


def unit_losses(
    family: str, inputs: Inputs, head: Any = None, **tuning: Any
) -> tuple[Any, Any, torch.Tensor]:
    """The head at the start, the problem, and the losses of all its units."""
    config = CONFIGS[family](**tiny.FAST[family])
    stage = TUNING[family].stages(inputs, config)[-1]
    head = stage.start(inputs, config).head if head is None else head
    problem = stage.problem(inputs, config, head, TuningConfig(**tuning), held_out=False)
    vectors = inputs.embed(problem.conversations).response[problem.units]
    rows = torch.arange(len(problem))
    losses = problem.losses(head, vectors, rows)
    some = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:5]]
    part = problem.losses(head, vectors[some], some)  # in any order, whatever else is in the batch
    torch.testing.assert_close(part, losses[some], rtol=1e-5, atol=1e-6)
    return head, problem, losses.detach()


def test_quantiles_have_the_mean_pinball_loss_of_their_attributes(tmp_path: Path) -> None:
    from sklearn.metrics import mean_pinball_loss

    from pluralign.fitting.tables.targets import rating_targets

    inputs = inputs_of(ratings=tiny.ratings(tmp_path))
    head, problem, losses = unit_losses("quantile", inputs)
    targets = rating_targets(inputs.ratings)
    values = head.values(inputs.embed(targets.conversations).response).double().numpy()
    expected = [
        mean_pinball_loss(rows.target, values[rows.item, a, k], alpha=level, sample_weight=rows.weight)
        for a, rows in enumerate(targets.attributes)
        for k, level in enumerate((0.25, 0.5, 0.75))
    ]
    assert len(problem) == len(targets.conversations)
    assert float(losses.mean()) == pytest.approx(np.mean(expected), rel=1e-5)


def test_regression_has_the_squared_errors_of_single_ratings(tmp_path: Path) -> None:
    from pluralign.fitting.tables.targets import rating_targets

    inputs = inputs_of(ratings=tiny.ratings(tmp_path))
    head, _, losses = unit_losses("regression", inputs)
    targets = rating_targets(inputs.ratings, dequantise=False)
    values = head.values(inputs.embed(targets.conversations).response).double()
    expected = [
        np.average((values[rows.item, a] - rows.target).square(), weights=rows.weight)
        for a, rows in enumerate(targets.attributes)
    ]
    assert float(losses.mean()) == pytest.approx(np.mean(expected), rel=1e-5)


def test_pairs_have_margins_smoothing_and_centering(tmp_path: Path) -> None:
    inputs = inputs_of(pairs=tiny.pairs(tmp_path, margin=True))
    head, problem, losses = unit_losses(
        "bradley_terry", inputs, label_smoothing=0.1, centering=0.2, margin_scale=0.3
    )
    score = [
        (head.scaling(inputs.embed([row]).response).numpy() @ head.weight.numpy())[0] - head.reference.mean
        for row in problem.conversations
    ]
    given = inputs.pairs["margin"]
    for unit, ((chosen, rejected), margin) in enumerate(zip(problem.units.tolist(), given, strict=True)):
        z = score[chosen] - score[rejected] - 0.3 * margin
        expected = 0.9 * np.log1p(np.exp(-z)) + 0.1 * np.log1p(np.exp(z))
        expected += 0.2 * (score[chosen] + score[rejected]) ** 2
        assert float(losses[unit]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("loss", ["cross_entropy", "transport", "rps"])
def test_categories_have_the_loss_of_their_recipe(loss: str, tmp_path: Path) -> None:
    from pluralign.fitting.categorical import recipe
    from pluralign.fitting.categorical.tuning import known_rows

    inputs = inputs_of(ratings=tiny.ratings(tmp_path))
    config = CONFIGS["categorical"](**tiny.FAST["categorical"] | {"loss": loss})
    stage = TUNING["categorical"].stages(inputs, config)[0]
    fitted = recipe.fit(inputs, config)
    start = stage.start(inputs, config)
    problem = stage.problem(inputs, config, start.head, TuningConfig(), held_out=False)
    vectors = inputs.embed(problem.conversations).response[problem.units]
    mean = float(problem.losses(start.head, vectors, torch.arange(len(problem))).detach().mean())
    targets, rows = known_rows(inputs, config, start.head)
    scaled = start.head.scaling(inputs.embed(targets.conversations).response)
    expected = []
    for i, part in rows.items():
        probs = start.head.logits[i](scaled[part.item]).softmax(-1).detach().double().numpy()
        target, rewards = part.target.double().numpy(), np.array(part.categories.rewards)
        gaps, below = np.diff(rewards), (probs - target).cumsum(1)[:, :-1]
        expected.append(
            {
                "cross_entropy": -(target * np.log(probs)).sum(1),
                "transport": (np.abs(below) * gaps).sum(1),
                "rps": (below**2 * gaps).sum(1),
            }[loss].mean()
        )
    assert mean == pytest.approx(np.mean(expected), rel=1e-4)
    assert fitted.head.family == start.head.family


def test_an_ensemble_has_the_likelihood_of_every_head_on_its_resample(tmp_path: Path) -> None:
    from scipy.stats import norm

    from pluralign.fitting.ensemble.heads import head_shares
    from pluralign.fitting.tables.targets import rating_targets

    inputs = inputs_of(ratings=tiny.ratings(tmp_path))
    head, _, losses = unit_losses("gaussian_ensemble", inputs)
    config = CONFIGS["gaussian_ensemble"](**tiny.FAST["gaussian_ensemble"])
    targets = rating_targets(inputs.ratings)
    means, stds = (part.double() for part in head.values(inputs.embed(targets.conversations).response))
    present = torch.zeros(len(targets.conversations), len(targets.attributes))
    for a, rows in enumerate(targets.attributes):
        present[rows.item, a] = 1.0
    share = head_shares(config, present, targets.groups).double()
    expected = []
    for a, rows in enumerate(targets.attributes):
        scale = float(head.target_scale[a])
        for h in range(2):
            each = -norm.logpdf(rows.target, means[rows.item, a, h], stds[rows.item, a, h]) - np.log(scale)
            total = np.bincount(rows.item, rows.weight, len(present))[rows.item]
            weight = rows.weight.numpy() / total * share[rows.item, a, h].numpy()
            expected.append((weight * each).sum() / len(present))
    constant = 0.5 * np.log(2 * np.pi)  # which the loss may leave out
    found = float(losses.mean())
    assert min(abs(found - np.mean(expected)), abs(found - np.mean(expected) + constant)) < 1e-4


def test_entries_are_those_of_their_units() -> None:
    unit = torch.tensor([2, 0, 2, 3, 0, 2])
    entries = Entries(unit, torch.arange(6), torch.arange(6.0), torch.ones(6), 5)
    place, attribute, target, _ = entries.of(torch.tensor([3, 2, 1, 2]))
    assert place.tolist() == [0, 1, 1, 1, 3, 3, 3]
    assert attribute.tolist() == [3, 0, 2, 5, 0, 2, 5]
    assert target.tolist() == attribute.tolist()
