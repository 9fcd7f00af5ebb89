"""All vertices of the transport dual of one small cost, so that any batch is a single matrix product.

    min over couplings of p and t of <T, M>  =  max over vertices (f, g) of f.p + g.t,
    vertices of  {f_i + g_j <= M_ij, f_0 = 0}

In: a cost M [C, C], the same for all rows. Out: its vertices, [V, 2C], and the solution of a batch from them.
The vertices depend only on M, at most (2C - 2 over C - 1) of them: 252 for 6 categories, 924 for 7. They are
found once per cost and cached. Gradients are handled by the caller.

A vertex is a spanning tree of tight constraints. Dropping an arc of the tree and moving the potentials of one
of the two parts until another constraint is tight leads to the neighbours, and from one tree all others can
be reached. Ties are broken by a small fixed perturbation of M while trees are enumerated; potentials are
computed from M itself, and checked.

Reference: Balinski and Russakoff 1984 (SIAM Review 26), for the polyhedron and the number of its vertices.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pluralign.losses._exact_transport import Plan

__all__ = ["MOST_CATEGORIES", "solve", "vertices"]

MOST_CATEGORIES = 7  # eight have 3,432 vertices, and finding them takes seconds

_CHUNK_ROWS = 65_536
_PERTURBATION = 1e-6  # of the largest cost
_FEASIBLE = 1e-9

Floats = npt.NDArray[np.float64]
Tree = frozenset[tuple[int, int]]


def solve(supply: Tensor, demand: Tensor, found: Tensor) -> Plan:
    """Solves every row by its best vertex.

    Args:
        supply: p, [B, C], float64, rows summing to 1.
        demand: t, likewise.
        found: [V, 2C], from `vertices`.
    """
    size = supply.shape[1]
    marginals = torch.cat((supply, demand), 1)  # in chunks, since [B, V] is large
    parts = [(rows @ found.T).max(1) for rows in torch.split(marginals, _CHUNK_ROWS)]
    best = found[torch.cat([part.indices for part in parts])]
    return Plan(torch.cat([part.values for part in parts]), best[:, :size], best[:, size:])


def vertices(cost: Tensor) -> Tensor | None:
    """The vertices (f, g) of a cost, [V, 2C], on its device.

    Args:
        cost: M, [C, C], float64, C at most `MOST_CATEGORIES`.

    Returns:
        None if costs are so close to each other that the perturbation does not determine which one is tight.
    """
    host = np.ascontiguousarray(cost.cpu().numpy())
    found = _vertices(host.tobytes(), len(host))
    return None if found is None else torch.from_numpy(found).to(cost.device)


@lru_cache(maxsize=16)
def _vertices(raw: bytes, size: int) -> Floats | None:
    cost = np.frombuffer(raw).reshape(size, size)
    noise = np.random.default_rng(0).uniform(0, _PERTURBATION, (size, size))
    disturbed = cost + noise * max(cost.max(), np.finfo(float).tiny)
    start = _first_tree(disturbed)
    known, queue = {start}, [start]
    while queue:
        for neighbour in _neighbours(queue.pop(), disturbed):
            if neighbour not in known:
                known.add(neighbour)
                queue.append(neighbour)
    found = np.array([np.concatenate(_potentials(tree, cost)) for tree in sorted(known, key=sorted)])
    slack = cost - found[:, :size, None] - found[:, None, size:]
    if slack.min() < -_FEASIBLE * max(cost.max(), 1.0):
        return None
    _, first = np.unique(found.round(12), axis=0, return_index=True)
    return found[np.sort(first)]


def _first_tree(cost: Floats) -> Tree:
    """The tree of f_0 = 0 and g as large as f = 0 allows, grown until it spans: a vertex."""
    size = len(cost)
    f, g = np.zeros(size), cost[0].copy()  # sources other than 0 join one by one, each as high as it can
    arcs = {(0, j) for j in range(size)}
    for i in range(1, size):
        slack = cost[i] - g
        j = int(slack.argmin())
        f[i] = slack[j]
        arcs.add((i, j))
    return frozenset(arcs)


def _neighbours(tree: Tree, cost: Floats) -> list[Tree]:
    """The trees one exchange of arcs away."""
    f, g = _potentials(tree, cost)
    slack = cost - f[:, None] - g
    found = []
    for arc in tree:
        rest = tree - {arc}
        sources, sinks = _part(rest, arc[0], len(cost))
        others = ~sources
        if not others.any() or not sinks.any():
            continue  # the constraint can be loosened without bound: an edge without a second end
        allowed = np.where(others[:, None] & sinks, slack, np.inf)
        entering = np.unravel_index(int(allowed.argmin()), allowed.shape)
        found.append(rest | {(int(entering[0]), int(entering[1]))})
    return found


def _part(arcs: Tree, source: int, size: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Sources and sinks that are connected with a source."""
    sources, sinks = np.zeros(size, bool), np.zeros(size, bool)
    sources[source] = True
    grown = True
    while grown:
        grown = False
        for i, j in arcs:
            if sources[i] != sinks[j]:
                sources[i] = sinks[j] = grown = True
    return sources, sinks


def _potentials(tree: Tree, cost: Floats) -> tuple[Floats, Floats]:
    """The potentials for which all constraints of a tree are tight, f_0 = 0."""
    size = len(cost)
    f, g = np.full(size, np.nan), np.full(size, np.nan)
    f[0] = 0.0
    waiting = set(tree)
    while waiting:
        for i, j in list(waiting):
            if not np.isnan(f[i]):
                g[j] = cost[i, j] - f[i]
            elif not np.isnan(g[j]):
                f[i] = cost[i, j] - g[j]
            else:
                continue
            waiting.discard((i, j))
    return f, g
