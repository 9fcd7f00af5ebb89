"""The Gaussian ensemble recipe (BRME): H heads with a mean and a standard deviation each.

In: ratings, comparisons or pairs. Out: a `GaussianEnsembleHead`, and its baselines. There are three ways:

    ratings         only stage 2: Gaussian heads on the ratings. Stage 1 is their Bradley-Terry baseline.
    pairs, votes    stage 1: H Bradley-Terry heads; stage 2: Gaussian heads on each one's standardised reward.
                    Pairs cannot tell mean and spread apart: the std is only how far a head is from stage 1.
    bradley_terry   the heads of stage 1 are the model, without standard deviations: the ensembles of Coste et
                    al. (mean, worst case, UWO).

Heads differ by their own resample of the groups and by their own anchor (`training`); without both,
heads on one backbone with a convex loss become the same head.

Paper: Yan et al. 2024, arXiv 2409.15360; Coste et al. 2023, arXiv 2310.02743. Number of heads, target,
bootstrap, anchors, penalties and the default loss are this project's.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from pluralign.errors import EnsembleWarning
from pluralign.fitting.ensemble.config import GaussianEnsembleConfig
from pluralign.fitting.ensemble.heads import gaussian_heads, preference_heads, rotated
from pluralign.fitting.ensemble.search import chosen_penalties
from pluralign.fitting.ensemble.targets import GaussianTargets, gaussian_targets
from pluralign.fitting.linear import bradley_terry
from pluralign.fitting.linear.baselines import baselines_of
from pluralign.fitting.linear.config import QRM_LEVELS, BradleyTerryConfig
from pluralign.fitting.mix.mixing import add_mixing
from pluralign.fitting.tables.inputs import Fitted, Inputs
from pluralign.fitting.tables.pairs import training_pairs
from pluralign.fitting.tables.targets import RatingTargets, rated_table, rating_targets
from pluralign.heads.agreement import head_agreement
from pluralign.heads.gaussian_ensemble import GaussianEnsembleHead
from pluralign.model.inputs import head_inputs

if TYPE_CHECKING:
    from pluralign.backbones import Embeddings

__all__ = ["finished", "fit", "uses_ratings"]

_STAGE_2 = 3  # times as many steps if there is no noise, until the std has decreased to its floor
ALIKE = 0.003  # heads that differ by less than this share of the reward's spread count as equal

_STD_MEANS = {
    "gaussian_nll": "the spread of the ratings around the head's mean",
    "beta_nll": "the spread of the ratings around the head's mean",
    "reparameterized_mse": "how long training took: the published loss drives it to 0 whatever the noise",
    "bradley_terry": "nothing: it is 0, since these heads have none",
    "stage_1": "how far a head is from its stage-1 reward: pairs cannot tell mean and spread apart",
}


def fit(inputs: Inputs, config: GaussianEnsembleConfig) -> Fitted:
    """Fits the heads on what was given: ratings, or the rewards of Bradley-Terry heads on pairs."""
    return _fit_ratings(inputs, config) if uses_ratings(inputs, config) else _fit_pairs(inputs, config)


def uses_ratings(inputs: Inputs, config: GaussianEnsembleConfig) -> bool:
    """Whether the heads are Gaussians on ratings, not heads on pairs."""
    target = config.target or ("stage_1" if inputs.ratings is None else "ratings")
    return config.loss != "bradley_terry" and target == "ratings"


def _fit_ratings(inputs: Inputs, config: GaussianEnsembleConfig) -> Fitted:
    inputs = replace(inputs, ratings=rated_table(inputs, "gaussian_ensemble"))
    targets = rating_targets(
        inputs.ratings, raters=config.raters, dequantise=config.dequantise, seed=config.seed
    )
    names = [rows.attribute.name for rows in targets.attributes]
    inputs.report(f"{len(targets.conversations):,} distinct texts, {len(names)} attributes")
    for rows in targets.attributes:
        rows.warn_if_constant(stacklevel=4)
    embedded, scaling, features = inputs.features(targets.conversations)
    features, axes = rotated(features)
    points = gaussian_targets(targets)
    l2 = chosen_penalties(inputs, config, points, names, targets.groups, features)
    members = gaussian_heads(inputs, config, features, points, targets.groups, l2)
    members.cpu().rotate_(axes)
    head = GaussianEnsembleHead(
        scaling,
        members,
        tuple(rows.attribute for rows in targets.attributes),
        target_center=points.center,
        target_scale=points.scale,
        std_floor=config.std_floor,
    )
    summary: dict[str, Any] = {
        "target": "ratings",
        "l2": dict(zip(names, l2[:, 0].tolist(), strict=True)),
        "std_l2": dict(zip(names, l2[:, 1].tolist(), strict=True)),
        "num_texts": len(targets.conversations),
    }
    found = finished(head, inputs, config, targets, embedded)
    return replace(found, summary=summary | dict(found.summary))


def finished(
    head: GaussianEnsembleHead,
    inputs: Inputs,
    config: GaussianEnsembleConfig,
    targets: RatingTargets,
    embedded: Embeddings,
) -> Fitted:
    """Heads on ratings with their gate and their unit, equal in mean and spread, and the baselines.

    Args:
        head: without gate and debiasing.
        inputs: of the fit, with its ratings.
        config: of the fit.
        targets: of those ratings.
        embedded: embeddings of their texts.
    """
    head, mixing = add_mixing(head, inputs, config, targets.conversations, embedded, seed=config.seed)
    head, finish = _finish(inputs, config, head, targets.conversations, embedded, config.loss)
    if not config.baselines:
        return Fitted(head, {}, mixing | finish)
    levels = torch.tensor(QRM_LEVELS, dtype=torch.float64)
    baselines, facts = baselines_of(inputs, targets, head.scaling, levels, config.seed)
    return Fitted(head, baselines, mixing | finish | facts)


def _fit_pairs(inputs: Inputs, config: GaussianEnsembleConfig) -> Fitted:
    settings = BradleyTerryConfig(l2=config.l2, margin=config.margin, seed=config.seed)
    single, l2, _ = bradley_terry.fit_head(inputs, settings)
    pairs = training_pairs(inputs, settings.margin, settings.max_pairs_per_group)
    embedded = inputs.embed(pairs.conversations)
    features, axes = rotated(single.scaling(embedded.response))
    members = preference_heads(inputs, config, features, pairs, l2)
    summary: dict[str, Any] = {"l2": l2, "num_pairs": len(pairs.weight)}
    if config.loss == "bradley_terry":
        members.cpu().rotate_(axes)
        head = GaussianEnsembleHead(single.scaling, members)
        target = "pairs"
    else:
        with torch.no_grad():
            reward = members(features)[..., 0].cpu()
        reward = (reward - reward.mean(0)) / reward.std(0, unbiased=False).clamp_min(1e-9)
        points = GaussianTargets(
            reward[None, :, None], torch.ones(len(reward), 1), torch.zeros(1), torch.ones(1)
        )
        # Stage 1 has made the heads differ; here each only has to follow its own reward.
        loose = replace(config, bootstrap=False, anchor=False, steps=_STAGE_2 * config.steps)
        penalties = torch.tensor([[min(config.l2_grid), max(config.std_l2_grid)]])
        members = gaussian_heads(inputs, loose, features, points, [""] * len(reward), penalties)
        members.cpu().rotate_(axes)
        head = GaussianEnsembleHead(single.scaling, members, std_floor=config.std_floor)
        target = "stage_1"
    meaning = config.loss if target == "pairs" else target
    head, finish = _finish(inputs, config, head, pairs.conversations, embedded, meaning)
    summary |= {"target": target} | finish
    return Fitted(head, {"bradley_terry": single} if config.baselines else {}, summary)


def _finish(
    inputs: Inputs,
    config: GaussianEnsembleConfig,
    head: GaussianEnsembleHead,
    conversations: Sequence[Any],
    embedded: Embeddings,
    meaning: str,
) -> tuple[GaussianEnsembleHead, dict[str, Any]]:
    """Standardises the heads, measures the unit of reward and the heads' similarity, and says what a std
    means."""
    given = head_inputs(head, conversations, embedded)
    head = head.eval().with_equal_heads(*given).in_units_of(*given)
    agreement = head_agreement(head.head_means(*given))
    inputs.report(
        f"heads: correlation {agreement['correlation']:.4f}, disagreement {agreement['disagreement']:.3f} of "
        f"the spread of rewards; std means {_STD_MEANS[meaning]}"
    )
    if config.heads > 1 and agreement["disagreement"] < ALIKE:
        warnings.warn(
            f"the {config.heads} heads are nearly equal (disagreement {agreement['disagreement']:.1e} of the "
            f"spread of rewards, correlation {agreement['correlation']:.6f}): the minimum over heads does "
            "nothing. Turn on bootstrap or anchor, or provide more than one group.",
            EnsembleWarning,
            stacklevel=5,
        )
    return head, {
        "heads": config.heads,
        "loss": config.loss,
        "agreement": agreement,
        "std_means": _STD_MEANS[meaning],
    }
