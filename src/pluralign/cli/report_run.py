"""The page on a run of `align`: what `pluralign report RUN` makes where RUN is one.

In: a run folder. Out: its content, for `report` to write and print.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["run_content"]

_PAIRED = {"reward": "reward", "gold": "gold", "length": "tokens", "cut_off": "cut_off"}


def run_content(folder: Path) -> dict[str, Any]:
    """The content of the page.

    Raises:
        ArtifactError: nothing was measured yet, or a file is damaged.
    """
    from pluralign.evaluation.intervals import difference_interval
    from pluralign.report.run_content import build_run_content, paired_samples
    from pluralign.report.training_runs import read_training_run

    run = read_training_run(folder)
    pairs = paired_samples(run)
    groups = [repr(first["prompt"]) for first, _ in pairs]
    changes = {}
    for name, key in _PAIRED.items():
        columns = [[one.get(key) for one in side] for side in zip(*pairs, strict=True)]
        if columns and all(value is not None for column in columns for value in column):
            first, last = ([float(value) for value in column] for column in columns)
            changes[name] = difference_interval(last, first, groups).to_dict()
    return build_run_content(run, changes)
