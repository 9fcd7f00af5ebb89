"""Numbers of the records that tables and claims share: what a curve says at a distance, what PPO reached.

In: records. Out: numbers. How they are shown is decided elsewhere.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import mean

from studies import records

Curve = dict[str, list[float]]


def curves() -> list[dict[str, Curve]]:
    """By measure, a dictionary for each seed."""
    return [run["curves"] for run in records.results("ppo_lab", "optimum")]


def at(curve: Curve, kl: float, name: str) -> float | None:
    """Linear between two points of a curve; None beyond its end."""
    points = sorted(zip(curve["kl"], curve[name], strict=True))
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= kl <= x1 and x1 > x0:
            return y0 + (y1 - y0) * (kl - x0) / (x1 - x0)
    return None


def values_at(key: str, kl: float, name: str = "gold") -> list[float]:
    """Of every seed; empty where a curve ends before."""
    found = [at(one[key], kl, name) for one in curves()]
    known = [value for value in found if value is not None]
    return known if len(known) == len(found) else []


def mean_at(key: str, kl: float, name: str = "gold") -> float:
    """Over seeds."""
    return mean(values_at(key, kl, name))
