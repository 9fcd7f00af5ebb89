"""Completions in the format that AlpacaEval reads: a JSON list of {instruction, output, generator, dataset}.

In: completions of the reference stage. Out: one file. It judges nothing: `alpaca_eval --model_outputs FILE`
does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.errors import ArgumentError, DataError

if TYPE_CHECKING:
    import datasets

__all__ = ["write_alpaca_eval"]


def write_alpaca_eval(
    samples: datasets.Dataset, path: str | Path, *, generator: str, dataset: str = "alpaca_eval"
) -> Path:
    """Writes the first completion of each prompt.

    Args:
        samples: rows with prompt, index, completion; see `read_samples`.
        path: the JSON file; replaced as a whole.
        generator: name of the policy in the leaderboard.
        dataset: name of the set of prompts.

    Returns:
        The file.

    Raises:
        DataError: a prompt is not one user message; a system message beside it is allowed and not written.
        ArgumentError: the generator has no name.
    """
    if not generator.strip():
        raise ArgumentError("generator: received an empty name; AlpacaEval shows it in its table")
    rows: list[dict[str, Any]] = []
    for row in samples:
        if row["index"] != 0:
            continue
        users = [message for message in row["prompt"] if message["role"] != "system"]
        if [message["role"] for message in users] != ["user"]:
            roles = [message["role"] for message in row["prompt"]]
            raise DataError(f"AlpacaEval has single instructions; received a prompt with the roles {roles}")
        rows.append(
            {
                "dataset": dataset,
                "instruction": users[0]["content"],
                "output": row["completion"],
                "generator": generator,
            }
        )
    target = Path(path)
    work = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        work.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        work.replace(target)
    finally:
        work.unlink(missing_ok=True)
    return target
