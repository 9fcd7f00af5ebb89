"""What the sentences of `findings.md` say of the records."""

from __future__ import annotations

from statistics import mean

from studies.judges.panels import METHODS
from studies.judges.section import judges, runs


def _mean(panel: str, method: str, number: str = "spearman") -> float:
    return mean(run[method][number] for run in runs(panel))


def _gain(panel: str, other: str = "raw") -> float:
    return _mean(panel, "ranks") - _mean(panel, other)


def ranks_beat_raw_where_scales_differ() -> bool:
    gains = {panel: _gain(panel) for panel in ("scales", "severity", "loud and noisy", "curved")}
    every = all(run["ranks"]["spearman"] > run["raw"]["spearman"] for panel in gains for run in runs(panel))
    return every and max(gains, key=lambda panel: gains[panel]) == "loud and noisy"


def ranks_change_nothing_where_judges_are_alike() -> bool:
    return (
        abs(_gain("alike")) < 0.002
        and abs(_mean("alike", "ranks", "best") - _mean("alike", "raw", "best")) < 0.05
    )


def standardised_is_nearly_as_good() -> bool:
    panels = ("alike", "scales", "severity", "noise", "loud and noisy", "long", "curved")
    gains = {panel: _gain(panel, "standardised") for panel in panels}
    return all(-0.003 < gain < 0.015 for gain in gains.values()) and gains["curved"] > 0.003


def best_judge_beats_every_average_of_unequal_ones() -> bool:
    return all(
        max(one["spearman"] for one in judges(run)) > run[method]["spearman"]
        for run in runs("noise")
        for method in METHODS
    )
