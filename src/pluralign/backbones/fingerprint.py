"""The identity of a model's files: one hash over weights, configuration and tokenizer.

In: a folder with a Hugging Face model. Out: 64 hexadecimal digits. Two folders with the same files have
the same fingerprint, whether they came from the hub or not.

140 GB are not hashed at every start: the hub's cache names a large file after its SHA-256, which is used as
it is; any other weight file is hashed once and its hash is stored by (path, size, modification time).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path

from pluralign.backbones.disk import cache_folder
from pluralign.digests import file_digest
from pluralign.errors import ArtifactError
from pluralign.files import write_json

__all__ = ["file_sha256", "fingerprint", "weight_files"]

# All files besides the weights that affect the numbers computed for a text.
_OTHER_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "adapter_config.json",
    "adapter_model.safetensors",
)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold the model in `folder`, sorted by name.

    Raises:
        ArtifactError: there are none, or the index names a missing one.
    """
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if not index.is_file():
        raise ArtifactError(
            f"{folder} has no model.safetensors and no model.safetensors.index.json; "
            "weights are read from safetensors only, convert other formats first"
        )
    names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ArtifactError(f"{index} names files that do not exist: {', '.join(missing)}")
    return [folder / name for name in names]


def fingerprint(folder: Path) -> str:
    """Hash of the hashes and names of all files in `folder` that determine an embedding.

    Returns:
        64 hexadecimal digits (SHA-256).
    """
    files = weight_files(folder) + [folder / name for name in _OTHER_FILES if (folder / name).is_file()]
    lines = sorted(f"{file.name} {file_sha256(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file: from the hub's blob name, from the stored hashes, or computed and then stored."""
    blob = Path(os.path.realpath(path)).name
    if path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", blob):
        return blob
    status = path.stat()
    identity = [os.path.realpath(path), status.st_size, status.st_mtime_ns]
    note = (
        cache_folder() / "fingerprints" / f"{hashlib.sha256(str(identity[0]).encode()).hexdigest()[:32]}.json"
    )
    # A stored hash that cannot be read or written only costs time.
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        remembered = json.loads(note.read_text(encoding="utf-8"))
        if remembered["file"] == identity:
            return str(remembered["sha256"])
    digest = file_digest(path)
    with contextlib.suppress(ArtifactError):
        write_json(note, {"file": identity, "sha256": digest})
    return digest
