"""PPO on distributions in the lab: in its language, and in a bandit whose optima are known exactly."""

from __future__ import annotations

from studies.ppo_lab import biases, changes, optima, steering, training
from studies.study import Arm, Study

STUDY = Study(
    "ppo_lab",
    "What do w, the risk measure, the family and the critic change in a policy that PPO trains?",
    {
        "before": Arm(lambda seed: [{"seed": seed}], training.before, threads=1),
        "samples": Arm(
            lambda seed: [{"method": method, "seed": seed} for method in training.METHODS],
            training.samples,
            threads=1,
        ),
        "pressure": Arm(training.pressed, training.pressure, threads=1),
        "people": Arm(lambda seed: [{"seed": seed}], training.people, threads=1),
        "critic": Arm(
            lambda seed: [{**settings, "seed": seed} for settings in training.CRITICS],
            training.critic,
            threads=1,
        ),
        "shift": Arm(lambda seed: [{"seed": seed}], changes.shift, threads=1),
        "unseen": Arm(lambda seed: [{"seed": seed}], changes.unseen, threads=1),
        "steering": Arm(lambda seed: [{"seed": seed}], steering.steering, threads=1),
        "biases": Arm(lambda seed: [{"seed": seed}], biases.biases, threads=1),
        "optimum": Arm(optima.optima, optima.optimum, threads=1),
    },
)
