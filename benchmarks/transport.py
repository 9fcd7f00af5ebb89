"""Transport losses: speed and accuracy against POT, and which loss learns the crowd from few raters.

    OMP_NUM_THREADS=1 python benchmarks/transport.py speed [--force]
    OMP_NUM_THREADS=1 python benchmarks/transport.py raters [--seeds 5] [--force]

`speed`: batch 4,096, 6 categories, forward and forward with backward, ours and the peer next to each other in
one process. Where POT takes one row at a time it is timed on the first rows and scaled to 4,096, as the JSON
says.

`raters`: in the lab, where the crowd's true distribution over the six categories is known, a linear head on
MiniLM is fitted with each loss to votes of 1, 3, 5 and 20 people; Wasserstein-1 between reward distributions
and total variation to the truth, on texts that no fit has seen. One JSON per seed; what exists is skipped.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pluralign.losses import transport, two_axis_cost
from tables import write
from timing import Timing, rounds

RESULTS = Path(__file__).parent / "results" / "transport"
ROWS = 4096
EXACT_ROWS, ENTROPIC_ROWS = 512, 32  # on which peers that take one row at a time are timed
ATOMS = torch.tensor([1.0, 0.5, -1.0, -1.0, -1.5, -3.0])
HELPFULNESS = torch.tensor([1.0, 0.5, 0.0, 1.0, 0.5, 0.0])
HARM = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
REGULARIZATION = 0.5
RATERS, TEXTS, HELD_OUT = (1, 3, 5, 20), 400, 600
L2_GRID, STEPS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0), 100
LOSSES: dict[str, dict[str, Any]] = {
    "transport": {"loss": "transport"},
    "transport, smoothing .1": {"loss": "transport", "smoothing": 0.1},
    "rps": {"loss": "rps"},
    "cross_entropy": {"loss": "cross_entropy"},
}


def versions() -> dict[str, str]:
    """Software and hardware of a run."""
    names = ("torch", "POT", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    return found | {"python": platform.python_version(), "machine": platform.machine()}


# -- speed -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """A way to compute the loss, and on how many rows, how many times in a row, one measurement runs it."""

    loss: Callable[[Any, Any], Any]
    rows: int = ROWS
    calls: int = 1


PAIRS = {
    f"{ours} against {peer}": (peer, ours)
    for ours, peer in (
        ("closed form", "POT exact by row"),
        ("closed form, unchecked", "POT exact by row"),
        ("closed form", "POT batched 1-D"),
        ("closed form, unchecked", "POT batched 1-D"),
        ("closed form, unchecked", "POT exact by row, NumPy"),
        ("closed form, unchecked", "POT batched 1-D, NumPy"),
        ("exact, any cost", "POT exact by row, any cost"),
        ("entropic", "POT entropic by row"),
    )
}


def speed() -> dict[str, Any]:
    """Accuracy and times of every way to compute the same loss."""
    generator = torch.Generator().manual_seed(0)
    probs, target = torch.randn(2, ROWS, 6, generator=generator).softmax(-1)
    line, plane = (ATOMS[:, None] - ATOMS).abs(), two_axis_cost(HELPFULNESS, HARM)
    tensors = _ours(plane) | _peers(line, plane)
    arrays = _numpy_peers(line)
    wide = [part.double().numpy() for part in (probs, target)]
    p, t = (part / part.sum(1, keepdims=True) for part in wide)
    forward, both = Timing(), Timing()
    plain = {name: _forward(way, p, t) for name, way in arrays.items()}
    for number in rounds(120, least=5, most=15):
        forward.in_turn(number, {n: _forward(way, probs, target) for n, way in tensors.items()} | plain)
        both.in_turn(number, {n: _both(way, probs, target) for n, way in tensors.items()})
    ways = tensors | arrays
    faster: dict[str, dict[str, Any]] = {name: {} for name in PAIRS}
    for name, (slow, fast) in PAIRS.items():
        scale = ways[fast].rows * ways[fast].calls / (ways[slow].rows * ways[slow].calls)
        faster[name]["forward"] = forward.ratio(slow, fast, scale)
        if slow in both.wall:
            faster[name]["forward and backward"] = both.ratio(slow, fast, scale)
    return {
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "rows": ROWS,
        "rows_and_calls_of_a_measurement": {name: [way.rows, way.calls] for name, way in ways.items()},
        "largest_difference": _accuracy(probs, target, line, plane),
        "seconds_of_a_measurement": {"forward": forward.seconds(), "forward and backward": both.seconds()},
        "times_faster": faster,
    }


def _ours(plane: torch.Tensor) -> dict[str, Way]:
    return {
        "closed form": Way(lambda p, t: transport(p, t, atoms=ATOMS), calls=200),
        "closed form, unchecked": Way(lambda p, t: transport(p, t, atoms=ATOMS, validate=False), calls=200),
        "exact, any cost": Way(lambda p, t: transport(p, t, cost=plane), calls=5),
        "entropic": Way(lambda p, t: transport(p, t, cost=plane, regularization=REGULARIZATION)),
    }


def _peers(line: torch.Tensor, plane: torch.Tensor) -> dict[str, Way]:
    """POT on tensors, with gradients."""
    import ot

    def one_dimensional(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        places = ATOMS[:, None].expand(-1, len(p)).contiguous()
        return ot.wasserstein_1d(places, places, p.T.contiguous(), t.T.contiguous(), p=1)

    def by_row(solve: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda p, t: torch.stack([solve(a, b) for a, b in zip(p, t, strict=True)])

    options = {"method": "sinkhorn_log", "stopThr": 1e-10}
    entropic = by_row(lambda a, b: ot.sinkhorn2(a, b, plane, REGULARIZATION, **options))
    return {
        "POT batched 1-D": Way(one_dimensional, calls=10),
        "POT exact by row": Way(by_row(lambda a, b: ot.emd2(a, b, line)), EXACT_ROWS),
        "POT exact by row, any cost": Way(by_row(lambda a, b: ot.emd2(a, b, plane)), EXACT_ROWS),
        "POT entropic by row": Way(entropic, ENTROPIC_ROWS),
    }


def _numpy_peers(line: torch.Tensor) -> dict[str, Way]:
    """POT on NumPy arrays, which has no backward pass and, batched, is slower than on tensors."""
    import ot

    cost, places = line.double().numpy(), ATOMS.double().numpy()[:, None].repeat(ROWS, 1)
    return {
        "POT exact by row, NumPy": Way(
            lambda p, t: [ot.emd2(a, b, cost) for a, b in zip(p, t, strict=True)], EXACT_ROWS
        ),
        "POT batched 1-D, NumPy": Way(lambda p, t: ot.wasserstein_1d(places, places, p.T, t.T, p=1), calls=2),
    }


def _forward(way: Way, probs: Any, target: Any) -> Callable[[], None]:
    def run() -> None:
        for _ in range(way.calls):
            way.loss(probs[: way.rows], target[: way.rows])

    return run


def _both(way: Way, probs: torch.Tensor, target: torch.Tensor) -> Callable[[], None]:
    def run() -> None:
        for _ in range(way.calls):
            leaf = probs[: way.rows].detach().requires_grad_()
            way.loss(leaf, target[: way.rows]).sum().backward()

    return run


def _accuracy(
    probs: torch.Tensor, target: torch.Tensor, line: torch.Tensor, plane: torch.Tensor
) -> dict[str, float]:
    """Largest difference from POT's exact solver in float64, over all rows."""
    import ot

    def peer(cost: torch.Tensor) -> torch.Tensor:
        wide = (part.double() / part.double().sum(-1, keepdim=True) for part in (probs, target))
        rows = zip(*(part.numpy() for part in wide), strict=True)
        return torch.tensor([ot.emd2(a, b, cost.double().numpy()) for a, b in rows], dtype=torch.float64)

    exact_line, exact_plane = peer(line), peer(plane)
    wide = (part.double() / part.double().sum(-1, keepdim=True) for part in (probs, target))
    ours = {
        "closed form, float32": (transport(probs, target, atoms=ATOMS), exact_line),
        "closed form, float64": (transport(*wide, atoms=ATOMS.double()), exact_line),
        "exact, any cost": (transport(probs, target, cost=plane), exact_plane),
    }
    return {name: float((value - peer).abs().max()) for name, (value, peer) in ours.items()}


