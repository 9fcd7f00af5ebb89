"""Gaussian ensembles in the lab: the numbers of docs/results.md, section "Gaussian ensembles".

Studies: `spread`, the std that three losses learn as training goes on, against the true one; `heads`,
bootstrap and anchors: how alike heads are on familiar and unfamiliar texts; `choice`, what the nominal head,
the minimum and other measures choose; `cost`, five heads against one. One JSON per run; what is there already
is skipped unless --force is given, so an interrupted study is continued by the same command.

    python benchmarks/brme.py --studies spread heads choice cost
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import brme_world as world
import pluralign as pl
from pluralign.evaluation.best_of_n import best_of_n
from pluralign.evaluation.metrics import spearman
from pluralign.fitting.ensemble.config import GaussianEnsembleConfig
from pluralign.fitting.ensemble.heads import train_heads
from pluralign.fitting.ensemble.targets import GaussianObjective, bootstrap_counts, loss_of, row_shares
from pluralign.heads.agreement import head_agreement
from study_runs import record
from tables import write
from timing import Timing, rounds

RESULTS = Path(__file__).parent / "results" / "brme"
SEEDS = range(5)
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
    judged, found = world.held_out(), {}
    for loss in LOSSES:
        for steps in STEPS:
            law = fit(features, seed, loss=loss, steps=steps).attribute_distributions(judged.conversations)[
                "overall"
            ]
            within = law.stds.double().mean(1)
            found[f"{loss}/{steps}"] = {
                "ratio": float(within.mean() / judged.std.mean()),
                "rank": spearman(within, judged.std),
                "mean_error": float((law.mean() - judged.mean).square().mean().sqrt()),
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
            for style, judged in zip(("behaviour", *world.STYLES), (usual, *unusual), strict=True):
                law = model.distribution(judged.conversations)
                between.append(law.means.double().std(1, unbiased=False))
                rated = model.attribute_distributions(judged.conversations)["overall"].mean()
                errors.append((rated - judged.mean).abs())
                cell[f"between_{style}"] = float(between[-1].mean())
                cell[f"bias_{style}"] = float((rated - judged.mean).mean())
                gap = model.score(judged.conversations) - model.score(judged.conversations, "worst_case")
                cell[f"minimum_takes_{style}"] = float(gap.mean())
            cell["warns_usual"] = spearman(between[0], errors[0])
            cell["warns_all"] = spearman(torch.cat(between), torch.cat(errors))
            found[f"bootstrap={bootstrap} anchor={anchor}"] = cell
    return found


def choice(features: str, seed: int) -> dict[str, Any]:
    """What each measure is worth: correlation with gold on familiar texts, gold of best of n."""
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
        law, pool = (model.distribution(part.conversations) for part in (usual, pools))
        for measure in MEASURES:
            if name == "one head" and measure not in ("mean", "mean_std:1", "cvar:0.1"):
                continue
            score = pl.risk.parse(measure)
            proxy = score(pool).double().reshape(gold.shape)
            curve = best_of_n(proxy, gold, SIZES).mean(0)
            found[f"{name}/{measure}"] = {
                "correlation": float(torch.corrcoef(torch.stack([score(law).double(), usual.mean]))[0, 1]),
                "best_of_usual": float(
                    best_of_n(proxy[:, : world.USUAL], gold[:, : world.USUAL], (world.USUAL,)).mean()
                ),
                "gold": dict(zip(map(str, SIZES), curve.tolist(), strict=True)),
                "unusual_chosen": float((proxy.argmax(1) >= world.USUAL).double().mean()),
            }
    return found


def cost() -> dict[str, Any]:
    """Five heads against one: training alone, and a whole fit with embeddings at hand."""
    found: dict[str, Any] = {}
    for width, hidden in ((384, 0), (4096, 0), (384, 64)):
        ways = {f"{count} heads": _training(width, hidden, count) for count in (1, 5)}
        found[f"training, 2,000 responses, width {width}, {hidden} hidden units"] = _compare(
            ways, "5 heads", "1 heads"
        )
    table, backbone = world.ratings(0), world.backbone("minilm")

    def whole(count: int) -> Callable[[], Any]:
        config = {"heads": count}
        return lambda: pl.fit(
            "gaussian_ensemble", ratings=table, backbone=backbone, config=config, progress=False
        )

    whole(1)()  # embeds what is not in the cache yet
    found[f"whole fit, {world.TEXTS:,} responses, width 384, embeddings cached"] = _compare(
        {f"{count} heads": whole(count) for count in (1, 5)}, "5 heads", "1 heads"
    )
    return found


def _training(width: int, hidden: int, count: int) -> Callable[[], Any]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2000, width, generator=generator)
    points = torch.randn(2, 2000, 1, 1, generator=generator)
    config = GaussianEnsembleConfig(heads=count, hidden=hidden, steps=50)
    shares = row_shares(bootstrap_counts([str(i // 4) for i in range(2000)], range(count)).float()[:, None])
    objective = GaussianObjective(features, points, shares, loss_of(config), config.std_floor)
    l2 = torch.tensor([[0.1, 3.0]]).repeat(count, 1)
    return lambda: train_heads(objective, config, l2, width, 2000, anchor=True)


def _compare(ways: dict[str, Callable[[], Any]], slow: str, fast: str) -> dict[str, Any]:
    timing = Timing()
    for work in ways.values():
        work()
    for number in rounds(40, least=4, most=12):
        timing.in_turn(number, ways)
    return {"seconds": timing.seconds(), "ratio": timing.ratio(slow, fast)}


STUDIES: dict[str, Callable[..., dict[str, Any]]] = {"spread": spread, "heads": heads, "choice": choice}


def runs(
    studies: list[str], kinds: list[str]
) -> Iterator[tuple[str, Callable[..., dict[str, Any]], dict[str, Any]]]:
    """Name, work and settings of every run."""
    if "cost" in studies:
        yield "cost", cost, {}
    for seed in SEEDS:
        for study in studies:
            for features in kinds if study != "cost" else ():
                settings = {"features": features, "seed": seed}
                yield f"{study}-{features}-{seed}", STUDIES[study], settings


def main() -> None:
    """Runs what was asked for and is not there yet."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    names = [*STUDIES, "cost"]
    parser.add_argument("--studies", nargs="*", default=names, choices=names, metavar="STUDY")
    parser.add_argument("--features", nargs="*", default=world.FEATURES, choices=world.FEATURES)
    parser.add_argument("--force", action="store_true", help="run again what is there already")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name, work, settings in runs(options.studies, options.features):
        target = RESULTS / f"{name}.json"
        if target.exists() and not options.force:
            continue
        result = record(name.split("-")[0], settings, work)
        write(target, result)
        print(f"{name}: {result['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
