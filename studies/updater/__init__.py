"""Following a crowd that changes: the updaters against refitting, error and processor time, in the lab."""

from __future__ import annotations

from studies.study import Arm, Study
from studies.updater import streams

STUDY = Study(
    "updater",
    "Do updaters follow a crowd that changes as well as refitting does, and in what time?",
    {"streams": Arm(streams.grid, streams.run, threads=1)},
)
