"""Calibration on real data: the part of docs/results.md."""

from __future__ import annotations

from studies import findings
from studies.records import read
from studies.tables import Rows, interval, table


def section() -> str | None:
    """Ratings and preferences; None before both have been run."""
    ratings, preferences = read("calibration", "ratings"), read("calibration", "preferences")
    if not ratings or not preferences:
        return None
    rows: Rows = []
    for record in ratings:
        settings, found = record["settings"], record["results"]
        for when in ("before", "after"):
            own = found[when]
            cells = [interval(own["covered"][level], 3) for level in ("0.5", "0.8", "0.9", "0.95")]
            ranked = "" if own["spearman_std_error"] is None else f"{own['spearman_std_error']:.3f}"
            name = f"{settings['data']}, {settings['family']}, {when}"
            rows.append(
                [name, *cells, f"{own['width']['0.9']:.3f}", f"{own['crps']['estimate']:.4f}", ranked]
            )
    votes: Rows = []
    for record in preferences:
        settings, found = record["settings"], record["results"]
        heat = found["temperatures"]
        votes.append(
            [
                f"{settings['data']}, {settings['family']}, {found['outcomes']} outcomes",
                f"{min(heat):.2f} to {max(heat):.2f}",
                f"{found['before_log']['estimate']:.3f}",
                f"{found['after_log']['estimate']:.3f}",
                interval(found["difference"]["log"], 3),
                interval(found["difference"]["brier"], 3),
            ]
        )
    return "\n\n".join(
        [
            "## Calibration on held-out groups",
            "Five folds of groups (`python -m studies calibration`): fitted on two, calibrated on two others and evaluated on the fifth, in turn, on "
            "MiniLM. Share of ratings inside central intervals, with 95 % intervals over groups; width of the 90 % interval and CRPS in shares of the scale; Spearman's correlation of the predicted "
            f"spread with the absolute error, averaged over attributes. {findings.section('calibration', 'Ratings')}",
            table(["set", "50 %", "80 %", "90 %", "95 %", "width", "CRPS", "spread ~ error"], rows),
            f"Votes, log loss and Brier score before and after a temperature, difference after minus before. {findings.section('calibration', 'Preferences')}",
            table(["set", "temperatures", "log loss", "after", "difference", "of Brier score"], votes),
        ]
    )
