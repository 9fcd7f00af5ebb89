"""One `ProgramReward` for a file of tests."""

from __future__ import annotations

import pytest
from program_runs import SHORT

from pluralign.policy.rewards.programs.reward import ProgramReward


@pytest.fixture(scope="module")
def reward():
    made = ProgramReward(SHORT, cache_size=0)
    yield made
    made.close()
