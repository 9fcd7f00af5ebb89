"""Do calibrated predictions hold what they say, on groups that neither fit nor calibration has seen?"""

from __future__ import annotations

from studies.calibration import preferences, ratings
from studies.study import Arm, Study, once

STUDY = Study(
    "calibration",
    "Do calibrated predictions hold what they say on groups that nothing has seen?",
    {
        "ratings": Arm(once(*ratings.RUNS), ratings.run, seeds=1),
        "preferences": Arm(once(*preferences.RUNS), preferences.run, seeds=1),
    },
)
