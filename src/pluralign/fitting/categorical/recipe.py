"""The categorical recipe (DPRM): from the crowd's ratings of each response to probabilities of categories.

In: ratings or votes for categories, or comparisons; pairs or votes for the gate. Out: a `CategoricalHead`,
and the baselines, the constant model and Bradley-Terry. There are two ways:

    ratings              every response's raters as a distribution over categories, attribute by attribute;
                         also for comparisons with `comparisons=pointwise`, each side with the votes it
                         received
    votes (comparisons)  one score and one tie parameter for pairs (`comparisons`)

Paper: Li et al. 2024 (DPRM), arXiv 2402.09764, whose loss is `transport`; cross-entropy as the default, bins,
the choice of the penalty, the gate and the treatment of comparisons are this project's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.errors import DataError
from pluralign.fitting.categorical.comparisons import (
    COMPARED,
    PREFERENCE,
    Comparisons,
    comparison_problem,
    comparisons_of,
    equal_scores,
    log_tie_of,
)
from pluralign.fitting.categorical.config import CategoricalConfig
from pluralign.fitting.categorical.messages import check_rows, report_categories, warn_about_gaps
from pluralign.fitting.categorical.targets import CategoryRows, category_rows
from pluralign.fitting.categorical.training import Problem, fit_logits, rotate
from pluralign.fitting.linear.baselines import bradley_terry_of
from pluralign.fitting.mix.mixing import add_mixing
from pluralign.fitting.tables.category_ratings import is_six, ratings_as_rewards
from pluralign.fitting.tables.inputs import Fitted, Inputs
from pluralign.fitting.tables.targets import RatingTargets, rated_table, rating_targets
from pluralign.fitting.train.axes import principal_axes
from pluralign.heads import CategoricalHead, ColumnScaling, Head
from pluralign.heads.categorical import CategoryLogits, ComparisonLogits
from pluralign.heads.categories import HARM, HELPFULNESS
from pluralign.losses import (
    cross_entropy,
    ranked_probability_score,
    smooth_neighbours,
    transport,
    two_axis_cost,
)

if TYPE_CHECKING:
    from pluralign.backbones import Embeddings

__all__ = [
    "compares",
    "finished_comparisons",
    "finished_ratings",
    "fit",
    "score_of",
    "smoothed_target",
]


def fit(inputs: Inputs, config: CategoricalConfig) -> Fitted:
    """Fits categories on ratings, or a model of comparisons on votes alone."""
    return _fit_comparisons(inputs, config) if compares(inputs, config) else _fit_ratings(inputs, config)


def compares(inputs: Inputs, config: CategoricalConfig) -> bool:
    """Whether the fit is one of comparisons, not of ratings."""
    return inputs.ratings is None and inputs.votes is not None and config.comparisons == "pairwise"


def _fit_ratings(inputs: Inputs, config: CategoricalConfig) -> Fitted:
    votes = inputs.votes if inputs.ratings is None else None
    inputs = replace(inputs, ratings=rated_table(inputs, "categorical"))
    targets = rating_targets(inputs.ratings, raters="raw", dequantise=False)
    rows = [category_rows(attribute, config) for attribute in targets.attributes]
    check_rows(rows, config)
    inputs.report(f"{len(targets.conversations):,} distinct texts, {len(rows)} attributes")
    for part in rows:
        report_categories(inputs, part)
    embedded, scaling, features, axes = _features(inputs, targets.conversations)
    modules, facts = [], {}
    for part in rows:
        problem = _category_problem(part, features, targets.groups, config)
        module, facts[part.attribute.name] = fit_logits(problem, inputs, config)
        modules.append(module)
    head = _head(scaling, axes, modules, rows, config)
    found = finished_ratings(head, inputs, config, targets, rows, embedded, votes)
    summary = {"l2": {name: fact["l2"] for name, fact in facts.items()}}
    return replace(found, summary=summary | dict(found.summary))


def finished_ratings(
    head: CategoricalHead,
    inputs: Inputs,
    config: CategoricalConfig,
    targets: RatingTargets,
    rows: list[CategoryRows],
    embedded: Embeddings,
    votes: Any = None,
) -> Fitted:
    """A head on ratings with its gate and its unit, and the baselines on the same embeddings.

    Args:
        head: without gate and debiasing.
        inputs: of the fit, with its ratings.
        config: of the fit.
        targets: of those ratings, neither reduced nor dequantised.
        rows: the categories of each attribute's ratings.
        embedded: embeddings of their texts.
        votes: the comparisons that the ratings were made of, if they were.
    """
    comparisons = None
    if votes is not None and head.categories[0].values == COMPARED.values:
        comparisons = comparisons_of(votes)
        head = head.with_parts(log_tie=log_tie_of(head, comparisons, inputs))
    gaps = _average_gaps(head, rows, embedded)
    warn_about_gaps(gaps, config)
    summary: dict[str, Any] = {
        "categories": {part.attribute.name: part.categories.mapping for part in rows},
        "average_gap": gaps,
        "median_raters": {part.attribute.name: float(part.raters.median()) for part in rows},
        "num_texts": len(targets.conversations),
    }
    head, mixing = add_mixing(head, inputs, config, targets.conversations, embedded, seed=config.seed)
    summary |= mixing
    baselines: dict[str, Head] = {}
    if config.baselines:
        scaling = head.scaling
        constants = [_start(part.target, len(scaling.center), config.hidden) for part in rows]
        constant = _head(scaling, None, constants, rows, config)
        if comparisons is not None:
            constant = constant.with_parts(log_tie=log_tie_of(constant, comparisons, inputs))
        known = {part.attribute.name: part.categories for part in rows}
        rewards = replace(inputs, ratings=ratings_as_rewards(inputs.ratings, known))
        baselines, found = _baselines(rewards, constant, embedded, config)
        summary |= found
    return Fitted(head, baselines, summary)


def _fit_comparisons(inputs: Inputs, config: CategoricalConfig) -> Fitted:
    for name, unset in {"rewards": None, "edges": None, "cost": "rewards", "floor": 0}.items():
        if getattr(config, name) != unset:
            raise DataError(f"{name} applies to ratings, and these are comparisons; leave it out")
    if config.loss != "cross_entropy":
        raise DataError(
            f"loss = {config.loss!r} applies to ratings; comparisons are fitted by cross-entropy, or with "
            "comparisons = 'pointwise' as ratings"
        )
    comparisons = comparisons_of(inputs.votes)
    inputs.report(
        f"{len(comparisons.conversations):,} distinct texts, {len(comparisons.first):,} comparisons, "
        f"{float(comparisons.target[:, 1].mean()):.1%} of the votes are ties"
    )
    embedded, scaling, features, axes = _features(inputs, comparisons.conversations)
    problem = comparison_problem(comparisons, features, config.hidden, config.smoothing)
    module, facts = fit_logits(problem, inputs, config)
    with torch.no_grad():
        module.center.copy_(
            module.score(features).mean()
        )  # so that an opponent of score 0 is the average response
    rotate(module, axes)
    found = finished_comparisons(
        _comparison_head(scaling, module, config), inputs, config, comparisons, embedded
    )
    return replace(found, summary=facts | dict(found.summary))


def finished_comparisons(
    head: CategoricalHead,
    inputs: Inputs,
    config: CategoricalConfig,
    comparisons: Comparisons,
    embedded: Embeddings,
) -> Fitted:
    """A head on comparisons with its unit, and the baselines on the same embeddings.

    Args:
        head: of comparisons.
        inputs: of the fit, with its votes.
        config: of the fit.
        comparisons: of those votes.
        embedded: embeddings of their texts.
    """
    head = head.in_units_of(embedded.response, embedded.prompt)
    module, scaling = head.comparison, head.scaling
    summary = {
        "categories": {PREFERENCE.name: COMPARED.mapping},
        "comparisons": len(comparisons.first),
        "ties": float(comparisons.target[:, 1].mean()),
        "log_tie": None if module is None else float(module.log_tie),
        "num_texts": len(comparisons.conversations),
    }
    baselines: dict[str, Head] = {}
    if config.baselines:
        level = equal_scores(comparisons.target, len(scaling.center), config.hidden)
        constant = _comparison_head(scaling, level, config)
        baselines, found = _baselines(inputs, constant, embedded, config)
        summary |= found
    return Fitted(head, baselines, summary)


# -- shared parts ----------------------------------------------------------------------------------


def _features(
    inputs: Inputs, conversations: list[list[dict[str, str]]]
) -> tuple[Embeddings, ColumnScaling, Tensor, Tensor]:
    """Embeddings, their scaling, the scaled features along their principal axes, and the axes."""
    embedded, scaling, features = inputs.features(conversations)
    axes = principal_axes(features)
    return embedded, scaling, features @ axes, axes


def _baselines(
    inputs: Inputs, constant: CategoricalHead, embedded: Embeddings, config: CategoricalConfig
) -> tuple[dict[str, Head], dict[str, Any]]:
    constant = constant.in_units_of(embedded.response[:1], embedded.prompt[:1])
    heads, facts = bradley_terry_of(inputs, config.seed)
    return {"constant": constant, **heads}, facts


# -- ratings ---------------------------------------------------------------------------------------


def _category_problem(
    rows: CategoryRows, features: Float[Tensor, "N D"], groups: list[str], config: CategoricalConfig
) -> Problem[CategoryLogits]:
    smoothed = smoothed_target(rows, config)
    return Problem(
        name=rows.attribute.name,
        inputs=(features[rows.item.to(features.device)],),
        target=smoothed.to(features.device),
        groups=[groups[i] for i in rows.item.tolist()],
        make=lambda target: _start(target, features.shape[1], config.hidden),
        logits=lambda module, own: module(own),
        score=score_of(rows, config, features.device),
        loss=config.loss,
    )


def _start(target: Tensor, width: int, hidden: int) -> CategoryLogits:
    """Logits that predict the mean of the targets for every row, without probabilities of 0."""
    module = CategoryLogits(width, target.shape[1], hidden)
    with torch.no_grad():
        module.out.bias.copy_((target.sum(0) + 0.5).log() - (target.sum() + 0.5 * target.shape[1]).log())
    return module


def score_of(
    rows: CategoryRows, config: CategoricalConfig, device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    """From logits and targets to the chosen loss per row."""
    rewards = torch.tensor(rows.categories.rewards, device=device)
    if config.loss == "cross_entropy":
        return cross_entropy
    if config.loss == "rps":
        return lambda logits, target: ranked_probability_score(logits.softmax(-1), target, rewards)
    if config.cost == "rewards":
        return lambda logits, target: transport(
            logits.softmax(-1), target, rewards, config.floor, validate=False
        )
    # In float64; otherwise rounding would break ties between costs, and the fast solver would reject them.
    axes = torch.tensor([HELPFULNESS, HARM], dtype=torch.float64)
    cost = two_axis_cost(axes[0], axes[1], config.axis_weights)  # the solver reads it on the CPU
    return lambda logits, target: transport(
        logits.softmax(-1),
        target,
        cost=cost,
        floor=config.floor,
        regularization=config.regularization,
        validate=False,
    )


def smoothed_target(rows: CategoryRows, config: CategoricalConfig) -> Float[Tensor, "R C"]:
    """The crowd's shares with a little of them moved to neighbouring categories."""
    return smooth_neighbours(rows.target, config.smoothing, _neighbours(rows))


