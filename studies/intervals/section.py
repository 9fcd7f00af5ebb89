"""Intervals over groups: their simulated coverage, in tables."""

from __future__ import annotations

from studies import findings
from studies.records import read
from studies.tables import Rows, table

_METHODS = ("ours", "CR2", "Student", "jackknife", "bootstrap", "wild bootstrap")


def section() -> str | None:
    """Coverage of means and of other statistics; None before they have been run."""
    means, others = read("intervals", "means"), read("intervals", "statistics")
    if not means or not others:
        return None
    rows: Rows = []
    for record in means:
        settings, found = record["settings"], record["results"]
        name = f"{settings['sizes']}, {settings['groups']} groups ({found['effective']:.1f} effective), {settings['effects']}"
        cells = [f"{found['covered'][method]:.3f}" for method in _METHODS]
        rows.append([name, *cells, f"{found['width']['ours']:.2f}"])
    more: Rows = [
        [
            f"{record['settings']['statistic'].replace('_', ' ')}, {record['settings']['groups']} groups",
            *[f"{record['results']['covered'][method]:.3f}" for method in ("ours", "jackknife")],
        ]
        for record in others
    ]
    first = means[0]["results"]
    return "\n\n".join(
        [
            "## Intervals over groups",
            f"How often nominal 95 % intervals cover the truth (`python -m studies intervals`): {first['draws']:,} draws, "
            f"{first['resampled']} for both bootstraps. A row is the effect of its group plus noise of the same variance, none for bare effects; "
            "groups have 10 rows each, or the sizes of emobank's. The last column is the median width of ours against Student's. "
            + findings.section("intervals", "Means"),
            table(["group effects", *_METHODS, "width"], rows),
            f"Statistics that are not means, {others[0]['results']['draws']} draws of groups of 20 rows. "
            + findings.section("intervals", "Other statistics"),
            table(["statistic", "ours", "jackknife"], more),
        ]
    )
