"""The quantile solver against its peers."""

from __future__ import annotations

from typing import Any

from studies.records import read
from studies.tables import Headline, Rows, table

_GOALS = {"sklearn-4000x256-l1=0.003": 300, "sklearn-10000x384-l1=0.003": 400}


def _cases() -> dict[str, Any]:
    return {r["settings"]["case"]: r["results"] for r in read("speed", "solver")}


def headlines() -> list[Headline]:
    """How much faster than the peer, at the sizes that were agreed on."""
    cases = _cases()
    return [
        Headline(
            f"quantile regression, 19 levels, {name.split('-')[1]}: times as fast as scikit-learn, gap certified to 1e-6",
            f"{cases[name]['times_faster']:,.0f}",
            f"{goal}",
            cases[name]["times_faster"] >= goal,
        )
        for name, goal in _GOALS.items()
        if name in cases
    ]


def section() -> str:
    """`fit_quantiles` against scikit-learn and statsmodels."""
    text = (
        "## Quantile regression\n\n`pl.solvers.fit_quantiles`, 19 levels at once, each with a certified relative gap of at "
        "most 1e-6, against one level at a time of the peer, timed on some levels and scaled to 19 "
        "(`python -m studies speed --arms solver`). Correlated features, condition number 1e4, one thread each, processor "
        "seconds; `degenerate` has duplicate rows, null directions and whole-number targets; `ukpconvarg-minilm` is real text, a row per vote. Some peer times are kept from an earlier run on the same input; the record says which."
    )
    cases = _cases()
    if not cases:
        return text + "\n\nNot run yet."
    against: Rows = []
    scaling: Rows = []
    for name, case in cases.items():
        ours = case["ours"]
        spread = f"{ours['cpu_median_s']:.2f} s [{ours['cpu_min_s']:.2f}, {ours['cpu_max_s']:.2f}]"
        if "peer" in case:
            peer = case["peer"]
            against.append(
                [
                    name.removeprefix("sklearn-").removeprefix("statsmodels-").replace("-l1", ", l1"),
                    peer["name"],
                    spread,
                    f"{ours['largest_gap']:.1e}",
                    f"{peer['cpu_s_scaled_to_19_levels']:,.0f} s",
                    f"{case['times_faster']:,.0f}x",
                ]
            )
        else:
            scaling.append(
                [
                    name.removeprefix("scaling-").replace("-l1", ", l1"),
                    spread,
                    f"{ours['largest_gap']:.1e}",
                    f"{case.get('solver_peak_mib', case['peak_mib']):,.0f} MiB",
                ]
            )
    text += "\n\n" + table(
        ["rows x columns", "peer", "ours", "largest gap", "peer, 19 levels", "ratio"], against
    )
    if scaling:
        text += "\n\nGrowth with the number of rows; peak memory is what the solver adds to the process that holds the data.\n\n"
        text += table(["rows x columns", "ours", "largest gap", "peak memory"], scaling)
    return text
