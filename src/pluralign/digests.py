"""Digests: short names of contents, equal where the contents are.

In: a file, a JSON value, or a text. Out: hexadecimal digits, or a seed. It lies below all parts and knows no
formats; callers decide what determines a result and hence goes into a digest.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pluralign.errors import ArtifactError

__all__ = ["file_digest", "json_digest", "named_files_digest", "text_seed"]


def file_digest(path: Path) -> str:
    """SHA-256 of what a file holds: 64 hexadecimal digits.

    Raises:
        ArtifactError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error.strerror or error}); repair it, copy it again, or make it again"
        ) from error


def json_digest(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys: 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def named_files_digest(folder: Path, name: str) -> str | None:
    """Of all files of that name below a folder, where they lie and what they hold; None where there is none.

    Raises:
        ArtifactError: one cannot be read.
    """
    files = sorted(folder.rglob(name)) if folder.is_dir() else []
    if not files:
        return None
    return json_digest({str(file.relative_to(folder)): file_digest(file) for file in files})


def text_seed(text: str) -> int:
    """A seed in [0, 2^63) that a text decides; other texts have other seeds.

    >>> text_seed("0:a prompt:1") == text_seed("0:a prompt:1") != text_seed("0:a prompt:2")
    True
    """
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
