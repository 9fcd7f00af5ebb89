"""Reward distributions: the predictions of every reward model. Torch only; the interface is in `base`.

    Point             a value                           Bradley-Terry, regression
    Quantiles         values at levels                  QRM
    GaussianEnsemble  means and stds of heads           BRME
    Categorical       probabilities of atoms            DPRM
    Empirical         samples                           raters, reference completions
    Ensemble          members of any one kind           ensembles of every family

`vincentize` and `mixture` combine the quantiles of several attributes; `rounded_to_grid` puts a distribution
on a grid of ratings.
"""

from pluralign.distributions.base import Heads, RewardDistribution, Variances
from pluralign.distributions.categorical import Categorical
from pluralign.distributions.combine import mixture, vincentize
from pluralign.distributions.empirical import Empirical
from pluralign.distributions.ensemble import Ensemble
from pluralign.distributions.gaussian import GaussianEnsemble
from pluralign.distributions.grid import rounded_to_grid
from pluralign.distributions.point import Point
from pluralign.distributions.quantiles import Quantiles

__all__ = [
    "Categorical",
    "Empirical",
    "Ensemble",
    "GaussianEnsemble",
    "Heads",
    "Point",
    "Quantiles",
    "RewardDistribution",
    "Variances",
    "mixture",
    "rounded_to_grid",
    "vincentize",
]
