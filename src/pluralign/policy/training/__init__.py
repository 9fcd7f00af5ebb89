"""Shared by offline and online trainers: finding the checkpoint to continue from, and complete writing."""
