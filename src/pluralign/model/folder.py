"""The folder of a reward model: written atomically, read with every part checked.

In: heads and descriptions. Out: `config.json`, `model.safetensors` (only the heads) and a card, `README.md`;
and back. The backbone is identified by id, revision and fingerprint; it is not stored, unless its weights
were tuned: the adapter, or all of them, are then in `backbone/` (`backbones.tuned`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pluralign._version import __version__
from pluralign.backbones import tuned
from pluralign.backbones.config import CONTEXTS, CONVERSATION_FORMAT, DTYPES, POOLINGS, QUANTIZATIONS
from pluralign.digests import file_digest, json_digest
from pluralign.errors import ArgumentError, ArtifactError, FingerprintError
from pluralign.files import whole_folder
from pluralign.heads import FAMILIES, Head, schema
from pluralign.heads.ensemble import reader_of
from pluralign.heads.schema import TensorShapes
from pluralign.model.recalibration import Recalibration
from pluralign.model.stored import CONFIG_DIGEST, read_json, read_tensors
from pluralign.model.temperature import Temperature

__all__ = ["BACKBONE", "StoredModel", "check_backbone", "check_width", "read", "read_spec", "write"]

_FORMAT = 1
_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "README.md"
BACKBONE = "backbone"
"""The folder inside, of the weights of a tuned backbone."""

# Options added after the first models were saved; a folder without them means the default.
_LATER_OPTIONS = {"length": False, "surface": False}
# Where the backbone was found, which does not affect its vectors.
_SAME_WEIGHTS_ELSEWHERE = {"name_or_path", "revision", "fingerprint"}

_BACKBONE: dict[str, schema.Check] = {
    "name_or_path": schema.text,
    "revision": schema.optional(schema.text),
    "pooling": schema.choice(*POOLINGS),
    "context": schema.choice(*CONTEXTS),
    "dtype": schema.choice(*DTYPES),
    "max_length": schema.whole(8),
    "quantization": schema.optional(schema.choice(*QUANTIZATIONS)),
    "fingerprint": schema.optional(schema.text),
}
_HEAD: dict[str, schema.Check] = {"family": schema.text, "head": schema.each(schema.anything)}
_REQUIRED: dict[str, schema.Check] = {
    "format": schema.whole(_FORMAT, _FORMAT),
    "backbone": schema.record(
        _BACKBONE, dict.fromkeys(_LATER_OPTIONS, schema.flag) | {"reading": schema.whole(1)}
    ),
}
_SCHEMA = schema.record(
    _REQUIRED | _HEAD,
    {
        "pluralign": schema.text,
        "baselines": schema.each(schema.record(_HEAD)),
        "fitted": schema.each(schema.anything),
        "sha256": schema.each(schema.text),
        "tuning": schema.record(
            {
                "kind": schema.choice(*tuned.KINDS),
                "base": schema.optional(schema.text),
                "rank": schema.whole(0),
                "alpha": schema.number(),
                "targets": schema.text,
            }
        ),
        "calibration": schema.each(Recalibration.check_spec),
        "temperature": Temperature.check_spec,
    },
)


@dataclass(frozen=True)
class StoredModel:
    """The content of a model folder.

    Attributes:
        head: the reward head.
        backbone: the description from `Backbone.describe`.
        baselines: other heads on the same embeddings, by name.
        fitted: the record of the fit; serialisable as JSON.
        calibration: corrections of attributes' distributions, by name.
        tuning: how the backbone's weights were trained on; None if they were not.
        temperature: correction of probabilities of preferences or votes; None if there is none.
    """

    head: Head
    backbone: Mapping[str, Any]
    baselines: Mapping[str, Head] = field(default_factory=dict)
    fitted: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Recalibration] = field(default_factory=dict)
    tuning: tuned.Tuning | None = None
    temperature: Temperature | None = None


def write(target: Path, model: StoredModel, write_backbone: Callable[[Path], None] | None = None) -> None:
    """Writes the folder atomically.

    Args:
        target: the folder.
        model: its content.
        write_backbone: writes the weights of a tuned backbone into a folder.

    Raises:
        ArtifactError: the path is a file or a folder with other contents, or cannot be written; or the
            model could not be read back (a head with another dtype, numbers that are not finite).
    """
    from safetensors.torch import save

    with whole_folder(target, _is_ours) as work:
        config = _config(model)
        tensors = _tensors(model, _checked(config, str(target)))
        metadata = {"format": "pt", CONFIG_DIGEST: json_digest(_deciding(config))}
        (work / _WEIGHTS).write_bytes(save(tensors, metadata=metadata))
        config["sha256"] = {_WEIGHTS: file_digest(work / _WEIGHTS)}
        if write_backbone is not None:
            (work / BACKBONE).mkdir()
            write_backbone(work / BACKBONE)
            for file in sorted((work / BACKBONE).glob("*.safetensors")):
                config["sha256"][f"{BACKBONE}/{file.name}"] = file_digest(file)
        (work / _CONFIG).write_text(json.dumps(config, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (work / _CARD).write_text(_card(config), encoding="utf-8")


def read(folder: Path) -> StoredModel:
    """Reads and checks a model folder.

    Raises:
        ArtifactError: the folder is missing, damaged, or of a newer format.
    """
    config = _read_config(folder)
    expected = _checked(config, str(folder / _CONFIG))
    backbone = config["backbone"]
    if backbone["context"] == "conversation" and backbone.get("reading", 1) != CONVERSATION_FORMAT:
        raise ArtifactError(
            f"{folder} was fitted on a decoder when conversations had other tokens (format "
            f"{backbone.get('reading', 1)}, now {CONVERSATION_FORMAT}), so its scores would change "
            f"silently; fit it again"
        )
    tensors = read_tensors(folder / _WEIGHTS, expected, _deciding(config))
    model = StoredModel(
        _build(folder, config, tensors, "head."),
        {**_LATER_OPTIONS, **config["backbone"]},
        {
            name: _build(folder, entry, tensors, f"baselines.{name}.")
            for name, entry in config.get("baselines", {}).items()
        },
        config.get("fitted", {}),
        {name: Recalibration.from_spec(spec) for name, spec in config.get("calibration", {}).items()},
        tuned.Tuning(**config["tuning"]) if "tuning" in config else None,
        Temperature.from_spec(config["temperature"]) if "temperature" in config else None,
    )
    for name, digest in config.get("sha256", {}).items():
        inside = Path(name).parent == Path() or Path(name).parent == Path(BACKBONE)
        if not inside or file_digest(folder / name) != digest:
            raise ArtifactError(
                f"{folder / name} is not the file that was saved; fit or copy the model again"
            )
    return model


def read_spec(folder: Path) -> tuple[str, dict[str, Any]]:
    """The family of a model folder and the `spec` of its head, checked; no tensors are read.

    Raises:
        ArtifactError: the folder is missing, damaged, or of a newer format.
    """
    config = _read_config(folder)
    _checked(config, str(folder / _CONFIG))
    return config["family"], config["head"]


def _checked(config: dict[str, Any], file: str) -> TensorShapes:
    """The tensors that a configuration implies, after it has been validated completely.

    Raises:
        ArtifactError: a key is missing, unknown, or has an invalid value.
    """
    _SCHEMA(config, f"{file}: config")
    shapes: TensorShapes = {}
    entries = {"head": config} | {f"baselines.{n}": e for n, e in config.get("baselines", {}).items()}
    for place, entry in entries.items():
        if entry["family"] not in FAMILIES:
            raise ArtifactError(
                f"{file} has family {entry['family']!r} at {place}; this version knows "
                f"{', '.join(sorted(FAMILIES))}"
            )
        reader = reader_of(entry["family"], entry["head"])
        where = "config.head" if place == "head" else f"config.{place}.head"
        reader.check_spec(entry["head"], f"{file}: {where}")
        shapes |= {f"{place}.{name}": shape for name, shape in reader.tensor_shapes(entry["head"]).items()}
    rated = [attribute["name"] for attribute in config["head"]["attributes"]]
    for name in config.get("calibration", {}):
        if name not in rated:
            raise schema.refuse(f"{file}: config.calibration", name, ", ".join(rated) or "nothing")
    return shapes


def _deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that determines scores."""
    decides = {key: config.get(key, {}) for key in ("format", "family", "head", "baselines")}
    if "tuning" in config:
        decides["tuning"] = config["tuning"]
    backbone = {**_LATER_OPTIONS, **config["backbone"]}
    for key in ("calibration", "temperature"):
        if key in config:
            decides[key] = config[key]
    decides["backbone"] = {k: v for k, v in backbone.items() if k not in ("name_or_path", "revision")}
    return decides


