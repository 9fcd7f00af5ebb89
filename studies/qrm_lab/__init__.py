"""QRM in the lab, where the truth is known.

Arms: `recovery` of the true quantiles as data grows; `levels`, the number K of quantiles; `penalties`, l1
against crossing; `gate`, whether it finds the crowd's weights; `length`, debiasing.
"""

from __future__ import annotations

from studies.qrm_lab import gate, length, recovery
from studies.study import Arm, Study

STUDY = Study(
    "qrm_lab",
    "Does QRM find the true quantiles, and its gate what the crowd weighs?",
    {
        "recovery": Arm(recovery.grid, recovery.recovery),
        "levels": Arm(recovery.both_features, recovery.levels),
        "penalties": Arm(recovery.minilm_alone, recovery.penalties),
        "gate": Arm(gate.grid, gate.run),
        "length": Arm(length.grid, length.run),
    },
)