def _neighbours(rows: CategoryRows) -> Tensor | None:
    """On the two axes of the six categories neighbours are one step apart; otherwise they are adjacent in
    order."""
    if not is_six(rows.attribute):
        return None
    steps = two_axis_cost(2 * torch.tensor(HELPFULNESS), torch.tensor(HARM))
    return steps == 1


def _head(
    scaling: ColumnScaling,
    axes: Tensor | None,
    modules: list[CategoryLogits],
    rows: list[CategoryRows],
    config: CategoricalConfig,
) -> CategoricalHead:
    if axes is not None:
        for module in modules:
            rotate(module, axes)
    head = CategoricalHead(
        scaling,
        [module.requires_grad_(False) for module in modules],
        tuple(part.categories for part in rows),
        tuple(part.attribute for part in rows),
        hidden=config.hidden,
        mix=config.mix,
    )
    return head.to(scaling.center.device).eval()


def _average_gaps(head: CategoricalHead, rows: list[CategoryRows], embedded: Embeddings) -> dict[str, float]:
    """Total variation between the average prediction and the average crowd, per attribute.

    With a proper score it is 0 up to the penalty; with the transport loss it need not be, because that is
    minimal at the median of the raters' distribution functions, not at their mean.
    """
    with torch.no_grad():
        predicted = head.probs(embedded.response)
    return {
        part.attribute.name: 0.5 * float((probs[part.item].mean(0).cpu() - part.target.mean(0)).abs().sum())
        for part, probs in zip(rows, predicted, strict=True)
    }


# -- comparisons -----------------------------------------------------------------------------------


def _comparison_head(
    scaling: ColumnScaling, module: ComparisonLogits, config: CategoricalConfig
) -> CategoricalHead:
    module.requires_grad_(False)
    head = CategoricalHead(
        scaling, [module], (COMPARED,), (PREFERENCE,), hidden=config.hidden, mix=config.mix
    )
    return head.to(scaling.center.device).eval()
