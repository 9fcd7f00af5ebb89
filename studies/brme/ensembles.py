"""Gaussian ensembles in the lab: the runs of `spread`, `heads` and `choice`.

In: features, seed. Out: numbers by loss, cell or measure. `spread`: the std that three losses learn as
training goes on, against the true one; `heads`, bootstrap and anchors: how alike heads are on familiar and
unfamiliar texts; `choice`: what the nominal head, the minimum and other measures choose. What five heads
cost is measured in `studies/speed/heads.py`.
"""

from __future__ import annotations

from typing import Any

import torch

import pluralign as pl
from pluralign.evaluation.best_of_n import best_of_n
from pluralign.evaluation.metrics import spearman
from pluralign.heads.agreement import head_agreement
from studies.brme import world

LOSSES = ("gaussian_nll", "beta_nll", "reparameterized_mse")
STEPS = (50, 150, 450)
ENOUGH = 150  # more change nothing where the loss is a likelihood, as the study of the spread shows
PENALTIES = {"minilm": {"l2": 0.1, "std_l2": 3.0}, "traits": {"l2": 0.01, "std_l2": 0.3}}
MEASURES = ("mean", "nominal", "worst_case", "best_case", "uwo:1", "robust:0.4", "mean_std:1", "cvar:0.1")
SIZES = (1, 2, 4, 8, 16, 32)


def fit(features: str, seed: int, **config: Any) -> Any:
    """One ensemble on the ratings of a seed, at fixed penalties."""
    return pl.fit(
        "gaussian_ensemble",
        ratings=world.ratings(seed),
        backbone=world.backbone(features),
        cache=world.cache_of(features),
        config={"baselines": False, "seed": seed, "dequantise": False, "steps": ENOUGH}
        | PENALTIES[features]
        | config,
        progress=False,
    )


def spread(features: str, seed: int) -> dict[str, Any]:
    """Trap 1: mean std of the heads over the true one, and its rank correlation, by loss and steps."""
    texts, found = world.held_out(), {}
    for loss in LOSSES:
        for steps in STEPS:
            distribution = fit(features, seed, loss=loss, steps=steps).attribute_distributions(
                texts.conversations
            )["overall"]
            within = distribution.stds.double().mean(1)
            found[f"{loss}/{steps}"] = {
                "ratio": float(within.mean() / texts.std.mean()),
                "rank": spearman(within, texts.std),
                "mean_error": float((distribution.mean() - texts.mean).square().mean().sqrt()),
            }
    return found


def heads(features: str, seed: int) -> dict[str, Any]:
    """Trap 2: agreement of heads on familiar and unfamiliar texts, with and without bootstrap and anchors."""
    found: dict[str, Any] = {}
    usual, unusual = world.held_out(), [world.held_out(style) for style in world.STYLES]
    for bootstrap in (False, True):
        for anchor in (False, True):
            model = fit(features, seed, bootstrap=bootstrap, anchor=anchor)
            cell: dict[str, Any] = head_agreement(model.distribution(usual.conversations).means)
            errors, between = [], []
            for style, texts in zip(("behaviour", *world.STYLES), (usual, *unusual), strict=True):
                distribution = model.distribution(texts.conversations)
                between.append(distribution.means.double().std(1, unbiased=False))
                rated = model.attribute_distributions(texts.conversations)["overall"].mean()
                errors.append((rated - texts.mean).abs())
                cell[f"between_{style}"] = float(between[-1].mean())
                cell[f"bias_{style}"] = float((rated - texts.mean).mean())
                gap = model.score(texts.conversations) - model.score(texts.conversations, "worst_case")
                cell[f"minimum_takes_{style}"] = float(gap.mean())
            cell["warns_usual"] = spearman(between[0], errors[0])
            cell["warns_all"] = spearman(torch.cat(between), torch.cat(errors))
            found[f"bootstrap={bootstrap} anchor={anchor}"] = cell
    return found


def choice(features: str, seed: int) -> dict[str, Any]:
    """How well each measure does: correlation with gold on familiar texts, gold of best of n."""
    usual, pools = world.held_out(), world.pools()
    gold = pools.mean.reshape(world.PROMPTS, world.POOL)
    models = {
        "gaussian_nll": fit(features, seed),
        "reparameterized_mse": fit(features, seed, loss="reparameterized_mse"),
        "one head": fit(features, seed, heads=1, bootstrap=False, anchor=False),
        "bradley_terry": fit(features, seed, loss="bradley_terry", l2=0.1),
    }
    found: dict[str, Any] = {"random": float(gold.mean()), "oracle": float(gold.max(1).values.mean())}
    for name, model in models.items():
        distribution, pool = (model.distribution(part.conversations) for part in (usual, pools))
        for measure in MEASURES:
            if name == "one head" and measure not in ("mean", "mean_std:1", "cvar:0.1"):
                continue
            score = pl.risk.parse(measure)
            proxy = score(pool).double().reshape(gold.shape)
            curve = best_of_n(proxy, gold, SIZES).mean(0)
            found[f"{name}/{measure}"] = {
                "correlation": float(
                    torch.corrcoef(torch.stack([score(distribution).double(), usual.mean]))[0, 1]
                ),
                "best_of_usual": float(
                    best_of_n(proxy[:, : world.USUAL], gold[:, : world.USUAL], (world.USUAL,)).mean()
                ),
                "gold": dict(zip(map(str, SIZES), curve.tolist(), strict=True)),
                "unusual_chosen": float((proxy.argmax(1) >= world.USUAL).double().mean()),
            }
    return found


def grid(seed: int) -> list[dict[str, Any]]:
    """Both kinds of features."""
    return [{"features": features, "seed": seed} for features in world.FEATURES]
