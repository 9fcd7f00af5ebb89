"""Completions in the format of AlpacaEval: a JSON list of {instruction, output, generator, dataset}.

In: completions of the reference stage. Out: one file, for `alpaca_eval --model_outputs FILE`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pluralign.errors import ArgumentError, DataError
from pluralign.files import write_file
from pluralign.policy.sampling.settings import Prompt

if TYPE_CHECKING:
    import datasets

__all__ = ["instructions", "write_alpaca_eval"]


def instructions(prompts: Iterable[Prompt]) -> list[str]:
    """The text of each prompt's user message.

    Raises:
        DataError: a prompt has not exactly one user message; a system message is allowed but not written.
    """
    found = []
    for prompt in prompts:
        users = [message for message in prompt if message["role"] != "system"]
        if [message["role"] for message in users] != ["user"]:
            roles = [message["role"] for message in prompt]
            raise DataError(f"AlpacaEval needs single instructions; received a prompt with the roles {roles}")
        found.append(users[0]["content"])
    return found


def write_alpaca_eval(
    samples: datasets.Dataset, path: str | Path, *, generator: str, dataset: str = "alpaca_eval"
) -> Path:
    """Writes the first completion of each prompt.

    Args:
        samples: rows with prompt, index, completion, from `read_samples`.
        path: the JSON file; replaced if it exists.
        generator: name of the policy in the leaderboard.
        dataset: name of the prompt set.

    Returns:
        The file.

    Raises:
        DataError: a prompt has not exactly one user message; a system message is allowed but not written.
        ArgumentError: the generator has no name.
        ArtifactError: the file cannot be written.
    """
    if not generator.strip():
        raise ArgumentError("generator: received an empty name; AlpacaEval shows it in its table")
    first = [row for row in samples if row["index"] == 0]
    asked = instructions(row["prompt"] for row in first)
    rows = [
        {"dataset": dataset, "instruction": text, "output": row["completion"], "generator": generator}
        for text, row in zip(asked, first, strict=True)
    ]
    write_file(path, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    return Path(path)
