"""One run of a study: the name of its file, and what its record says of how it came about.

In: settings and a function of them. Out: a record for `tables.write`. It knows nothing of what is measured.
"""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import Any

__all__ = ["name_of", "provenance", "record"]


def name_of(study: str, settings: dict[str, Any]) -> str:
    """The file of a run."""
    return "-".join([study, *(f"{k}={v}" for k, v in sorted(settings.items()))]) + ".json"


def provenance() -> dict[str, Any]:
    """With what, and on what machine."""
    return {
        "versions": {p: metadata.version(p) for p in ("pluralign", "torch", "transformers")},
        "hardware": {"cpu_count": os.cpu_count(), "machine": platform.machine()},
    }


def record(study: str, settings: dict[str, Any], run: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """What a run with these settings gives, its time, and its provenance."""
    started, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = run(**settings)
    return {
        "study": study,
        "settings": settings,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        **provenance(),
        "results": results,
    }
