"""Tuning the backbone: what is gained over a head on the frozen one, on real people and in the lab.

Arms: `real`, frozen against LoRA against all weights on four sets of ratings; `lab`, the distance to the
truth as data grows.
"""

from __future__ import annotations

from studies.study import Arm, Study
from studies.tuning import lab, real

STUDY = Study(
    "tuning",
    "How much nearer do models come to people, and to the truth, when the backbone is trained with the head?",
    {
        "real": Arm(real.grid, real.run, seeds=1, threads=1, packages=("peft",)),
        "lab": Arm(lab.grid, lab.run, seeds=1, threads=1, packages=("peft",)),
    },
)
