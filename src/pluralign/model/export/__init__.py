"""Checkpoints that other software loads, written from a reward model: `RewardModel.export`."""
