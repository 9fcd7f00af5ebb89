"""The folder of a reward model: written whole or not at all, read with every part checked.

In: heads and descriptions. Out: `config.json`, `model.safetensors` (heads only) and a card, `README.md`; and
back. It does not load backbones: the backbone is named by id, revision and fingerprint.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pluralign import __version__, backbones
from pluralign.errors import ArtifactError, FingerprintError
from pluralign.heads import FAMILIES, Head

__all__ = ["StoredModel", "check_backbone", "read", "write"]

_FORMAT = 1
_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "README.md"

# What a backbone's description must hold; `describe` gives it, `backbones.load` takes it.
_BACKBONE_KEYS = {f.name for f in fields(backbones.BackboneConfig)} | {"fingerprint"}
# Options that came after the first models; a folder without them means the default.
_DEFAULTS = {f.name: f.default for f in fields(backbones.BackboneConfig) if f.default is not MISSING}
_SAME_WEIGHTS_ELSEWHERE = {"name_or_path", "revision", "fingerprint"}


@dataclass(frozen=True)
class StoredModel:
    """What a model folder holds.

    Attributes:
        head: the reward head.
        backbone: what `Backbone.describe` gave.
        baselines: other heads on the same embeddings, by name.
        fitted: what is remembered of the fit; JSON-able.
    """

    head: Head
    backbone: Mapping[str, Any]
    baselines: Mapping[str, Head] = field(default_factory=dict)
    fitted: Mapping[str, Any] = field(default_factory=dict)


def write(target: Path, model: StoredModel) -> None:
    """Writes the folder under a temporary name and renames it.

    Raises:
        ArtifactError: the path is a file or a folder with other things in it, or cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if target.exists() and not _may_be_replaced(target):
        raise ArtifactError(
            f"{target} exists and is no folder that pluralign made; nothing was written. Choose another path."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        config = _config(model)
        (work / _CONFIG).write_text(json.dumps(config, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        try:
            save_file(_tensors(model), work / _WEIGHTS, metadata={"format": "pt"})
        except SafetensorError as error:  # its own type, also where the disk is full
            raise ArtifactError(
                f"{target} cannot be written: {error}; free some disk space if that is the cause"
            ) from error
        (work / _CARD).write_text(_card(config), encoding="utf-8")
        work.chmod(0o755)
        _put_in_place(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def read(folder: Path) -> StoredModel:
    """Reads and checks a model folder.

    Raises:
        ArtifactError: the folder is missing, damaged, or of a newer format.
    """
    config = _read_config(folder)
    tensors = _read_tensors(folder / _WEIGHTS)
    return StoredModel(
        _build(folder, config, tensors, "head."),
        config["backbone"],
        {
            name: _build(folder, entry, tensors, f"baselines.{name}.")
            for name, entry in config.get("baselines", {}).items()
        },
        config.get("fitted", {}),
    )


def _config(model: StoredModel) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "pluralign": __version__,
        "family": model.head.family,
        "head": model.head.spec(),
        "baselines": {n: {"family": h.family, "head": h.spec()} for n, h in model.baselines.items()},
        "backbone": dict(model.backbone),
        "fitted": dict(model.fitted),
    }


def _tensors(model: StoredModel) -> dict[str, Tensor]:
    heads = {"head": model.head} | {f"baselines.{name}": head for name, head in model.baselines.items()}
    return {
        f"{prefix}.{name}": tensor.detach().cpu().clone()
        for prefix, head in heads.items()
        for name, tensor in head.state_dict().items()
    }


def _may_be_replaced(target: Path) -> bool:
    """Whether a path is an empty folder or a model folder of ours; other tools' models have a config too."""
    if not target.is_dir():
        return False
    if not any(target.iterdir()):
        return True
    with suppress(OSError, ValueError, AttributeError):
        config = json.loads((target / _CONFIG).read_text(encoding="utf-8"))
        return bool({"pluralign", "family"} <= config.keys())
    return False


def _put_in_place(work: Path, target: Path) -> None:
    """Renames `work` to `target`; what was there before is kept until then, and comes back on failure."""
    if not target.exists():
        work.replace(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        target.replace(old)
        work.replace(target)
    finally:
        if not target.exists():
            old.replace(target)
        shutil.rmtree(old, ignore_errors=True)


def check_backbone(folder: Path, given: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Raises where a backbone is not the one that the folder names.

    Raises:
        ArtifactError: it pools or cuts texts in another way.
        FingerprintError: its weights are others.
    """
    if given["fingerprint"] != stored["fingerprint"]:
        raise FingerprintError(
            f"{folder} was fitted on backbone {stored['name_or_path']!r} with fingerprint "
            f"{str(stored['fingerprint'])[:16]}..., the one given has "
            f"{str(given['fingerprint'])[:16]}...; pass the weights it was fitted on, or fit again"
        )
    differ = [k for k in sorted(given.keys() - _SAME_WEIGHTS_ELSEWHERE) if given[k] != stored[k]]
    if differ:
        found = ", ".join(f"{k} {given[k]!r} instead of {stored[k]!r}" for k in differ)
        raise ArtifactError(f"{folder} was fitted on other embeddings: the backbone given has {found}")


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / _CONFIG
    if not file.is_file():
        raise ArtifactError(
            f"{folder} is no model folder: it has no {_CONFIG}. Pass the folder that `fit` made."
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        version = config["format"]
        missing = {"family", "head", "backbone"} - config.keys()
        if not missing:
            config["backbone"] = {**_DEFAULTS, **config["backbone"]}
            if set(config["backbone"]) != _BACKBONE_KEYS:
                raise ValueError(f"its backbone has not the keys {', '.join(sorted(_BACKBONE_KEYS))}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(f"{file} is damaged ({error}); fit or copy the model again") from error
    if version != _FORMAT:
        raise ArtifactError(f"{file} has format {version}; this version of pluralign reads format {_FORMAT}")
    if missing:
        raise ArtifactError(
            f"{file} lacks {', '.join(sorted(missing))}; fit or copy the model again, or, if it is a "
            "combination, load it with pluralign.model.Combination.from_pretrained"
        )
    return dict(config)


def _read_tensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(file))
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{file} is missing or damaged ({error}); fit or copy the model again") from error


def _build(folder: Path, entry: Mapping[str, Any], tensors: dict[str, Tensor], prefix: str) -> Head:
    family = entry.get("family")
    if family not in FAMILIES:
        raise ArtifactError(
            f"{folder} has family {family!r}; this version knows {', '.join(sorted(FAMILIES))}"
        )
    try:
        head = FAMILIES[family].from_spec(entry["head"])
        head.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError(
            f"{folder}: the stored {family} head does not fit its config ({error})"
        ) from error
    if not all(bool(torch.isfinite(v).all()) for v in head.state_dict().values()):
        raise ArtifactError(f"{folder}: the stored {family} head has NaN or infinite weights; fit it again")
    return head.eval()


def _card(config: dict[str, Any]) -> str:
    """The model card: what it is, on what it stands, how to use it."""
    backbone = config["backbone"]
    attributes = [f"- {a['name']}, rated {a['low']:g} to {a['high']:g}" for a in config["head"]["attributes"]]
    fitted = [f"- {key}: {json.dumps(value)}" for key, value in config["fitted"].items()]
    return "\n".join(
        [
            "---",
            "library_name: pluralign",
            "tags: [reward-model, distributional]",
            "---",
            "",
            f"# A `{config['family']}` reward model",
            "",
            "It answers with the distribution of human reward, not with one number.",
            "",
            "```python",
            "import pluralign as pl",
            "",
            'model = pl.RewardModel.from_pretrained("path/to/this/folder")',
            "d = model.distribution(conversations)   # lists of messages that end in the response",
            'u = model.score(conversations, risk="cvar:0.1")',
            "```",
            "",
            f"Backbone: `{backbone['name_or_path']}`, fingerprint `{str(backbone['fingerprint'])[:16]}`. "
            f"Made with pluralign {config['pluralign']}.",
            "",
            *(["Attributes:", "", *attributes, ""] if attributes else []),
            *(["Fit:", "", *fitted, ""] if fitted else []),
        ]
    )
