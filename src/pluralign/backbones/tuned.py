"""Weights of a backbone that were trained on: an adapter, or all of them; their identity and their files.

In: a Hugging Face model. Out: the same with an adapter (LoRA) or with all weights to be trained, a digest of
what was trained, and the files of a folder; and back.

    adapter_config.json, adapter_model.safetensors      lora: as peft writes them
    config.json, model.safetensors, tokenizer ...       full: as transformers writes them

The fingerprint of a tuned backbone is a digest of the fingerprint of the backbone before, the settings of the
adapter and the trained tensors, so that embeddings of one are never taken for those of the other.

Paper: Hu et al. 2021 (LoRA), arXiv 2106.09685.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pluralign.checks import check_choice, check_number
from pluralign.digests import json_digest
from pluralign.errors import ArtifactError, ConfigError
from pluralign.training.adapters import lora_targets, peft

__all__ = [
    "KINDS",
    "Tuning",
    "copy_for_tuning",
    "load_tensors",
    "merged",
    "open_weights",
    "tensors_of",
    "tuned_fingerprint",
    "write",
]

KINDS = ("lora", "full")
_PREFIX = "base_model.model."  # under which peft stores the names of a model's modules
_ADAPTER = "adapter_model.safetensors"


@dataclass(frozen=True)
class Tuning:
    """How the weights of a backbone were trained on.

    Attributes:
        kind: `lora` (an adapter) or `full` (all weights).
        base: fingerprint of the backbone before.
        rank: of the adapter's matrices; 0 for `full`.
        alpha: scale of the adapter: its update is alpha / rank times the product of its matrices.
        targets: layers with an adapter: `all-linear`, names separated by commas, or a regular expression;
            `all` for `full`.
    """

    kind: str
    base: str | None
    rank: int = 0
    alpha: float = 0.0
    targets: str = "all"

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        if self.kind == "lora":
            check_number("rank", self.rank, at_least=1)
            check_number("alpha", self.alpha, above=0)


def copy_for_tuning(model: Any, kind: str) -> Any:
    """A model whose weights may be trained while the given one stays as it is.

    Args:
        model: as loaded.
        kind: `lora` shares the weights, which stay as they are; `full` copies them.
    """
    shared = {id(p): p for p in [*model.parameters(), *model.buffers()]} if kind == "lora" else {}
    return copy.deepcopy(model, shared)


def open_weights(model: Any, tuning: Tuning, seed: int = 0, dropout: float = 0.0) -> None:
    """Adds the adapter, or makes all weights trainable, in place; the model's numbers are unchanged.

    Args:
        model: a Hugging Face model without a task head.
        tuning: which weights are trained.
        seed: of the adapter's first matrices; the second ones are 0.
        dropout: of the adapter's input while it is trained.

    Raises:
        ConfigError: the model has no such layers, or its weights cannot be trained in their dtype.
        MissingDependencyError: peft is not installed.
    """
    quantised = getattr(model, "hf_quantizer", None) is not None
    dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if tuning.kind == "full":
        if quantised or dtypes != {torch.float32}:
            found = "quantised weights" if quantised else f"weights in {', '.join(sorted(map(str, dtypes)))}"
            raise ConfigError(
                f"tune='full' changes all weights and needs them in float32; received {found}, in which "
                "small steps are lost. Load the backbone with dtype='float32' (and bf16=True to compute in "
                "bfloat16), or use tune='lora'"
            )
        model.requires_grad_(True)
        return
    if torch.float16 in dtypes:
        raise ConfigError(
            "tune='lora': received weights in float16, whose gradients underflow; load the backbone with "
            "dtype='bfloat16' or 'float32'"
        )
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            peft().inject_adapter_in_model(_lora_config(tuning, dropout), model)
        except ValueError as error:
            raise ConfigError(
                f"targets = {tuning.targets!r}: the model cannot have an adapter there "
                f"({' '.join(str(error).split())[:200]}); it has the linear layers "
                f"{', '.join(_linear_layers(model)) or 'none'}"
            ) from error
    for parameter in model.parameters():  # steps of 1e-4 are lost in half precision
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def tensors_of(model: Any, tuning: Tuning) -> dict[str, Tensor]:
    """The trained tensors by name, on the CPU: of the adapter, or of the whole model."""
    if tuning.kind == "lora":
        found = peft().get_peft_model_state_dict(model, save_embedding_layers=False)
    else:
        found = model.state_dict()
    return {name: found[name].detach().cpu().contiguous() for name in sorted(found)}


def tuned_fingerprint(tensors: Mapping[str, Tensor], tuning: Tuning) -> str:
    """SHA-256 over what was trained, how, and from which backbone: 64 hexadecimal digits."""
    total = hashlib.sha256(json_digest(asdict(tuning)).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def write(folder: Path, model: Any, tokenizer: Any, tuning: Tuning, base_name: str) -> None:
    """Writes the files of the trained weights into an existing folder.

    Args:
        folder: where.
        model: the trained model.
        tokenizer: its tokenizer.
        tuning: how it was trained.
        base_name: name of the backbone before, for other programs.
    """
    from safetensors.torch import save_file

    if tuning.kind == "full":
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return
    config = _lora_config(tuning, 0.0)
    config.base_model_name_or_path = base_name
    config.inference_mode = True
    config.save_pretrained(str(folder))
    tensors = {f"{_PREFIX}{name}": tensor for name, tensor in tensors_of(model, tuning).items()}
    save_file(tensors, folder / _ADAPTER, metadata={"format": "pt"})


def load_tensors(folder: Path, model: Any, tuning: Tuning) -> None:
    """Reads the adapter of a folder into a model that `open_weights` has given one.

    Raises:
        ArtifactError: the file is missing, damaged, or does not fit the model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = folder / _ADAPTER
    try:
        stored = {name.removeprefix(_PREFIX): tensor for name, tensor in load_file(file).items()}
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{file} is missing or damaged ({error}); fit or copy the model again") from error
    known = tensors_of(model, tuning)
    if {k: v.shape for k, v in stored.items()} != {k: v.shape for k, v in known.items()}:
        raise ArtifactError(f"{file} does not fit the backbone: it has other tensors; fit the model again")
    peft().set_peft_model_state_dict(model, stored)


def merged(model: Any) -> Any:
    """A copy of a model with its adapter added to its weights, without a trace of the adapter.

    Raises:
        ConfigError: the weights are quantised, so that nothing can be added to them exactly.
    """
    if getattr(model, "hf_quantizer", None) is not None:
        raise ConfigError("an adapter on quantised weights cannot be merged; load the backbone unquantised")
    own = copy.deepcopy(model)
    for name, module in list(own.named_modules()):
        if hasattr(module, "base_layer") and hasattr(module, "merge"):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(own.get_submodule(parent), child, module.get_base_layer())
    own._hf_peft_config_loaded = False
    return own


def _lora_config(tuning: Tuning, dropout: float) -> Any:
    return peft().LoraConfig(
        r=tuning.rank,
        lora_alpha=tuning.alpha,
        lora_dropout=dropout,
        target_modules=lora_targets(tuning.targets),
    )


def _linear_layers(model: Any) -> list[str]:
    """Last names of the linear layers of a model."""
    names = (name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear))
    return sorted({name.rpartition(".")[2] for name in names})
