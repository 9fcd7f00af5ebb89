"""Samples of evaluations on disk, for people to read: a policy before, during and after training.

    samples/step-000012.jsonl   one object per sample, in the order of the held-out prompts: prompt, response,
                                tokens, cut_off, reward, gold, log_ratio, kl_k3, profile (`model.profiles`)

In: samples. Out: files, and their content.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pluralign.files import whole_file

__all__ = ["FOLDER", "read_samples", "write_samples"]

FOLDER = "samples"


def write_samples(folder: Path, step: int, samples: Sequence[Any], table: str = "eval") -> Path:
    """Writes the samples of an evaluation; those of an earlier one after the same step are replaced.

    Args:
        folder: of the run; the file goes into its `samples/`.
        step: after which the policy was evaluated.
        samples: with the attributes of `ScoredSample`.
        table: the evaluation table that the prompts are of; others than `eval` have a folder of their own.

    Returns:
        The file.

    Raises:
        ArtifactError: it cannot be written.
    """
    path = _file(folder, step, table)
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
                "profile": {name: _finite(value) for name, value in one.profile.items()},
            }
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def read_samples(folder: Path, step: int, table: str = "eval") -> list[dict[str, Any]]:
    """The samples of an evaluation; none where there is no such file, or it is damaged.

    Args:
        folder: of the run.
        step: after which the policy was evaluated.
        table: see `write_samples`.
    """
    try:
        with _file(folder, step, table).open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]  # not splitlines: responses hold U+2028 and others
    except (OSError, ValueError):
        return []


def _file(folder: Path, step: int, table: str) -> Path:
    inner = FOLDER if table == "eval" else f"{FOLDER}-{table}"
    return folder / inner / f"step-{step:06d}.jsonl"


def _finite(value: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None
