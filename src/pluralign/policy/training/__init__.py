"""Shared by offline and online trainers: digests of models, samples on disk, warning signs.

What trainers of backbones share as well is in `pluralign.training`.
"""

from __future__ import annotations

from pluralign.training.checkpoints import last_checkpoint

__all__ = ["last_checkpoint"]
