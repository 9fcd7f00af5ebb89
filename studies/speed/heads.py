"""Five heads against one: training alone, and a whole fit with embeddings at hand.

In: nothing. Out: seconds and ratios by shape, the two measured next to each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import pluralign as pl
from pluralign.fitting.ensemble.config import GaussianEnsembleConfig
from pluralign.fitting.ensemble.heads import train_heads
from pluralign.fitting.ensemble.targets import GaussianObjective, bootstrap_counts, loss_of, row_shares
from studies.brme import world
from studies.speed.timing import Timing, rounds


def run(seed: int) -> dict[str, Any]:
    """Every shape; the seed is that of ratings and features, 0."""
    found: dict[str, Any] = {}
    for width, hidden in ((384, 0), (4096, 0), (384, 64)):
        ways = {f"{count} heads": _training(width, hidden, count) for count in (1, 5)}
        found[f"training, 2,000 responses, width {width}, {hidden} hidden units"] = _compare(
            ways, "5 heads", "1 heads"
        )
    table, backbone = world.ratings(seed), world.backbone("minilm")

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
