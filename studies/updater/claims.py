"""What sentences of `findings.md`, and of pages that quote the study, say of the records.

The error is that of the section: on the texts that are voted on, averaged over the times of a refit.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean, median

from studies.records import results
from studies.updater.section import HALF_LIVES, error

_SHORTER = ("0.2", "0.1", "0.05")
_KINDS = ("known", "unknown")


def _error(scenario: str, votes: str, method: str) -> float:
    runs = results("updater", "streams", scenario=scenario, votes=votes)
    return mean(error(run["curves"], method, "items") for run in runs)


def _two(value: float) -> str:
    return f"{value:.2f}"


def _range(values: Iterable[float]) -> str:
    found = list(values)
    return f"{min(found):.2f} to {max(found):.2f}"


def shift_sparse_updated() -> str:
    return _range(_error("shift", "sparse", f"{kind} {h}") for kind in _KINDS for h in _SHORTER)


def shift_sparse_refit_all() -> str:
    return _two(_error("shift", "sparse", "refit all"))


def shift_sparse_refit_window() -> str:
    return _two(_error("shift", "sparse", "refit window"))


def shift_never() -> str:
    return _two(_error("shift", "sparse", "start"))


def shift_dense_refit_window() -> str:
    return _two(_error("shift", "dense", "refit window"))


def shift_dense_updated() -> str:
    return _range(_error("shift", "dense", f"{kind} 0.05") for kind in _KINDS)


def shift_dense_refit_all() -> str:
    return _two(_error("shift", "dense", "refit all"))


def refits_take_longer() -> bool:
    """Median processor time of a batch of many votes: 0.1 to 0.3 s on a window, to 12 ms for the updaters."""
    runs = [run["curves"] for run in results("updater", "streams", votes="dense")]
    updaters = [
        median([s for run in runs for s in run[f"{name} 0.2"]["seconds"]]) for name in ("items", *_KINDS)
    ]
    window = median([s for run in runs for s in run["refit window"]["seconds"]])
    return 0.1 < window < 0.3 and min(updaters) > 0.0005 and max(updaters) < 0.0125


def turned_updated() -> str:
    return _two(_error("contradiction", "dense", "unknown 0.05"))


def population_does_not_notice() -> bool:
    found = [
        _error("contradiction", v, f"{k} {h}")
        for v in ("dense", "sparse")
        for k in _KINDS
        for h in HALF_LIVES
    ]
    return min(found) > 0.98 * _error("contradiction", "dense", "start")


def turned_items() -> str:
    return _two(_error("contradiction", "dense", "items 0.05"))


def turned_items_sparse() -> str:
    return _two(min(_error("contradiction", "sparse", f"items {h}") for h in HALF_LIVES))


def turned_window() -> str:
    return _two(_error("contradiction", "dense", "refit window"))


def turned_window_sparse() -> str:
    return _two(_error("contradiction", "sparse", "refit window"))


def window_follows_best() -> bool:
    def least(votes: str) -> str:
        curves = results("updater", "streams", scenario="contradiction", votes=votes)[0]["curves"]
        return min(curves, key=lambda method: _error("contradiction", votes, method))

    return least("dense") == least("sparse") == "refit window"


def steady_items() -> str:
    return _two(_error("steady", "dense", "items none"))


def steady_items_forgetting() -> str:
    return _two(_error("steady", "dense", "items 0.05"))


def population_forgets_for_nothing() -> bool:
    kinds = [[_error("steady", "dense", f"{kind} {h}") for h in HALF_LIVES] for kind in _KINDS]
    return all(max(found) - min(found) < 0.005 for found in kinds)


def steady_unknown_sparse() -> str:
    return _range(_error("steady", "sparse", f"unknown {h}") for h in HALF_LIVES)
