"""Checkpoints that other software loads, written from a reward model: `RewardModel.export`."""

from __future__ import annotations

from pluralign.model.export.stage import ExportResult, export

__all__ = ["ExportResult", "export"]
