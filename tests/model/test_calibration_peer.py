"""Calibrated distributions beside crepes, which has one shape for all texts: where ours have, both agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pluralign.distributions import GaussianEnsemble
from pluralign.model.recalibration import Draws, Recalibration

pytestmark = pytest.mark.peer


def predicted(means, std):
    means = torch.as_tensor(means)[:, None]
    return GaussianEnsemble(means, torch.full_like(means, std))


@pytest.mark.parametrize("groups", [39, 199])
def test_predictions_of_one_shape_get_the_quantiles_of_a_conformal_predictive_system(groups):
    """Normal predictions of one width, ratings of another shape: the corrected quantile of level k / (G + 1)
    is the predicted mean plus the k-th smallest residual.
    """
    crepes = pytest.importorskip("crepes")
    generator = np.random.default_rng(groups)
    means = generator.normal(size=groups)
    ratings = means + 0.8 * generator.gamma(2, size=groups) - 1
    distribution, y = predicted(means, 1.0), torch.as_tensor(ratings)[:, None]
    pit = distribution.cdf(y)[:, 0].numpy()
    nothing = np.zeros(groups)
    found = Recalibration.fitted(Draws(pit, pit, nothing, nothing, np.arange(groups), (0.0, 0.0), False))
    new = generator.normal(size=5)
    levels = np.arange(1, 20) / 20
    ours = found(predicted(new, 1.0)).quantile(torch.as_tensor(levels)).numpy()
    system = crepes.ConformalPredictiveSystem().fit(residuals=ratings - means)
    # A hair above each percentile, so that rounding does not take the residual before.
    theirs = system.predict_percentiles(new, lower_percentiles=(100 * levels + 1e-9).tolist())
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
