"""Distances of every family to held-out raters, by cross-fitting over groups.

In: a set of ratings, a method, how much of the data it is fitted on. Out: mean distances per group of the
set.

Every family is read on the categories of the raters and compared with all held-out raters of a response;
what it is fitted on is thinned to a share of the responses and to a number of raters per response.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import pluralign as pl
from pluralign.data.splits import folds
from pluralign.evaluation import crowd
from studies.shared_data import shared_data

FOLDS = 5

# method -> family and config. `constant` is the average distribution of the people, `average` one number per
# response. `..._gaussian` is the normal distribution of the same mean and variance in its place: what the
# shape alone costs.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "constant": ("constant", {}),
    "constant_gaussian": ("constant", {}),
    "average": ("regression", {"baselines": False}),
    "gaussian": ("regression", {"baselines": False, "residual": "gaussian"}),
    "quantile": ("quantile", {"baselines": False}),
    "gaussian_ensemble": ("gaussian_ensemble", {"baselines": False}),
    "transport": ("categorical", {"baselines": False, "loss": "transport"}),
    "cross_entropy": ("categorical", {"baselines": False, "loss": "cross_entropy"}),
    "rps": ("categorical", {"baselines": False, "loss": "rps"}),
    "cross_entropy_gaussian": ("categorical", {"baselines": False, "loss": "cross_entropy"}),
}
UNTHINNED = "cross_entropy_gaussian"  # asks about the shape, not about the amount of data
# (share of the training responses, raters per response; None: all)
ALL = (1.0, None)
THINNINGS: dict[str, tuple[tuple[float, int | None], ...]] = {
    "emobank": (ALL, (1.0, 1), (0.1, None), (1.0, 3)),
    "summeval-crowd": (ALL, (1.0, 1), (0.1, None), (1.0, 3)),
    "ukpconvarg": (ALL, (1.0, 1), (0.1, None), (1.0, 3), (1.0, 5), (1.0, 20)),
    "ukpconvarg-seen-topics": (ALL, (0.1, None)),
    "ukpconvarg-new-debates": (ALL,),
}


def emobank() -> Any:
    """The reader's valence and arousal of about 1,260 sentences, the same share of every document."""
    table = pl.load_ratings(shared_data() / "emobank/ratings.jsonl.gz", where={"subset": "reader"})
    wanted = ("reader_valence", "reader_arousal")
    return table.filter(lambda row: _hash("sentence", row["response"]) < 0.15 and row["attribute"] in wanted)


def summeval() -> Any:
    """The crowd's ratings of summaries."""
    return pl.load_ratings(shared_data() / "summeval/ratings.jsonl.gz", where={"subset": "crowd"})


def ukpconvarg() -> Any:
    """Arguments, rated by the votes they got; a topic, one side of a debate, is held out as a whole."""
    return pl.data.ratings_from_votes(pl.load_comparisons(shared_data() / "ukpconvarg/comparisons.jsonl.gz"))


def ukpconvarg_seen_topics() -> Any:
    """The same with single arguments held out, so that their topics were seen."""
    return ukpconvarg().map(lambda row: {"group": f"{row['group']}/{_hash('argument', row['id'])}"})


def ukpconvarg_new_debates() -> Any:
    """The same with both sides of a debate held out; `subset` keeps the topic."""
    return ukpconvarg().map(lambda row: {"group": row["group"].split("_")[0], "subset": row["group"]})


SETS: dict[str, Callable[[], Any]] = {
    "emobank": emobank,
    "summeval-crowd": summeval,
    "ukpconvarg": ukpconvarg,
    "ukpconvarg-seen-topics": ukpconvarg_seen_topics,
    "ukpconvarg-new-debates": ukpconvarg_new_debates,
}
MEASURED_BY = {"ukpconvarg-new-debates": "subset"}  # whose means are kept, where it is not the group


def _hash(*parts: object) -> float:
    """A place in [0, 1) that depends on nothing but the parts."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def thinned(table: Any, share: float, raters: int | None) -> Any:
    """A share of the responses, each with its first `raters` in an order of its own."""
    table = table.filter(lambda row: _hash("share", row["prompt"], row["response"]) < share)
    if raters is None:
        return table

    def fewer(row: dict[str, Any]) -> dict[str, Any]:
        order = np.random.default_rng(int(_hash("raters", row["id"]) * 2**32)).permutation(
            len(row["ratings"])
        )
        return {"ratings": [row["ratings"][i] for i in order[:raters]], "rater_ids": None}

    return table.map(fewer)


def distributions(
    family: str, config: dict[str, Any], train: Any, test: Any, backbone: Any
) -> dict[str, Any]:
    """The predicted distribution of every test row, by attribute, with the test rows' indices."""
    attributes = list(dict.fromkeys(test["attribute"]))
    rows = {a: [i for i, one in enumerate(test["attribute"]) if one == a] for a in attributes}
    if family == "constant":
        return {a: (index, _average(train, a, len(index))) for a, index in rows.items()}
    model = pl.fit(family, ratings=train, backbone=backbone, config=config, progress=False)
    found = {}
    for a, index in rows.items():
        conversations = [pl.data.conversation(test[i]["prompt"], test[i]["response"]) for i in index]
        found[a] = (index, model.attribute_distributions(conversations)[a])
    return found


