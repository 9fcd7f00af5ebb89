"""What is measured on a GPU."""

from __future__ import annotations

from studies.gpu import embeddings, online
from studies.study import Arm, Study, once

STUDY = Study(
    "gpu",
    "How fast is it on a GPU?",
    {
        "embeddings": Arm(once({}), embeddings.run, seeds=1, threads=1),
        "online": Arm(once({}), online.run, seeds=1, threads=1),
    },
)
