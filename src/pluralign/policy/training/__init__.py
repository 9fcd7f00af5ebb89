"""Shared by offline and online trainers: checkpoints, complete writing, shards, warning signs."""
