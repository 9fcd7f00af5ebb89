"""Flags that say where `embed`, `score` and `sample` work: in this process, or on the workers of Ray Data.

Nothing heavy is imported here, not even for types (see `flags`).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WORKPLACE", "RayFlags"]

WORKPLACE = {"engine", "ray_workers", "ray_cpus", "ray_gpus", "ray_address"}
"""Flags that do not change results."""


@dataclass(frozen=True)
class RayFlags:
    """The workers of --engine ray.

    Attributes:
        ray_workers: Number of workers, each with its own model; null for as many as the cluster has room for.
        ray_cpus: Cores per worker, and threads of its model.
        ray_gpus: GPUs per worker, e.g. 1; a fraction such as 0.5 shares one.
        ray_address: Address of a running Ray cluster, host:port, or auto; null starts one on this machine.
    """

    ray_workers: int | None = None
    ray_cpus: int = 1
    ray_gpus: float = 0.0
    ray_address: str | None = None
