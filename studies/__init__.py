"""Questions that were asked of pluralign, one folder each: code, records of all runs, and what was found.

    python -m studies --list
    python -m studies qrm_lab --seeds 5
    python -m studies results

`README.md` says how a folder is laid out. Nothing here is part of the package that users install.
"""

from __future__ import annotations

import importlib

from studies.study import Study

NAMES = (
    "real_data",
    "tuning",
    "suites",
    "qrm_real",
    "qrm_lab",
    "families",
    "families_lab",
    "brme",
    "judges",
    "updater",
    "over_optimisation",
    "lab_policy",
    "ppo_lab",
    "programs_lab",
    "transport",
    "calibration",
    "intervals",
    "scale",
    "speed",
    "gpu",
)


def load(name: str) -> Study:
    """A study by its name; imports what it runs."""
    found: Study = importlib.import_module(f"studies.{name}").STUDY
    return found
