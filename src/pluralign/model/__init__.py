"""`RewardModel`: text in, reward distributions and utilities out; save and load (`folder`)."""

from __future__ import annotations

from pluralign.model.contrastive import Contrastive
from pluralign.model.reward_model import Conversation, RewardModel

__all__ = ["Contrastive", "Conversation", "RewardModel"]
