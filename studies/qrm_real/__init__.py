"""QRM on real people.

Arms: `models`, raw ratings against their mean and majority, quantiles against a Gaussian residual;
`five_quantiles` beside one number; `verbosity`, how far scores follow length before and after debiasing.
"""

from __future__ import annotations

from studies.qrm_real import five_quantiles, models, verbosity
from studies.study import Arm, Study, once

STUDY = Study(
    "qrm_real",
    "What do quantiles of raw ratings show about real people that means and one number do not?",
    {
        "models": Arm(
            once(*({"data": d, "variant": v} for d in models.SOURCES for v in models.VARIANTS)),
            models.run,
            seeds=1,
        ),
        "five_quantiles": Arm(once({}), five_quantiles.run, seeds=1),
        "verbosity": Arm(once(*({"data": d} for d in verbosity.SETS)), verbosity.run, seeds=1),
    },
)
