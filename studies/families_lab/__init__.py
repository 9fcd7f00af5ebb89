"""All families in the lab, where the true distribution is known.

Arms: `recovery` of the true distribution of ratings as rated responses grow; `bounds`, what is left of W1
when nothing is left to learn; `categories`, how many of them; `tables` of rewards, and costs of transport;
`personas`, votes of other people than the target crowd. Processor time is measured, so each runs on one
thread.
"""

from __future__ import annotations

from studies.families_lab import categories, personas, recovery, reward_tables
from studies.study import Arm, Study, once

STUDY = Study(
    "families_lab",
    "How near does each family come to the true distribution of the lab's crowd?",
    {
        "recovery": Arm(recovery.grid, recovery.run, threads=1),
        "bounds": Arm(once({}), recovery.bounds, seeds=1, threads=1),
        "categories": Arm(categories.grid, categories.run, threads=1),
        "tables": Arm(reward_tables.grid, reward_tables.run, threads=1),
        "personas": Arm(personas.grid, personas.run, threads=1),
    },
)
