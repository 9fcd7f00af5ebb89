"""Which loss learns the crowd from few raters.

In: a seed. Out: errors by loss and number of raters. In the lab, where the crowd's true distribution over
the six categories is known, a linear head on MiniLM is fitted with each loss to votes of 1, 3, 5 and 20
people; Wasserstein-1 between reward distributions and total variation to the truth, on texts that no fit
has seen.
"""

from __future__ import annotations

from typing import Any

import torch

import pluralign as pl
from pluralign import backbones
from pluralign.data import conversation

ATOMS = torch.tensor([1.0, 0.5, -1.0, -1.0, -1.5, -3.0])
RATERS, TEXTS, HELD_OUT = (1, 3, 5, 20), 400, 600
L2_GRID = (0.01, 0.03, 0.1, 0.3, 1.0)
LOSSES: dict[str, dict[str, Any]] = {
    "transport": {"loss": "transport"},
    "transport, smoothing .1": {"loss": "transport", "smoothing": 0.1},
    "rps": {"loss": "rps"},
    "cross_entropy": {"loss": "cross_entropy"},
}


def run(seed: int) -> dict[str, Any]:
    """Every loss on votes of every number of raters, for one draw of texts and votes."""
    crowd = pl.lab.Crowd(seed=seed)
    backbone, cache = backbones.load("minilm"), backbones.EmbeddingCache()
    unseen = crowd.conversations(HELD_OUT, seed=seed + 1000)
    rated: dict[int, Any] = {n: crowd.category_votes(TEXTS, n, seed=seed) for n in RATERS}
    fitted = {row["prompt"][-1]["content"] for row in rated[1]}
    unseen = [one for one in unseen if one[-2]["content"] not in fitted] or unseen
    truth = pl.Categorical(crowd.category_truth(unseen), ATOMS.double())
    texts = [conversation(row["prompt"], row["response"]) for row in rated[1]]
    constant = pl.Categorical(crowd.category_truth(texts).mean(0).expand(len(unseen), -1), ATOMS.double())
    runs = {}
    for raters, table in rated.items():
        for name, config in LOSSES.items():
            settings = {**config, "baselines": False, "l2_grid": L2_GRID, "seed": seed}
            model = pl.fit("categorical", ratings=table, backbone=backbone, cache=cache, config=settings)
            probs = model.attribute_distributions(unseen)["category"].probs.double()
            runs[f"{name}, {raters} raters"] = {
                "loss": name,
                "raters": raters,
                "l2": model.fitted["l2"]["category"],
                **_errors(pl.Categorical(probs, ATOMS.double()), truth),
            }
    runs["the average text"] = {"loss": "the average text", "raters": None, **_errors(constant, truth)}
    return {
        "texts": TEXTS,
        "unseen": len(unseen),
        "runs": runs,
    }


def _errors(predicted: Any, truth: Any) -> dict[str, float]:
    return {
        "wasserstein": float(predicted.wasserstein(truth).mean()),
        "total_variation": float((predicted.probs - truth.probs).abs().sum(-1).mean()) / 2,
        "entropy_gap": float((_entropy(predicted.probs) - _entropy(truth.probs)).mean()),
    }


def _entropy(probs: torch.Tensor) -> torch.Tensor:
    return -torch.special.xlogy(probs, probs).sum(-1)
