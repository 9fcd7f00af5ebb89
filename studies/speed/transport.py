"""Transport losses: speed and accuracy against POT.

In: nothing. Out: times, ratios and largest differences. Batch 4,096, 6 categories, forward and forward
with backward, ours and the peer next to each other in one process. Where POT takes one row at a time it is
timed on the first rows and scaled to 4,096, as the record says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from pluralign.losses import transport, two_axis_cost
from studies.speed.timing import Timing, rounds

ROWS = 4096
EXACT_ROWS, ENTROPIC_ROWS = 512, 32  # on which peers that take one row at a time are timed
ATOMS = torch.tensor([1.0, 0.5, -1.0, -1.0, -1.5, -3.0])
HELPFULNESS = torch.tensor([1.0, 0.5, 0.0, 1.0, 0.5, 0.0])
HARM = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
REGULARIZATION = 0.5


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


def run(seed: int) -> dict[str, Any]:
    """Accuracy and times of every way to compute the same loss."""
    generator = torch.Generator().manual_seed(seed)
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