def _average(train: Any, attribute: str, count: int) -> pl.Categorical:
    """The distribution of a random rater of a random response."""
    rows = [r for r, a in zip(train["ratings"], train["attribute"], strict=True) if a == attribute]
    weights: dict[float, float] = {}
    for row in rows:
        for rating in row:
            weights[rating] = weights.get(rating, 0.0) + 1 / len(row)
    probs = torch.tensor(list(weights.values()), dtype=torch.float64) / len(rows)
    return pl.Categorical(probs.expand(count, -1), torch.tensor(list(weights), dtype=torch.float64))


def _normal(distribution: Any) -> pl.GaussianEnsemble:
    """The normal distribution with the mean and the variance of each distribution."""
    distribution = distribution.to(dtype=torch.float64)
    return pl.GaussianEnsemble(distribution.mean()[:, None], distribution.std()[:, None].clamp_min(1e-6))


def distances_to(distribution: Any, ratings: list[list[float]], atoms: torch.Tensor) -> dict[str, np.ndarray]:
    """Distances of distributions to their raters, read on the categories; a point stays the number it is."""
    padded = np.full((len(ratings), max(map(len, ratings))), np.nan)
    for i, row in enumerate(ratings):
        padded[i, : len(row)] = row
    distribution = distribution.to(dtype=torch.float64)
    on = distribution if isinstance(distribution, pl.Point) else crowd.on_categories(distribution, atoms)
    return {
        "wasserstein": crowd.wasserstein_to_raters(on, padded).numpy(),
        "energy": crowd.energy_distance(on, padded).numpy(),
        "majority": crowd.majority_accuracy(crowd.category_probs(distribution, atoms), padded, atoms).numpy(),
    }


def floors(table: Any, atoms: torch.Tensor) -> dict[str, float]:
    """What the true distributions would score, and how far halves of the raters are apart."""
    least, halves = [], []
    for attribute in dict.fromkeys(table["attribute"]):
        rows = [r for r, a in zip(table["ratings"], table["attribute"], strict=True) if a == attribute]
        padded = np.full((len(rows), max(map(len, rows))), np.nan)
        for i, row in enumerate(rows):
            padded[i, : len(row)] = row
        least.append(crowd.wasserstein_floor(crowd.rater_counts(padded, atoms), atoms))
        halves.append(float(crowd.split_half_distance(padded).nanmean()))
    return {"wasserstein_floor": float(np.mean(least)), "raters_apart": float(np.mean(halves))}


def grid(seed: int) -> list[dict[str, Any]]:
    """All data first, then less of it; folds and fits have one seed."""
    wanted = [(place, name, one) for name in SETS for place, one in enumerate(THINNINGS[name])]
    return [
        {"data": name, "method": method, "share": share, "raters": raters, "seed": seed}
        for _, name, (share, raters) in sorted(wanted, key=lambda each: each[0])
        for method in METHODS
        if method != UNTHINNED or (share, raters) == ALL
        if seed == 0
    ]


@functools.cache
def _backbone() -> Any:
    return pl.backbones.load("minilm", length=True, surface=True)


def run(data: str, method: str, share: float, raters: int | None, seed: int) -> dict[str, Any]:
    """Mean distances per group of the set, in units of the rating scale; the seed is that of the folds, 0."""
    table = SETS[data]()
    low, high = table["scale"][0]
    atoms = torch.arange(low, high + 0.5, dtype=torch.float64)
    family, config = METHODS[method]
    measured: dict[str, dict[str, list[float]]] = {}
    for train, test in folds(table, FOLDS, seed=seed):
        units = test[MEASURED_BY.get(data, "group")][:]
        for index, distribution in distributions(
            family, config, thinned(train, share, raters), test, _backbone()
        ).values():
            distribution = _normal(distribution) if method.endswith("_gaussian") else distribution
            distances = distances_to(distribution, [test["ratings"][i] for i in index], atoms)
            for place, i in enumerate(index):
                own = measured.setdefault(units[i], {})
                for key, values in distances.items():
                    own.setdefault(key, []).append(float(values[place]))
    return {
        "config": config,
        "folds": FOLDS,
        "rows": len(table),
        "floors": floors(table, atoms),
        "groups": {g: {k: float(np.nanmean(v)) for k, v in own.items()} for g, own in measured.items()},
    }