def _config(model: StoredModel) -> dict[str, Any]:
    config = {
        "format": _FORMAT,
        "pluralign": __version__,
        "family": model.head.family,
        "head": model.head.spec(),
        "baselines": {n: {"family": h.family, "head": h.spec()} for n, h in model.baselines.items()},
        "backbone": dict(model.backbone),
        "fitted": dict(model.fitted),
        **({} if model.tuning is None else {"tuning": asdict(model.tuning)}),
    }
    if model.calibration:
        config["calibration"] = {name: part.spec() for name, part in model.calibration.items()}
    if model.temperature is not None:
        config["temperature"] = model.temperature.spec()
    try:
        as_read: dict[str, Any] = json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ArtifactError(
            f"the model cannot be saved as JSON: {error}; check the contents of `fitted`"
        ) from error
    return as_read


def _tensors(model: StoredModel, expected: TensorShapes) -> dict[str, Tensor]:
    heads = {"head": model.head} | {f"baselines.{name}": head for name, head in model.baselines.items()}
    tensors = {
        f"{prefix}.{name}": tensor.detach().cpu().clone()
        for prefix, head in heads.items()
        for name, tensor in head.state_dict().items()
    }
    for name, (dtype, shape) in expected.items():
        found = tensors.get(name)
        if found is None or found.dtype != dtype or tuple(found.shape) != shape:
            kind = "missing" if found is None else f"{found.dtype} {list(found.shape)}"
            raise ArtifactError(
                f"{name} is {kind}; only {dtype} {list(shape)} can be saved: convert the head to that"
            )
        if not bool(found.isfinite().all()):
            raise ArtifactError(f"{name} has NaN or infinite entries; such a head cannot be saved")
    return tensors


