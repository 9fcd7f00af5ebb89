"""The folder of a combination: a model folder per source, and the maps between their scales.

In: reward models and maps. Out: `config.json`, `maps.safetensors` and `source-0`, `source-1`, ...; and back.
Only reward models are stored: a judge's scores belong to its rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pluralign._version import __version__
from pluralign.digests import file_digest, json_digest
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.files import whole_folder
from pluralign.heads import schema
from pluralign.heads.schema import TensorShapes
from pluralign.model.quantile_map import QuantileMap
from pluralign.model.reward_model import RewardModel
from pluralign.model.stored import CONFIG_DIGEST, read_json, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from pluralign.backbones import Backbone, EmbeddingCache

__all__ = ["FAMILY", "StoredCombination", "is_combination", "read", "write"]

FAMILY = "combination"
_FORMAT = 1
_CONFIG, _MAPS = "config.json", "maps.safetensors"


@dataclass(frozen=True)
class StoredCombination:
    """The content of the folder.

    Attributes:
        sources: the reward models.
        maps: one per source.
        weights: one per source.
        how: `mixture` or `vincentize`.
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
    """Writes the folder atomically.

    Raises:
        ArtifactError: a source is not a reward model, or the path exists and is not empty, or cannot be
            written.
    """
    from safetensors.torch import save

    target = Path(path)
    for place, source in enumerate(sources):
        if not isinstance(source, RewardModel):
            raise ArtifactError(
                f"sources[{place}] is {type(source).__name__}; only a combination of reward models can be "
                "stored. Keep a judge's scores with its rows and combine again"
            )
    with whole_folder(target) as work:
        for place, source in enumerate(sources):
            source.save_pretrained(work / f"source-{place}")
        tensors: dict[str, Tensor] = {}
        for place, scale in enumerate(maps):
            tensors |= {f"{place}.knots": scale.knots.clone(), f"{place}.scores": scale.scores.clone()}
        config: dict[str, Any] = {
            "format": _FORMAT,
            "pluralign": __version__,
            "family": FAMILY,
            "how": how,
            "weights": list(weights),
            "slopes": [scale.slope for scale in maps],
        }
        metadata = {"format": "pt", CONFIG_DIGEST: json_digest(_deciding(config))}
        (work / _MAPS).write_bytes(save(tensors, metadata=metadata))
        config["sha256"] = {
            str(file.relative_to(work)): file_digest(file) for file in sorted(work.rglob("*.safetensors"))
        }
        (work / _CONFIG).write_text(json.dumps(config, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return target


def read(
    path: str | os.PathLike[str],
    *,
    backbone: Backbone | None,
    device: str | None,
    cache: EmbeddingCache | str | None,
) -> StoredCombination:
    """Reads the folder and its models; a backbone that several of them use is loaded once.

    Raises:
        ArtifactError: the folder is missing, damaged or of another kind.
        FingerprintError: a backbone's weights are not those that its head was fitted on.
    """
    folder = Path(path)
    config = _read_config(folder)
    for name, digest in config.get("sha256", {}).items():
        if file_digest(folder / name) != digest:
            raise ArtifactError(f"{folder}: {name} is not the file that was combined; combine again")
    count, weights = len(config["slopes"]), [float(w) for w in config["weights"]]
    tensors = read_tensors(folder / _MAPS, lambda header: _map_shapes(count, header), _deciding(config))
    try:
        maps = [
            QuantileMap(tensors[f"{place}.knots"], tensors[f"{place}.scores"], slope)
            for place, slope in enumerate(config["slopes"])
        ]
    except ArgumentError as error:
        raise ArtifactError(f"{folder / _MAPS} is damaged ({error}); combine again") from error
    named = [_backbone_of(folder / f"source-{place}") for place in range(count)]
    loaded: dict[str, Backbone] = {}
    sources = []
    for place, name in enumerate(named):
        source = RewardModel.from_pretrained(
            folder / f"source-{place}", backbone=backbone or loaded.get(name), device=device, cache=cache
        )
        loaded[name] = source.backbone
        sources.append(source)
    return StoredCombination(sources, maps, weights, config["how"])


def _read_config(folder: Path) -> dict[str, Any]:
    """The checked configuration."""
    file = folder / _CONFIG
    if not file.is_file():
        raise ArtifactError(f"{folder} is not a combination: it has no {_CONFIG}")
    config = read_json(file)
    if config.get("family") != FAMILY or config.get("format") != _FORMAT:
        raise ArtifactError(
            f"{folder} is not a combination: it contains a {config.get('family')!r} of format "
            f"{config.get('format')!r}; needed: a {FAMILY} of format {_FORMAT}"
        )
    _SCHEMA(config, f"{file}: config")
    count, where = len(config["weights"]), f"{file}: config"
    if not sum(config["weights"]) > 0:
        raise schema.refuse(f"{where}.weights", config["weights"], "weights that are not all 0")
    if len(config["slopes"]) != count:
        raise schema.refuse(f"{where}.slopes", config["slopes"], f"{count} of them, as weights")
    files = {_MAPS, *(f"source-{place}/model.safetensors" for place in range(count))}
    if config.get("sha256", {}).keys() not in (set(), files):
        raise schema.refuse(f"{where}.sha256", sorted(config["sha256"]), ", ".join(sorted(files)))
    return config


_SCHEMA = schema.record(
    {
        "format": schema.whole(_FORMAT, _FORMAT),
        "family": schema.choice(FAMILY),
        "how": schema.choice("mixture", "vincentize"),
        "weights": schema.listed(schema.number(0), 1),
        "slopes": schema.listed(schema.number(above=0), 1),
    },
    {"pluralign": schema.text, "sha256": schema.each(schema.text)},
)


def _deciding(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a configuration that determines scores."""
    return {key: config[key] for key in ("format", "how", "weights", "slopes")}


def _map_shapes(count: int, header: TensorShapes) -> TensorShapes:
    """The expected tensors of the maps of `count` sources: knots and scores of equal, arbitrary length."""
    found: TensorShapes = {}
    for place in range(count):
        knots = header.get(f"{place}.knots", (torch.float64, ()))[1]
        shape = knots if len(knots) == 1 else (2,)
        found |= {f"{place}.knots": (torch.float64, shape), f"{place}.scores": (torch.float64, shape)}
    return found


def _backbone_of(folder: Path) -> str:
    """The description of a model's backbone, as a string for comparison."""
    return json.dumps(read_json(folder / _CONFIG).get("backbone"), sort_keys=True)
