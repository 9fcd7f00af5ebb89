"""The folder of a combination: a model folder per source, and the maps between their scales.

In: reward models and maps. Out: `config.json`, `maps.safetensors` and `source-0`, `source-1`, ...; and back.
It does not know how sources are combined. Only reward models are stored: a judge's scores belong to its rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign import __version__
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.model.quantile_map import QuantileMap
from pluralign.model.reward_model import RewardModel

if TYPE_CHECKING:
    from torch import Tensor

    from pluralign.backbones import Backbone, EmbeddingCache

__all__ = ["FAMILY", "StoredCombination", "is_combination", "read", "write"]

FAMILY = "combination"
_FORMAT = 1
_CONFIG, _MAPS = "config.json", "maps.safetensors"


@dataclass(frozen=True)
class StoredCombination:
    """What the folder holds.

    Attributes:
        sources: the reward models.
        maps: one per source.
        weights: one per source.
        how: as it was combined.
    """

    sources: list[RewardModel]
    maps: list[QuantileMap]
    weights: list[float]
    how: str


def is_combination(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the folder of a combination."""
    with suppress(OSError, ValueError, AttributeError):
        config = json.loads((Path(path) / _CONFIG).read_text(encoding="utf-8"))
        return bool(config.get("family") == FAMILY)
    return False


def write(
    path: str | os.PathLike[str],
    sources: Sequence[Any],
    maps: Sequence[QuantileMap],
    weights: Sequence[float],
    how: str,
) -> Path:
    """Writes the folder under a temporary name and renames it.

    Raises:
        ArtifactError: a source is no reward model, or the path exists and is not empty.
    """
    from safetensors.torch import save_file

    target = Path(path)
    for place, source in enumerate(sources):
        if not isinstance(source, RewardModel):
            raise ArtifactError(
                f"sources[{place}] is {type(source).__name__}; only a combination of reward models can be "
                "stored. Keep a judge's scores with its rows and combine again"
            )
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ArtifactError(f"{target} exists and is not empty; nothing was written. Choose another path.")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for place, source in enumerate(sources):
            source.save_pretrained(work / f"source-{place}")
        tensors: dict[str, Tensor] = {}
        for place, scale in enumerate(maps):
            tensors |= {f"{place}.knots": scale.knots.clone(), f"{place}.scores": scale.scores.clone()}
        save_file(tensors, work / _MAPS, metadata={"format": "pt"})
        config = {
            "format": _FORMAT,
            "pluralign": __version__,
            "family": FAMILY,
            "how": how,
            "weights": list(weights),
            "slopes": [scale.slope for scale in maps],
        }
        config["sha256"] = {
            str(file.relative_to(work)): _sha256(file) for file in sorted(work.rglob("*.safetensors"))
        }
        (work / _CONFIG).write_text(json.dumps(config, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        work.chmod(0o755)
        work.replace(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def read(
    path: str | os.PathLike[str],
    *,
    backbone: Backbone | None,
    device: str | None,
    cache: EmbeddingCache | str | None,
) -> StoredCombination:
    """Reads the folder and its models; a backbone that several of them name is loaded once.

    Raises:
        ArtifactError: the folder is missing, damaged or something else.
        FingerprintError: a backbone's weights are not those that its head was fitted on.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(path)
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        if config["family"] != FAMILY or config["format"] != _FORMAT:
            raise ArtifactError(
                f"{folder} holds a {config['family']} of format {config['format']}; needed: a {FAMILY} of "
                f"format {_FORMAT}"
            )
        for name, digest in config.get("sha256", {}).items():
            if _sha256(folder / name) != digest:
                raise ValueError(f"{name} is not the file that was combined")
        tensors = load_file(folder / _MAPS)
        maps = [
            QuantileMap(tensors[f"{place}.knots"], tensors[f"{place}.scores"], slope)
            for place, slope in enumerate(config["slopes"])
        ]
        weights, how = [float(w) for w in config["weights"]], str(config["how"])
        if len(weights) != len(maps):
            raise ValueError(f"{len(weights)} weights of {len(maps)} sources")
        named = [_backbone_of(folder / f"source-{place}") for place in range(len(maps))]
    except ArtifactError:
        raise
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, ArgumentError) as error:
        raise ArtifactError(f"{folder} is no combination, or damaged ({error}); combine again") from error
    loaded: dict[str, Backbone] = {}
    sources = []
    for place, name in enumerate(named):
        source = RewardModel.from_pretrained(
            folder / f"source-{place}", backbone=backbone or loaded.get(name), device=device, cache=cache
        )
        loaded[name] = source.backbone
        sources.append(source)
    return StoredCombination(sources, maps, weights, how)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _backbone_of(folder: Path) -> str:
    """The description of a model's backbone, as one comparable text."""
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    return json.dumps(config["backbone"], sort_keys=True)