def _is_ours(target: Path) -> bool:
    """Whether a folder contains one of our models; other tools' models also have a config."""
    with suppress(OSError, ValueError, AttributeError):
        config = json.loads((target / _CONFIG).read_text(encoding="utf-8"))
        return bool({"pluralign", "family"} <= config.keys())
    return False


def check_backbone(folder: Path, given: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Raises an error if a backbone is not the one that the folder names.

    Raises:
        ArtifactError: it pools or truncates texts differently.
        FingerprintError: its weights are different.
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


def check_width(folder: Path, head: Head, width: int | None) -> None:
    """Raises `ArtifactError` if a backbone's vectors do not have the width that the head needs."""
    wanted = head.spec()["width"]
    if width is not None and width != wanted:
        raise ArtifactError(
            f"{folder} was fitted on vectors of {wanted} numbers, those of the backbone have {width}; check "
            "pooling, length and surface in its config.json, or fit again"
        )


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / _CONFIG
    if not file.is_file():
        raise ArtifactError(
            f"{folder} is not a model folder: it has no {_CONFIG}. Pass the folder that `fit` wrote."
        )
    config = read_json(file)
    if type(config.get("format")) is not int or config["format"] != _FORMAT:
        raise ArtifactError(
            f"{file} has format {config.get('format')!r}; this version of pluralign reads format {_FORMAT}"
        )
    missing = {"family", "head", "backbone"} - config.keys()
    if missing:
        raise ArtifactError(
            f"{file} lacks {', '.join(sorted(missing))}; fit or copy the model again, or, if it is a "
            "combination, load it with pluralign.model.Combination.from_pretrained"
        )
    return config


def _build(folder: Path, entry: Mapping[str, Any], tensors: dict[str, Tensor], prefix: str) -> Head:
    family = entry["family"]
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in own.values()):
        raise ArtifactError(f"{folder}: the stored {family} head has NaN or infinite weights; fit it again")
    try:
        head = reader_of(family, entry["head"]).from_spec(entry["head"])
        head.load_state_dict(own)
        head.check_state()
    except (ArgumentError, RuntimeError) as error:
        raise ArtifactError(
            f"{folder}: the stored {family} head does not fit its config ({error})"
        ) from error
    if json.loads(json.dumps(head.spec())) != entry["head"]:
        raise ArtifactError(f"{folder}: the weights of the {family} head contradict its config; fit it again")
    return head.eval()


def _card(config: dict[str, Any]) -> str:
    """The model card: what it is, which backbone it needs, how to use it."""
    backbone = config["backbone"]
    attributes = [f"- {a['name']}, rated {a['low']:g} to {a['high']:g}" for a in config["head"]["attributes"]]
    calibrated = [
        f"- {name}: {part['rows']:,} ratings in {part['groups']:,} groups"
        for name, part in config.get("calibration", {}).items()
    ]
    if "temperature" in config:
        part = config["temperature"]
        calibrated.append(
            f"- {part['kind']}, temperature {part['value']:.3g}: {part['rows']:,} comparisons in "
            f"{part['groups']:,} groups"
        )
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
            "`distribution` is what it predicts of human reward, `score` one number by a risk measure.",
            "",
            "```python",
            "import pluralign as pl",
            'model = pl.RewardModel.from_pretrained("path/to/this/folder")',
            "",
            'question = {"role": "user", "content": "How do I ..."}',
            'response = {"role": "assistant", "content": "First ..."}',
            "model.distribution([[question, response]]).mean()",
            'model.score([[question, response]], risk="cvar:0.1")',
            "```",
            "",
            f"Backbone: `{backbone['name_or_path']}`{_tuned_words(config)}, fingerprint "
            f"`{str(backbone['fingerprint'])[:16]}`. Made with pluralign {config['pluralign']}.",
            "",
            *(["Attributes:", "", *attributes, ""] if attributes else []),
            *(["Calibrated on data that it was not fitted on:", "", *calibrated, ""] if calibrated else []),
            *(["Fit:", "", *fitted, ""] if fitted else []),
        ]
    )


def _tuned_words(config: dict[str, Any]) -> str:
    if "tuning" not in config:
        return ""
    which = "an adapter (LoRA)" if config["tuning"]["kind"] == "lora" else "all weights"
    return f", tuned with the head: {which} in `{BACKBONE}/`"
