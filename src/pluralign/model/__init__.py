"""`RewardModel`: text in, reward distributions and utilities out; saving and loading (`folder`).

Several models and judges on one scale: `combine`; scores from other sources: `judge_scores`,
`judge_probabilities`; deterministic terms of a utility: `Sum`, `Length`, `Format`; rewards relative to the
initial policy's: `Contrastive`.
"""

from __future__ import annotations

from pluralign.model.combination import Combination, combine
from pluralign.model.contrastive import Contrastive
from pluralign.model.reward_model import Conversation, RewardModel
from pluralign.model.scorer import Scorer
from pluralign.model.sources import JudgedResponses, judge_probabilities, judge_scores
from pluralign.model.terms import Format, Length, Sum

__all__ = [
    "Combination",
    "Contrastive",
    "Conversation",
    "Format",
    "JudgedResponses",
    "Length",
    "RewardModel",
    "Scorer",
    "Sum",
    "combine",
    "judge_probabilities",
    "judge_scores",
]
