"""What sentences of `findings.md`, and of pages that quote the study, say of the records."""

from __future__ import annotations

from statistics import mean
from typing import Any

from studies.cells import apart
from studies.records import results

_FEATURES = ("minilm", "policy")
_LAST = 1024


def _runs(features: str) -> list[dict[str, Any]]:
    return results("over_optimisation", "best_of_n", features=features)


def _gold(run: dict[str, Any], key: str, size: int) -> float:
    return float(run["curves"][key]["gold"][run["sizes"].index(size)])


def _mean_gold(features: str, key: str, size: int = _LAST) -> float:
    return mean(_gold(run, key, size) for run in _runs(features))


def _keys(*risks: str) -> list[str]:
    """Models and measures, by how the measure begins."""
    return [key for key in _runs("minilm")[0]["curves"] if key.split("/")[1].startswith(risks)]


def _gain(features: str, key: str) -> Any:
    """Gold of the best of 1,024, minus that by the mean of the same model."""
    usual = f"{key.split('/')[0]}/mean"
    return apart(_runs(features), lambda r: _gold(r, key, _LAST), lambda r: _gold(r, usual, _LAST))


def every_mean_is_exploited() -> bool:
    cases = [(f, key) for f in _FEATURES for key in _keys("mean")]
    return all(_mean_gold(f, key) < _mean_gold(f, key, 4) for f, key in cases)


def minimum_of_1024() -> str:
    return f"{_mean_gold('minilm', 'gaussian_ensemble/worst_case'):.2f}"


def mean_of_1024() -> str:
    return f"{_mean_gold('minilm', 'gaussian_ensemble/mean'):.2f}"


def random_answer() -> str:
    return f"{mean(run['average']['gold'] for run in _runs('minilm')):.2f}"


def best_of_64() -> str:
    return f"{_mean_gold('minilm', 'gaussian_ensemble/worst_case', 64):.2f}"


def minimum_keeps_most() -> bool:
    """More than half of what the mean loses from its highest point on."""
    best = max(_mean_gold("minilm", "gaussian_ensemble/mean", n) for n in _runs("minilm")[0]["sizes"])
    lost = best - _mean_gold("minilm", "gaussian_ensemble/mean")
    return best - _mean_gold("minilm", "gaussian_ensemble/worst_case") < lost / 2


def minimum_holds_longest() -> bool:
    keys = list(_runs("minilm")[0]["curves"])
    return all(
        max(keys, key=lambda k, f=f: _mean_gold(f, k)) == "gaussian_ensemble/worst_case" for f in _FEATURES
    )


def spread_of_one_head_does_not_protect() -> bool:
    """No measurable gain over the mean, but for ridge, where all texts have one spread."""
    keys = [k for k in _keys("cvar", "quantile", "entropic") if not k.startswith("regression")]
    return all((_gain(f, key).low or 0.0) <= 0 for f in _FEATURES for key in keys)


def nominal_makes_it_worse() -> bool:
    """On average with both kinds of features, and beyond chance with the language model's own."""
    gains = {f: _gain(f, "gaussian_ensemble/nominal") for f in _FEATURES}
    return all(one.estimate < 0 for one in gains.values()) and gains["policy"].high < 0
