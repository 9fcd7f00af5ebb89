"""Speed, accuracy and scaling of `pluralign.solvers.fit_quantiles`, against scikit-learn and statsmodels.

In: the name of a case. Out: times and gaps.

Ours fits all 19 levels; a peer is timed on some levels and scaled to 19, as the record says. Both run in
one process, on the same input, with one thread. Times are CPU seconds, because other processes may share
the machine; wall seconds stand beside them. With STUDIES_KEEP_PEER=1 in the environment, `--force`
measures only ours again, and the record says that the peer was timed in an earlier run. The scaling cases
run in a process of their own: `data_mib` is what it holds before the fit (features in float32 included),
`solver_peak_mib` the most that the fit adds to it.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pluralign.solvers import QuantileFit, fit_quantiles
from studies import records
from studies.shared_data import shared_data

LEVELS = np.arange(1, 20) / 20
SEED = 0


def correlated(num_rows: int, num_columns: int, condition: float = 1e4) -> tuple[np.ndarray, np.ndarray]:
    """Features of unit variance whose covariance has singular values over `condition`; heteroscedastic
    targets."""
    g = np.random.default_rng(SEED)
    rotation, _ = np.linalg.qr(g.standard_normal((num_columns, num_columns)))
    mixing = (np.logspace(0.0, -np.log10(condition), num_columns)[:, None] * rotation.T).astype(np.float32)
    mixing /= np.linalg.norm(mixing, axis=0)
    coef = g.standard_normal(num_columns) / np.sqrt(num_columns)
    features = np.empty((num_rows, num_columns), np.float32)
    for start in range(0, num_rows, 10_000):
        block = features[start : start + 10_000]
        block[:] = g.standard_normal(block.shape, np.float32) @ mixing
    spread = 1.0 + 0.5 * np.tanh(features[:, 0])
    return features, features @ coef + spread * g.standard_normal(num_rows)


def degenerate(num_rows: int, num_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Half of the rows are copies, a quarter of the columns are sums of others, ratings are whole numbers."""
    features, targets = correlated(num_rows // 2, num_columns, condition=10.0)
    quarter = num_columns // 4
    features[:, :quarter] = features[:, quarter : 2 * quarter] + features[:, 2 * quarter : 3 * quarter]
    return np.repeat(features, 2, axis=0), np.repeat(np.round(targets), 2)


def ukpconvarg(num_votes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """MiniLM features of arguments, a row for each of a text's first votes: rows repeat, targets are -1, 0 or
    1, and 16 columns are sums of others."""
    import pluralign as pl
    from pluralign import backbones
    from pluralign.data import conversation, ratings_from_votes

    votes = pl.load_comparisons(shared_data() / "ukpconvarg" / "comparisons.jsonl.gz")
    rated = ratings_from_votes(votes)
    texts = [conversation(row["prompt"], row["response"]) for row in rated]
    response = backbones.load("minilm").embed(texts, cache=backbones.EmbeddingCache()).response.numpy()
    response = response[:, response.std(0) > 1e-6 * np.abs(response).max(0)]
    scaled = (response - response.mean(0)) / response.std(0)
    scaled = np.hstack([scaled, scaled[:, :16] + scaled[:, 16:32]])  # null directions
    kept = [row[:num_votes] for row in rated["ratings"]]
    counts = [len(row) for row in kept]
    return np.repeat(scaled, counts, axis=0).astype(np.float32), np.concatenate(kept).astype(np.float64)


def summary(runs: list[tuple[float, float]]) -> dict[str, float]:
    cpu, wall = np.array(runs).T
    return {
        "cpu_median_s": float(np.median(cpu)),
        "cpu_min_s": float(cpu.min()),
        "cpu_max_s": float(cpu.max()),
        "wall_median_s": float(np.median(wall)),
    }


def measure(call: Callable[[], Any], repeats: int) -> tuple[Any, list[tuple[float, float]]]:
    """The last result, and CPU and wall seconds of every run."""
    runs = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        result = call()
        runs.append((time.process_time() - cpu, time.perf_counter() - wall))
    return result, runs


def ours(features: np.ndarray, targets: np.ndarray, l1: float, repeats: int) -> tuple[QuantileFit, dict]:
    fit, runs = measure(lambda: fit_quantiles(features, targets, LEVELS, l1=l1), repeats)
    return fit, {"levels": len(LEVELS), "largest_gap": float(fit.gap.max()), **summary(runs)}


def objective(features, targets, level, l1, coef, intercept) -> float:
    r = targets - features @ coef - intercept
    return float(np.maximum(level * r, (level - 1) * r).mean() + l1 * np.abs(coef).sum())


def against(
    peer: str, data, l1: float, levels: list[float], earlier: dict | None = None, repeats: int = 5
) -> dict:
    """Ours on all levels, then the peer on some, unless an earlier result of it is given."""
    features, targets = data
    fit, result = ours(features, targets, l1, repeats)
    if earlier is not None:
        kept = {**earlier, "timed": "in an earlier run on the same machine and input"}
        return {
            "ours": result,
            "peer": kept,
            "times_faster": kept["cpu_s_scaled_to_19_levels"] / result["cpu_median_s"],
        }
    wide = features.astype(np.float64)
    runs, excess = [], []
    for level in levels:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (coef, intercept), run = measure(lambda t=level: PEERS[peer](wide, targets, t, l1), 1)
        runs += run
        k = int(np.argmin(np.abs(LEVELS - level)))
        excess.append(objective(wide, targets, level, l1, coef, intercept) / float(fit.objective[k]) - 1.0)
    scaled = float(np.mean(runs, axis=0)[0]) * len(LEVELS)
    return {
        "ours": result,
        "peer": {
            "name": peer,
            "timed": "in the same run",
            "levels_timed": levels,
            "cpu_s": [run[0] for run in runs],
            "wall_s": [run[1] for run in runs],
            "cpu_s_scaled_to_19_levels": scaled,
            "objective_above_ours": excess,
        },
        "times_faster": scaled / result["cpu_median_s"],
    }


def sklearn_fit(features, targets, level, l1):
    from sklearn.linear_model import QuantileRegressor

    model = QuantileRegressor(quantile=level, alpha=l1, solver="highs").fit(features, targets)
    return model.coef_, model.intercept_


def statsmodels_fit(features, targets, level, l1):
    import statsmodels.api as sm

    if l1:
        raise ValueError("statsmodels' QuantReg has no penalty")
    params = sm.QuantReg(targets, sm.add_constant(features)).fit(q=level, max_iter=5000).params
    return params[1:], params[0]


PEERS = {"scikit-learn": sklearn_fit, "statsmodels": statsmodels_fit}


def memory_mib(field: str) -> float:
    """A line of this process's memory status: VmRSS is now, VmHWM the most since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def _scaling(num_rows: int, l1: float, queue) -> None:
    torch.set_num_threads(1)
    # The first call imports and allocates what does not belong to a fit.
    fit_quantiles(*correlated(500, 8), LEVELS)
    features, targets = correlated(num_rows, 384)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = memory_mib("VmRSS")
    _, result = ours(features, targets, l1, 3 if num_rows <= 100_000 else 1)
    peak = memory_mib("VmHWM")
    queue.put({"ours": result, "data_mib": before, "peak_mib": peak, "solver_peak_mib": peak - before})


def scaling(num_rows: int, l1: float) -> dict:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_scaling, args=(num_rows, l1, queue))
    process.start()
    result = queue.get()
    process.join()
    return result


CASES = {
    **{
        f"sklearn-{n}x{d}-l1={l1}": (
            lambda earlier, n=n, d=d, l1=l1: against(
                "scikit-learn", correlated(n, d), l1, [0.05, 0.5], earlier
            )
        )
        for n, d in ((1000, 64), (4000, 256), (10_000, 384))
        for l1 in (0.003, 0.0)
    },
    "statsmodels-2000x32-l1=0": lambda earlier: against(
        "statsmodels", correlated(2000, 32, 100.0), 0.0, [0.05, 0.25, 0.5], earlier
    ),
    **{
        f"degenerate-2000x128-l1={l1}": (
            lambda earlier, l1=l1: against("scikit-learn", degenerate(2000, 128), l1, [0.05, 0.5], earlier)
        )
        for l1 in (0.003, 0.0)
    },
    **{
        f"ukpconvarg-minilm-l1={l1}": (
            lambda earlier, l1=l1: against("scikit-learn", ukpconvarg(), l1, [0.5], earlier, repeats=3)
        )
        for l1 in (0.003, 0.0)
    },
    **{
        f"scaling-{n}x384-l1={l1}": (lambda earlier, n=n, l1=l1: scaling(n, l1))
        for l1 in (0.003, 0.0)
        for n in (10_000, 100_000, 1_000_000)
    },
}


def code_version() -> str:
    """The last commit that touched the solver, and whether its files were changed since."""
    files = ["src/pluralign/solvers"]
    root = records.ROOT
    commit, changed = (
        subprocess.run(
            ["git", *command, "--", *files], cwd=root, capture_output=True, text=True
        ).stdout.strip()
        for command in (["log", "-1", "--format=%h"], ["status", "--porcelain"])
    )
    return f"{commit} with changes" if changed else commit or "unknown"


def run(case: str, seed: int) -> dict[str, Any]:
    """One case; the seed is that of the features, 0."""
    assert seed == SEED
    earlier = None
    if os.environ.get("STUDIES_KEEP_PEER"):
        for known in records.results("speed", "solver", case=case):
            earlier = known.get("peer")
    return {**CASES[case](earlier), "code": code_version()}
