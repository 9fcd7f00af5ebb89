"""Published suites and pairs of real people: every family beside length, and what a cautious user changes."""

from __future__ import annotations

from studies.study import Arm, Study, once
from studies.suites import evaluated

STUDY = Study(
    "suites",
    "What does a small frozen encoder know of pairs of real people, and does caution change it?",
    {"families": Arm(once(*({"family": name} for name in evaluated.FAMILIES)), evaluated.run, seeds=1)},
)
