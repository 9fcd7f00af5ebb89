"""Exact optimal transport of a batch of small problems: successive shortest paths with potentials.

    minimise <T, M>  over T >= 0 with row sums p and column sums t

In: p [B, C], t [B, C] with equal sums, and one cost M [C, C], float64. Out: the minimum, and the potentials
f, g of the dual, maximise f.p + g.t with f_i + g_j <= M_ij, which are the gradients by p and t.

Sources are emptied one after the other: a shortest path to a sink that is not full, in the graph where flow
can be undone, carries as much as it can. Potentials keep all reduced costs M_ij - f_i - g_j at 0 or
above, and at 0 where there is flow, so that each search is Dijkstra's. All rows of the batch take the same
step at once; finished rows leave the batch.

Reference: Tomizawa 1971; Edmonds and Karp 1972 (J. ACM 19), section 1.3. Batching is this project's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Plan", "solve"]

_EMPTY = 1e-12  # of a total of 1: a source with less left is done
_OPEN = 1e-15  # a sink with more room, or an arc with more flow, can be used


class Plan(NamedTuple):
    """The minimum [B] and the potentials of sources and sinks, [B, C] each."""

    value: Tensor
    source: Tensor
    sink: Tensor


class _Paths(NamedTuple):
    """Shortest paths from one source, per row: the sink reached, its distance, and how it was reached."""

    sink: Tensor  # [B]
    distance: Tensor  # [B], of that sink
    to_sinks: Tensor  # [B, C]; inf where not settled
    to_sources: Tensor  # [B, C]; inf where not reached
    before_sink: Tensor  # [B, C], the source before each sink
    before_source: Tensor  # [B, C], the sink before each source


def solve(supply: Tensor, demand: Tensor, cost: Tensor) -> Plan:
    """Solves every row.

    Args:
        supply: p, [B, C], float64, not negative, rows summing to 1.
        demand: t, likewise.
        cost: M, [C, C], float64, finite.

    Returns:
        Minimum and potentials; if several potentials are optimal, one pair of them.
    """
    num_rows, size = supply.shape
    left, room = supply.clone(), demand.clone()
    flow = supply.new_zeros(num_rows, size, size)
    f = cost.amin(1).expand(num_rows, size).clone()
    g = (cost - cost.amin(1, keepdim=True)).amin(0).expand(num_rows, size).clone()
    for source in range(size):
        while len(rows := torch.nonzero(left[:, source] > _EMPTY)[:, 0]):
            part = flow[rows]
            reduced = (cost - f[rows].unsqueeze(2) - g[rows].unsqueeze(1)).clamp_min(0)
            paths = _shortest_paths(source, reduced, part > _OPEN, room[rows] > _OPEN)
            f[rows] += (paths.distance.unsqueeze(1) - paths.to_sources).clamp_min(0)
            g[rows] -= (paths.distance.unsqueeze(1) - paths.to_sinks).clamp_min(0)
            moved = _augment(source, paths, part, left[rows, source], room[rows])
            flow[rows] = part
            left[rows, source] -= moved
            room[rows, paths.sink] -= moved
    # Sources without supply and sinks without demand get the largest potentials that are allowed.
    f = (cost - g.unsqueeze(1)).amin(2)
    g = (cost - f.unsqueeze(2)).amin(1)
    return Plan((flow * cost).sum((1, 2)), f, g)


def _shortest_paths(source: int, reduced: Tensor, has_flow: Tensor, has_room: Tensor) -> _Paths:
    """Dijkstra from one source until a sink with room is settled; undoing flow costs 0."""
    num_rows, size, _ = reduced.shape
    every = torch.arange(num_rows, device=reduced.device)
    tentative = reduced[:, source].clone()  # of sinks that are not settled
    to_sinks = torch.full_like(tentative, torch.inf)
    to_sources = torch.full_like(tentative, torch.inf)
    to_sources[:, source] = 0.0
    before_sink = torch.full((num_rows, size), source, device=reduced.device)
    before_source = torch.zeros_like(before_sink)
    reached = torch.zeros_like(every)
    searching = torch.ones(num_rows, dtype=torch.bool, device=reduced.device)
    for _ in range(size):
        distance, sink = tentative.min(1)
        to_sinks[every[searching], sink[searching]] = distance[searching]
        reached = torch.where(searching, sink, reached)
        searching = searching & ~has_room[every, sink]
        if not bool(searching.any()):
            break
        tentative[every, sink] = torch.inf
        fresh = has_flow[every, :, sink] & to_sources.isinf() & searching.unsqueeze(1)
        to_sources = torch.where(fresh, distance.unsqueeze(1), to_sources)
        before_source = torch.where(fresh, sink.unsqueeze(1), before_source)
        through = torch.where(fresh.unsqueeze(2), distance[:, None, None] + reduced, torch.inf)
        nearest, by = through.min(1)
        better = (nearest < tentative) & to_sinks.isinf()
        tentative = torch.where(better, nearest, tentative)
        before_sink = torch.where(better, by, before_sink)
    return _Paths(reached, to_sinks[every, reached], to_sinks, to_sources, before_sink, before_source)


def _augment(source: int, paths: _Paths, flow: Tensor, left: Tensor, room: Tensor) -> Tensor:
    """Moves as much as each path carries, in place; returns how much, [B]."""
    every = torch.arange(len(left), device=left.device)
    steps: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    moved = torch.minimum(left, room[every, paths.sink])
    sink, walking = paths.sink, torch.ones_like(left, dtype=torch.bool)
    while bool(walking.any()):
        origin = paths.before_sink[every, sink]
        previous = paths.before_source[every, origin]
        further = walking & (origin != source)
        steps.append((origin, sink, previous, walking))
        moved = torch.where(further, torch.minimum(moved, flow[every, origin, previous]), moved)
        sink, walking = previous, further
    for origin, sink, previous, walking in steps:
        flow[every, origin, sink] += torch.where(walking, moved, 0.0)
        flow[every, origin, previous] -= torch.where(walking & (origin != source), moved, 0.0)
    return moved
