"""What sentences of `findings.md`, and of pages that quote the study, say of the records."""

from __future__ import annotations

from statistics import mean

from studies.cells import apart, of
from studies.records import results

_NONE, _ALL = "bootstrap=False anchor=False", "bootstrap=True anchor=True"
_STEPS = (50, 150, 450)


def _mean(arm: str, features: str, *path: str) -> float:
    return mean(of(*path)(run) for run in results("brme", arm, features=features))


# -- spread ------------------------------------------------------------------------------------------


def _spread(features: str, loss: str, steps: int, key: str) -> float:
    return _mean("spread", features, f"{loss}/{steps}", key)


def published_loss_forgets_the_noise() -> bool:
    loss = "reparameterized_mse"
    ratios = [[_spread(f, loss, n, "ratio") for n in _STEPS] for f in ("minilm", "traits")]
    ranks = [_spread(f, loss, n, "rank") for f in ("minilm", "traits") for n in _STEPS]
    moved = [
        abs(_spread(f, loss, 450, "mean_error") - _spread(f, loss, 50, "mean_error"))
        for f in ("minilm", "traits")
    ]
    falls = all(first > second > third and third < 0.2 for first, second, third in ratios)
    return falls and max(map(abs, ranks)) < 0.1 and max(moved) < 0.02


def likelihood_needs_no_early_stop() -> bool:
    """With MiniLM at any length, with traits from 150 steps on."""
    cases = [("minilm", 50), ("minilm", 150), ("traits", 150)]
    return all(
        abs(_spread(f, "gaussian_nll", n, key) - _spread(f, "gaussian_nll", 450, key)) < 0.02
        for f, n in cases
        for key in ("ratio", "rank")
    )


def published_50() -> str:
    return f"{_spread('minilm', 'reparameterized_mse', 50, 'ratio'):.2f}"


def published_150() -> str:
    return f"{_spread('minilm', 'reparameterized_mse', 150, 'ratio'):.2f}"


def published_450() -> str:
    return f"{_spread('minilm', 'reparameterized_mse', 450, 'ratio'):.2f}"


def likelihood_ratio_traits() -> str:
    return f"{_spread('traits', 'gaussian_nll', 450, 'ratio'):.2f}"


def likelihood_rank_traits() -> str:
    return f"{_spread('traits', 'gaussian_nll', 450, 'rank'):.2f}"


def likelihood_ratio_minilm() -> str:
    return f"{_spread('minilm', 'gaussian_nll', 450, 'ratio'):.2f}"


def likelihood_rank_minilm() -> str:
    return f"{_spread('minilm', 'gaussian_nll', 450, 'rank'):.2f}"


# -- heads -------------------------------------------------------------------------------------------


def heads_are_one_without_bootstrap_and_anchors() -> bool:
    return all(
        _mean("heads", f, _NONE, "correlation") > 0.9999
        and _mean("heads", f, _NONE, "between_behaviour") < 0.001
        for f in ("minilm", "traits")
    )


def heads_alike() -> str:
    return f"{_mean('heads', 'minilm', _ALL, 'correlation'):.2f}"


def minimum_is_small_beside_the_shared_error() -> bool:
    return all(
        _mean("heads", f, _ALL, "minimum_takes_broken") < 0.2 * _mean("heads", f, _ALL, "bias_broken")
        for f in ("minilm", "traits")
    )


def minimum_takes() -> str:
    low, high = sorted(_mean("heads", f, _ALL, "minimum_takes_broken") for f in ("minilm", "traits"))
    return f"{low:.1f} to {high:.1f}"


def rated_too_high() -> str:
    low, high = sorted(_mean("heads", f, _ALL, "bias_broken") for f in ("minilm", "traits"))
    return f"{low:.0f} to {high:.0f}"


# -- choice ------------------------------------------------------------------------------------------


def _gold(key: str, features: str = "minilm") -> float:
    return _mean("choice", features, key, "gold", "32")


def one_head() -> str:
    return f"{_gold('one head/mean'):.2f}"


def mean_of_heads() -> str:
    return f"{_gold('gaussian_nll/mean'):.2f}"


def nominal() -> str:
    return f"{_gold('gaussian_nll/nominal'):.2f}"


def robust() -> str:
    return f"{_gold('gaussian_nll/robust:0.4'):.2f}"


def cvar() -> str:
    return f"{_gold('gaussian_nll/cvar:0.1'):.2f}"


def worst_case() -> str:
    return f"{_gold('gaussian_nll/worst_case'):.2f}"


def best_possible() -> str:
    return f"{_mean('choice', 'minilm', 'oracle'):.2f}"


def mean_and_nominal_like_one_head() -> bool:
    runs = results("brme", "choice", features="minilm")
    one = of("one head/mean", "gold", "32")
    return not any(
        apart(runs, of(f"gaussian_nll/{measure}", "gold", "32"), one).excludes(0.0)
        for measure in ("mean", "nominal")
    )


def no_measure_helps_with_traits() -> bool:
    """By no more than 0.05 points of gold."""
    measures = ("nominal", "robust:0.4", "cvar:0.1", "worst_case")
    return all(
        _gold(f"gaussian_nll/{m}", "traits") - _gold("one head/mean", "traits") < 0.05 for m in measures
    )


# -- cost --------------------------------------------------------------------------------------------


def _cost(start: str, digits: int) -> str:
    (found,) = (e for name, e in results("speed", "heads")[0].items() if name.startswith(start))
    return f"{found['ratio']['of_cpu_time']['median']:.{digits}f}"


def cost_of_a_fit() -> str:
    return _cost("whole fit", 2)


def cost_of_training() -> str:
    return _cost("training, 2,000 responses, width 384, 0", 2)


def cost_of_wide_training() -> str:
    return _cost("training, 2,000 responses, width 4096", 2)


def cost_with_hidden_units() -> str:
    return _cost("training, 2,000 responses, width 384, 64", 1)
