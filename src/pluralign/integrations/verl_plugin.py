"""What verl's plug-in search imports: registers the reward manager under the name `pluralign`.

verl loads the entry points of the group `verl.plugins` while it is itself imported. With this one,
`reward.reward_manager.name=pluralign` works wherever pluralign is installed beside verl.
"""

from __future__ import annotations

from verl.experimental.reward_loop.reward_manager.registry import register

from pluralign.integrations import verl

register("pluralign")(verl.RewardManager)
