"""Training tables of random words, in both shapes."""

from __future__ import annotations

import random

from datasets import Dataset

WORDS = ["a", "bc", "def", "ghij", "klmno", "pqrstu"]


def text(r: random.Random, most: int = 5) -> str:
    return " ".join(r.choice(WORDS) for _ in range(r.randint(1, most)))


def pairs(count: int = 12, seed: int = 0) -> Dataset:
    r = random.Random(seed)
    return Dataset.from_list(
        [
            {
                "prompt": text(r),
                "chosen": text(r),
                "rejected": text(r),
                "reward_chosen": r.random(),
                "reward_rejected": r.random(),
                "ref_rewards": [r.random() for _ in range(r.randint(3, 5))],
            }
            for _ in range(count)
        ]
    )


def unpaired(count: int = 12, seed: int = 0) -> Dataset:
    rows = pairs(count, seed).to_list()
    return Dataset.from_list(
        [
            {
                "prompt": row["prompt"],
                "completion": row["chosen"],
                "reward": row["reward_chosen"],
                "ref_rewards": row["ref_rewards"],
            }
            for row in rows
        ]
    )
