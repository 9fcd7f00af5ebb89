"""Over-optimisation in the lab: the gold reward of the best of n responses, by family and risk measure.

In: features and a seed. Out: curves over n.

A language model answers each of 64 prompts 1,024 times. Reward models of every family, fitted on what people
said of other texts, choose the best of n of these answers, and the crowd's exact reward measures the choice.
The texts that they were fitted on come from the behaviour policy; among the 1,024 there are texts that no one
has rated the like of.

A seed draws the texts that are rated, who rates them, and the pairs; prompts and answers are the same in all
seeds. `policy` is the frozen language model itself as backbone.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor

import pluralign as pl
from pluralign.evaluation.best_of_n import best_of_n
from pluralign.lab import Samples
from pluralign.lab.outcomes import measure_samples
from studies import records
from studies.lab_policy.world import CROWD, World, base_model, sample

WORK = records.WORK / "lab_policy"
FEATURES = ("policy", "minilm")
PROMPTS, ANSWERS = 64, 1024
RATED, RATERS, PAIRS = 2000, 5, 5000
SIZES = tuple(2**k for k in range(11))
MEASURES = ("gold", "tail", "harm", "words", "broken")

# name -> family, config, what it is fitted on, and the risk measures that choose
_HEADS = ("mean", "nominal", "worst_case", "uwo:1", "robust:0.4")
Models = dict[str, tuple[str, dict[str, Any], str, tuple[str, ...]]]
MODELS: Models = {
    "bradley_terry": ("bradley_terry", {}, "pairs", ("mean",)),
    "bradley_terry, 5 heads": (
        "gaussian_ensemble",
        {"loss": "bradley_terry"},
        "pairs",
        ("mean", "worst_case", "uwo:1"),
    ),
    "regression": ("regression", {"residual": "gaussian"}, "ratings", ("mean", "cvar:0.25")),
    "quantile": ("quantile", {}, "ratings", ("mean", "quantile:0.1", "cvar:0.25", "entropic:1")),
    "categorical": ("categorical", {"loss": "transport"}, "ratings", ("mean", "cvar:0.25", "entropic:1")),
    "gaussian_ensemble": ("gaussian_ensemble", {}, "ratings", _HEADS),
}

# The same families as ensembles of five heads, each on its own resample of the groups.
_MEMBERS = ("mean", "worst_case", "uwo:1", "cvar:0.25", "worst_case(cvar:0.25)")
ENSEMBLES: Models = {
    name: (*MODELS[name][:3], _MEMBERS) for name in ("bradley_terry", "regression", "quantile", "categorical")
}
NUM_HEADS = 5


def answers() -> Any:
    """1,024 answers of the language model to each of 64 prompts, kept in the work folder."""
    world = World(WORK, 0)
    prompts = world.held_out[:PROMPTS]
    return world.kept("many", lambda: sample(base_model(world.base), prompts, ANSWERS, seed=77)[0])


@cache
def truth() -> dict[str, Tensor]:
    """What the crowd's truth says of every answer, each [prompts, answers]."""
    conversations = answers().conversations
    samples = Samples([one[:-1] for one in conversations], [one[-1]["content"] for one in conversations])
    columns = measure_samples(CROWD, samples)
    return {name: columns[name].reshape(PROMPTS, ANSWERS) for name in MEASURES}


@cache
def backbone(features: str) -> Any:
    """The frozen language model that also wrote the answers, or MiniLM."""
    if features == "minilm":
        return pl.backbones.load("minilm", num_threads=1)
    return pl.backbones.load(str(World(WORK, 0).base), pooling="last_mean", num_threads=1)


def grid(seed: int) -> list[dict[str, Any]]:
    """Both kinds of features."""
    return [{"features": features, "seed": seed} for features in FEATURES]


def run(features: str, seed: int) -> dict[str, Any]:
    """Curves over n of every model and risk measure."""
    return _curves(features, seed, MODELS, 1)


def run_ensembles(features: str, seed: int) -> dict[str, Any]:
    """The same of every family as an ensemble: does their minimum hold as that of Gaussian heads does?"""
    return _curves(features, seed, ENSEMBLES, NUM_HEADS)


def _curves(features: str, seed: int, models: Models, heads: int) -> dict[str, Any]:
    data = {
        "ratings": {"ratings": CROWD.ratings(RATED, RATERS, seed=200 + seed)},
        "pairs": {"pairs": CROWD.pairs(PAIRS, seed=200 + seed)},
    }
    conversations, curves = answers().conversations, {}
    for name, (family, config, what, risks) in models.items():
        config = config if family == "bradley_terry" else {"baselines": False, **config}
        options = {"backbone": backbone(features), "config": config, "ensemble": heads, "progress": False}
        model = pl.fit(family, **data[what], **options)
        distribution = model.distribution(conversations)
        for risk in risks:
            utility = pl.risk.parse(risk)(distribution).double()
            proxy = ((utility - utility.mean()) / utility.std()).reshape(PROMPTS, ANSWERS)
            own = {"proxy": proxy, **truth()}
            curves[f"{name}/{risk}"] = {
                k: best_of_n(proxy, v, SIZES).mean(0).tolist() for k, v in own.items()
            }
    return {
        "sizes": SIZES,
        "amounts": {
            "prompts": PROMPTS,
            "answers": ANSWERS,
            "rated": RATED,
            "raters": RATERS,
            "pairs": PAIRS,
        },
        "average": {name: float(column.mean()) for name, column in truth().items()},
        "best": best_of_n(truth()["gold"], truth()["gold"], SIZES).mean(0).tolist(),
        "curves": curves,
    }
