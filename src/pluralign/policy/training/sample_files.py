"""Samples of evaluations on disk, so that people can read what a policy said before, between and after.

    samples/step-000012.jsonl   one object per sample, in the order of the held-out prompts

In: samples. Out: files; what stands in one is in `write_samples`. It knows nothing of training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pluralign.files import whole_file

__all__ = ["FOLDER", "write_samples"]

FOLDER = "samples"


def write_samples(folder: Path, step: int, samples: Sequence[Any]) -> Path:
    """Writes the samples of an evaluation; those of an earlier one after the same step are replaced.

    Args:
        folder: of the run; the file goes into its `samples/`.
        step: after which the policy was evaluated.
        samples: with the attributes of `JudgedSample`.

    Returns:
        The file.

    Raises:
        ArtifactError: it cannot be written.
    """
    path = folder / FOLDER / f"step-{step:06d}.jsonl"
    with whole_file(path) as work, work.open("w", encoding="utf-8", errors="replace") as file:
        for one in samples:
            line = {
                "prompt": [dict(message) for message in one.prompt],
                "response": one.text,
                "tokens": one.num_tokens,
                "cut_off": one.cut_off,
                "reward": _finite(one.reward),
                "gold": _finite(one.gold),
                "log_ratio": _finite(one.log_ratio),
                "kl_k3": _finite(one.k3),
            }
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def _finite(value: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None
