"""Loads published weights of ArmoRM and QRM into our heads.

In: tensors by their published names, or a file or folder of safetensors. Out: a `RegressionHead` or a
`QuantileHead` with its gate. No code of the publishers is run. Their backbone is not loaded, and text formats
are not handled: the publishers read the gate's vector at the first token of the last "end of turn, start of
assistant" sequence, while our backbones read it at the last prompt token.

    regression_layer.weight      [A, D] (ArmoRM), or [A K, D] with all levels of an attribute together (QRM)
    reward_transform_matrix      [A, A], r' = r @ matrix
    gating.layers.i.weight       linear layers in order; for ArmoRM all with intercepts and ReLU between them,
    gating.layers.i.running_mean for QRM hidden ones without, each followed by ReLU and BatchNorm
    gating.logit_scale           [1], multiplies after the softmax

Published scores are `head.raw(...).mean()` for ArmoRM, and for QRM `head.raw(...).plain_average()`, the plain
average over levels. Papers: Wang et al. 2024, arXiv 2406.12845; Dorka 2024, arXiv 2409.10164.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pluralign.errors import ArgumentError, ArtifactError
from pluralign.heads.base import Attribute
from pluralign.heads.debias import Debias
from pluralign.heads.gate import Gate, GateShape
from pluralign.heads.quantile import QuantileHead
from pluralign.heads.regression import RegressionHead
from pluralign.heads.scaling import ColumnScaling

__all__ = ["PUBLISHED_ATTRIBUTES", "load_armorm", "load_qrm"]

Source = Mapping[str, Tensor] | str | os.PathLike[str]

PUBLISHED_ATTRIBUTES: tuple[str, ...] = (
    "helpsteer-helpfulness",
    "helpsteer-correctness",
    "helpsteer-coherence",
    "helpsteer-complexity",
    "helpsteer-verbosity",
    "ultrafeedback-overall_score",
    "ultrafeedback-instruction_following",
    "ultrafeedback-truthfulness",
    "ultrafeedback-honesty",
    "ultrafeedback-helpfulness",
    "beavertails-is_safe",
    "prometheus-score",
    "argilla-overall_quality",
    "argilla-judge_lm",
    "code-complexity",
    "code-style",
    "code-explanation",
    "code-instruction-following",
    "code-readability",
)

_REGRESSION, _TRANSFORM, _SCALE = "regression_layer.weight", "reward_transform_matrix", "gating.logit_scale"
_LAYER = "gating.layers."


def load_armorm(
    source: Source,
    attributes: Sequence[str | Attribute] = PUBLISHED_ATTRIBUTES,
    *,
    temperature: float = 10.0,
) -> RegressionHead:
    """Reads ArmoRM's published weights.

    Args:
        source: tensors by published name, a safetensors file, or a folder of them.
        attributes: A of them, in the order of the regression layer; a plain name means a scale of
            [0, 1], which is what the weights predict.
        temperature: of the gate; it is not among the tensors.

    Returns:
        A head in raw units, whose `raw(...).mean()` is the published score.

    Raises:
        ArtifactError: a tensor is missing, or its shape does not fit.
        ArgumentError: there are more or fewer attributes than the regression layer has.
    """
    tensors = _read(source)
    named = _named(attributes)
    weight = tensors[_REGRESSION]
    if len(weight) != len(named):
        raise ArgumentError(
            f"{_REGRESSION} has {len(weight)} rows, one per attribute; received {len(named)} attributes"
        )
    head = RegressionHead(
        ColumnScaling.empty(weight.shape[1]),
        weight,
        torch.zeros(len(named)),
        named,
        gate=_gate(tensors, temperature),
        debias=_debias(tensors, len(named)),
    )
    return head.eval()


def load_qrm(
    source: Source,
    attributes: Sequence[str | Attribute] = PUBLISHED_ATTRIBUTES,
    levels: Sequence[float] | None = None,
    *,
    temperature: float = 10.0,
) -> QuantileHead:
    """Reads QRM's published weights.

    Args:
        source: tensors by published name, a safetensors file, or a folder of them.
        attributes: A of them, in the order of the regression layer; a plain name means a scale of
            [0, 1], which is what the weights predict.
        levels: K quantile levels; None for k / (K + 1), the published grid.
        temperature: of the gate; it is not among the tensors. QRM-Llama3.1 uses 5.

    Returns:
        A head in raw units, whose `raw(...).plain_average()` is the published score.

    Raises:
        ArtifactError: a tensor is missing, or its shape does not fit.
        ArgumentError: the rows of the regression layer are not attributes times levels.
    """
    tensors = _read(source)
    named = _named(attributes)
    weight = tensors[_REGRESSION]
    count = len(levels) if levels is not None else len(weight) // len(named)
    if count < 1 or len(weight) != len(named) * count:
        raise ArgumentError(
            f"{_REGRESSION} has {len(weight)} rows; needed: {len(named)} attributes times their levels"
            + (f", of which {count} were given" if levels is not None else "")
        )
    grid = [k / (count + 1) for k in range(1, count + 1)] if levels is None else list(levels)
    head = QuantileHead(
        ColumnScaling.empty(weight.shape[1]),
        weight.view(len(named), count, -1),
        torch.zeros(len(named), count),
        torch.tensor(grid, dtype=torch.float64),
        named,
        gate=_gate(tensors, temperature),
        debias=_debias(tensors, len(named)),
    )
    return head.eval()


def _named(attributes: Sequence[str | Attribute]) -> tuple[Attribute, ...]:
    return tuple(a if isinstance(a, Attribute) else Attribute(a, 0.0, 1.0) for a in attributes)


def _read(source: Source) -> dict[str, Tensor]:
    """The tensors of the head in float32; those of a backbone in the same files are not read."""
    tensors: dict[str, Tensor] = {}
    if isinstance(source, Mapping):
        tensors = {name: tensor for name, tensor in source.items() if _is_ours(name)}
    else:
        for file in _files(Path(source)):
            tensors |= _read_file(file)
    missing = [name for name in (_REGRESSION, _TRANSFORM, _SCALE) if name not in tensors]
    if missing:
        raise ArtifactError(
            f"not a published reward head: {', '.join(missing)} missing; found {sorted(tensors)}"
        )
    tensors = {name: tensor.detach().cpu().float() for name, tensor in tensors.items()}
    broken = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise ArtifactError(f"{', '.join(broken)}: NaN or infinite values; download the weights again")
    if tensors[_REGRESSION].ndim != 2:
        raise ArtifactError(f"{_REGRESSION} has shape {tuple(tensors[_REGRESSION].shape)}; needed: two axes")
    return tensors


def _is_ours(name: str) -> bool:
    return name in (_REGRESSION, _TRANSFORM, _SCALE) or name.startswith(_LAYER)


def _files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise ArtifactError(f"{path} has no safetensors; pass a safetensors file or a folder of them")
    return files


def _read_file(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys() if _is_ours(name)}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{file} is damaged ({error}); download it again") from error


def _debias(tensors: Mapping[str, Tensor], num_attributes: int) -> Debias:
    transform = tensors[_TRANSFORM]
    if transform.shape != (num_attributes, num_attributes):
        raise ArtifactError(
            f"{_TRANSFORM} has shape {tuple(transform.shape)}; needed: {(num_attributes, num_attributes)}"
        )
    return Debias(transform, "parity")


def _gate(tensors: Mapping[str, Tensor], temperature: float) -> Gate:
    """The gate made of these tensors, under our names."""
    layers: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(_LAYER):
            number, _, part = name.removeprefix(_LAYER).partition(".")
            layers.setdefault(int(number), {})[part] = tensor
    ordered = [layers[number] for number in sorted(layers)]
    linear = [layer for layer in ordered if "running_mean" not in layer]
    norms = [layer for layer in ordered if "running_mean" in layer]
    if not linear or (norms and len(norms) != len(linear) - 1):
        raise ArtifactError(
            f"a published gate has linear layers and, for QRM, a BatchNorm after each but the last; found "
            f"{len(linear)} linear and {len(norms)} BatchNorm layers"
        )
    *hidden, out = linear
    try:
        shape = GateShape(
            width=linear[0]["weight"].shape[1],
            num_attributes=len(out["weight"]),
            hidden=len(linear[0]["weight"]) if hidden else 1,
            layers=len(hidden),
            regularisation="batchnorm" if norms else "none",
            temperature=temperature,
            hidden_bias=bool(hidden) and "bias" in hidden[0],
            out_bias="bias" in out,
        )
        gate = Gate.from_spec(vars(shape))
        state = gate.state_dict() | {f"out.{part}": tensor for part, tensor in out.items()}
        stride = 3 if norms else 2  # linear, ReLU and, if there is one, BatchNorm
        for i, layer in enumerate(hidden):
            state |= {f"hidden.{stride * i}.{part}": tensor for part, tensor in layer.items()}
        for i, layer in enumerate(norms):
            state |= {f"hidden.{stride * i + 2}.{part}": tensor for part, tensor in layer.items()}
        state["scale"] = tensors[_SCALE].reshape(())
        gate.load_state_dict(state)
    except (KeyError, IndexError, RuntimeError) as error:
        raise ArtifactError(f"the tensors of the published gate do not fit together ({error})") from error
    return gate
