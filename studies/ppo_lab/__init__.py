"""PPO on distributions in the lab, in a bandit whose optima are known exactly."""

from __future__ import annotations

from studies.ppo_lab import runs
from studies.study import Arm, Study

STUDY = Study(
    "ppo_lab",
    "What do w and the risk measure change in what a policy chooses, and does PPO get there?",
    {
        "optimum": Arm(runs.optima, runs.optimum, seeds=3, threads=1),
        "trained": Arm(runs.training, runs.trained, seeds=2, threads=1),
    },
)
