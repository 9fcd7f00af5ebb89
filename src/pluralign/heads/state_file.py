"""Saves the state of an updater in one file: safetensors, with its settings as JSON in the file's header.

In: a kind, settings and tensors. Out: a file that is written atomically; and back. No pickle.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pluralign.digests import json_digest
from pluralign.errors import ArtifactError
from pluralign.files import write_file

__all__ = ["read_state", "write_state"]

_FORMAT = 1
_KEY = "pluralign"
_DIGEST = "sha256"
# Counts are stored in double precision; rewards of categories may have any floating-point type.
_DTYPES = {"F64"}
_ANY_FLOAT = {"atoms": {"F64", "F32", "F16", "BF16"}}


def write_state(
    path: str | os.PathLike[str], kind: str, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Path:
    """Writes the file atomically.

    Raises:
        ArtifactError: the path is a folder, or cannot be written.
    """
    from safetensors.torch import save

    described = {"format": _FORMAT, "kind": kind, **settings}
    header = json.dumps(described | {_DIGEST: json_digest(described)}, allow_nan=False)
    stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_file(path, save(stored, metadata={_KEY: header}))
    return Path(path)


def read_state(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads settings and tensors.

    Raises:
        ArtifactError: the file is missing, damaged, of another kind or of a newer format.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    file = Path(path)
    try:
        with safe_open(file, framework="pt") as opened:
            header = (opened.metadata() or {}).get(_KEY)
            dtypes = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
        settings = {} if header is None else json.loads(header)
        tensors = dict(load_file(file))
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise ArtifactError(f"{file} is missing or damaged ({error}); save the {kind} again") from error
    found = settings.get("kind") if isinstance(settings, dict) else None
    if found != kind:
        raise ArtifactError(f"{file} holds {found or 'something else'}, not a {kind}")
    if type(settings.get("format")) is not int or settings["format"] != _FORMAT:
        raise ArtifactError(
            f"{file} has format {settings.get('format')}; this version of pluralign reads format {_FORMAT}"
        )
    digest = settings.pop(_DIGEST, None)  # missing in files of older versions
    if digest is not None and digest != json_digest(settings):
        raise ArtifactError(f"{file}: its settings were changed since it was saved; save the {kind} again")
    for name, dtype in dtypes.items():
        allowed = _ANY_FLOAT.get(name, _DTYPES)
        if dtype not in allowed:
            raise ArtifactError(
                f"{file}: {name} is {dtype}; allowed: {', '.join(sorted(allowed))}. Save the {kind} again"
            )
    return settings, tensors
