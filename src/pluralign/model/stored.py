"""The common parts of all folders in this package: strict JSON, checked headers, digests.

In: paths, and the expected content. Out: checked contents, or an `ArtifactError` that names file, key,
what was found and what is allowed.

Nothing is allocated before it is known to match: the header of a tensor file is read first, and must name
exactly the tensors that the configuration implies, with their dtypes and shapes. A file of tensors also
carries a digest of the configuration that it was saved with, and the configuration has digests of the files:
files changed since then are refused. Files that were saved before digests existed are only checked against
the schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pluralign.digests import json_digest
from pluralign.errors import ArtifactError
from pluralign.heads.schema import TensorShapes

__all__ = ["CONFIG_DIGEST", "read_json", "read_tensors"]

CONFIG_DIGEST = "pluralign_config_sha256"
"""The key in a tensor file's metadata for the digest of its configuration."""

_DTYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64}


def read_json(file: Path) -> dict[str, Any]:
    """An object from a JSON file; NaN, infinities and repeated keys are rejected.

    Raises:
        ArtifactError: the file is missing or contains something else.
    """

    def no_constant(name: str) -> Any:
        raise ValueError(f"{name} is not a JSON number")

    def no_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key is repeated")
        return found

    try:
        value = json.loads(
            file.read_text(encoding="utf-8"), parse_constant=no_constant, object_pairs_hook=no_repetition
        )
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{file} is damaged ({error}); fit or copy the model again") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{file} is damaged (it is not a JSON object); fit or copy the model again")
    return value


def read_tensors(
    file: Path, expected: TensorShapes | Callable[[TensorShapes], TensorShapes], config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The tensors of a file, whose header must match `expected`.

    Args:
        file: a safetensors file.
        expected: names, dtypes and shapes; or a function that returns them given those in the header, if a
            size is stored only in the file.
        config: its configuration, compared with the digest in the file, if any.

    Raises:
        ArtifactError: the file is missing, damaged, has other tensors, or was saved with another
            configuration.
    """
    from safetensors import SafetensorError, safe_open

    again = "fit or copy the model again"
    try:
        with safe_open(file, framework="pt") as opened:
            found = {name: _stated(opened.get_slice(name)) for name in opened.keys()}  # noqa: SIM118
            shapes = expected(found) if callable(expected) else expected
            _check_header(file, found, shapes)
            saved = (opened.metadata() or {}).get(CONFIG_DIGEST)
            if saved is not None and saved != json_digest(config):
                raise ArtifactError(
                    f"{file.parent}: the configuration was changed since the weights were saved (SHA-256 "
                    f"{json_digest(config)[:16]}... instead of {saved[:16]}...); {again}"
                )
            return {name: opened.get_tensor(name) for name in shapes}
    except (OSError, SafetensorError, ValueError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{file} is missing or damaged ({error}); {again}") from error


def _stated(tensor: Any) -> tuple[Any, tuple[int, ...]]:
    """Dtype and shape in the header; a dtype that we never store stays a name."""
    name = tensor.get_dtype()
    return _DTYPES.get(name, name), tuple(tensor.get_shape())


def _check_header(file: Path, found: TensorShapes, expected: TensorShapes) -> None:
    lacking, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if lacking or unknown:
        names = [f"lacks {name}" for name in lacking[:3]] + [f"has {name}" for name in unknown[:3]]
        raise ArtifactError(
            f"{file} does not fit its config: it {', '.join(names)}; needed: the {len(expected)} tensors "
            "that config.json implies"
        )
    for name, (dtype, shape) in expected.items():
        stored, size = found[name]
        if stored != dtype or size != shape:
            raise ArtifactError(
                f"{file} does not fit its config: {name} is {stored} {list(size)}; needed: {dtype} "
                f"{list(shape)}"
            )
