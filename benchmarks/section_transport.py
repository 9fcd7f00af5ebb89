"""Transport losses against POT, and which loss learns the crowd from few raters."""

from __future__ import annotations

from statistics import mean, stdev
from typing import Any

from tables import Rows, read, read_folder, table

_T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}  # Student's t for so many seeds


def section() -> str | None:
    """Speed and accuracy, then the study of raters; None before either has been run."""
    speed = read("transport/speed.json")
    seeds = [part for part in read_folder("transport") if "seed" in part]
    parts = [part for part in (_speed(speed) if speed else None, _raters(seeds) if seeds else None) if part]
    return "\n\n".join(["## Transport losses", *parts]) if parts else None


def _speed(result: dict[str, Any]) -> str:
    differences = ", ".join(f"{name} {value:.0e}" for name, value in result["largest_difference"].items())
    text = (
        f"`pl.losses.transport` against POT {result['versions']['POT']} (`python benchmarks/transport.py speed`), batch "
        f"{result['rows']:,}, 6 categories, {result['threads']} thread, float32; the median of pairs measured next to "
        "each other on a machine that others used too, by processor time. Ours look at their input unless they say `unchecked` "
        "(`validate=False`); POT does not. POT's batched solver is several times faster on tensors than on NumPy arrays. "
        f"Largest difference from POT's exact solver: {differences}."
    )
    rows: Rows = []
    for name, found in result["times_faster"].items():
        cells = [
            f"{found[kind]['of_cpu_time']['median']:,.0f}x" if kind in found else ""
            for kind in ("forward", "forward and backward")
        ]
        rows.append([name, *cells])
    return text + "\n\n" + table(["times as fast", "forward", "forward and backward"], rows)


def _raters(seeds: list[dict[str, Any]]) -> str:
    """Errors of every loss by the number of raters, and the difference from cross-entropy seed by seed."""
    names = list(seeds[0]["runs"])
    rows: Rows = []
    for name in names:
        runs = [part["runs"][name] for part in seeds]
        rival = f"cross_entropy, {runs[0]['raters']} raters"
        paired = ""
        if runs[0]["loss"] != "cross_entropy" and rival in seeds[0]["runs"]:
            paired = _interval(
                [part["runs"][name]["wasserstein"] - part["runs"][rival]["wasserstein"] for part in seeds]
            )
        cells = [_interval([run[key] for run in runs]) for key in ("wasserstein", "total_variation")]
        gap = f"{mean(run['entropy_gap'] for run in runs):+.3f}"
        rows.append([name, *cells, gap, paired])
    first = seeds[0]
    text = (
        f"Few raters (`python benchmarks/transport.py raters`): votes on the six categories for {first['texts']} "
        "texts of the lab, a linear head on MiniLM, distances to the crowd's true distribution on "
        f"{first['unseen']} unseen texts, {len(seeds)} seeds, 95 % t intervals over seeds. Wasserstein-1 is in units of the "
        "paper's rewards; an entropy gap below 0 means that the head is surer than the crowd is divided."
    )
    head = ["loss", "Wasserstein-1", "total variation", "entropy gap", "minus cross-entropy's"]
    return text + "\n\n" + table(head, rows)


def _interval(values: list[float]) -> str:
    """`0.2514 [0.2480, 0.2549]`"""
    middle = mean(values)
    if len(values) not in _T_95:
        return f"{middle:.4f}"
    half = _T_95[len(values)] * stdev(values) / len(values) ** 0.5
    return f"{middle:.4f} [{middle - half:.4f}, {middle + half:.4f}]"