# -- few raters ------------------------------------------------------------------------------------


def few_raters(seed: int) -> dict[str, Any]:
    """Every loss on votes of every number of raters, for one draw of texts and votes."""
    import warnings

    import pluralign as pl
    from pluralign import backbones
    from pluralign.data import conversation
    from pluralign.errors import CategoryWarning

    crowd = pl.lab.Crowd(seed=seed)
    backbone, cache = backbones.load("minilm"), backbones.EmbeddingCache()
    unseen = crowd.conversations(HELD_OUT, seed=seed + 1000)
    rated: dict[int, Any] = {n: crowd.category_votes(TEXTS, n, seed=seed) for n in RATERS}
    fitted = {row["prompt"][-1]["content"] for row in rated[1]}
    unseen = [talk for talk in unseen if talk[-2]["content"] not in fitted] or unseen
    truth = pl.Categorical(crowd.category_truth(unseen), ATOMS.double())
    texts = [conversation(row["prompt"], row["response"]) for row in rated[1]]
    constant = pl.Categorical(crowd.category_truth(texts).mean(0).expand(len(unseen), -1), ATOMS.double())
    runs = {}
    for raters, table in rated.items():
        for name, config in LOSSES.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CategoryWarning)
                model = pl.fit(
                    "categorical",
                    ratings=table,
                    backbone=backbone,
                    cache=cache,
                    config={
                        **config,
                        "baselines": False,
                        "l2_grid": (0.01, 0.03, 0.1, 0.3, 1.0),
                        "seed": seed,
                    },
                )
            probs = model.attribute_distributions(unseen)["category"].probs.double()
            runs[f"{name}, {raters} raters"] = {
                "loss": name,
                "raters": raters,
                "l2": model.fitted["l2"]["category"],
                **_errors(pl.Categorical(probs, ATOMS.double()), truth),
            }
    runs["the average text"] = {"loss": "the average text", "raters": None, **_errors(constant, truth)}
    return {
        "versions": versions(),
        "seed": seed,
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("speed", "raters"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--force", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    jobs: dict[Path, Callable[[], dict[str, Any]]] = {RESULTS / "speed.json": speed}
    if given.what == "raters":
        jobs = {RESULTS / f"raters-seed={s}.json": lambda s=s: few_raters(s) for s in range(given.seeds)}
    RESULTS.mkdir(parents=True, exist_ok=True)
    for path, job in jobs.items():
        if path.exists() and not given.force:
            print(f"{path.name} exists; --force measures again")
            continue
        write(path, job())
        print(path)


if __name__ == "__main__":
    main()
