"""The gate: a prompt's vector in, the weight of each attribute out.

    weights = softmax(MLP(prompt) / T)          shown to users; rows sum to 1
    reward  = scale * sum_a weights_a reward_a  the learnable scale comes after the softmax

Notation: P width of a prompt's vector, A attributes, T temperature.
Paper: Wang et al. 2024 (ArmoRM), arXiv 2406.12845, section 3.2; Dorka 2024 (QRM), arXiv 2409.10164. Sizes and
defaults are those of the published code. Scaling the prompts and starting at equal weights are this
project's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pluralign.errors import ArgumentError
from pluralign.heads import schema
from pluralign.heads.scaling import ColumnScaling

__all__ = ["Gate", "GateShape"]

_MOST_LAYERS = 1000  # of a stored gate, since shapes are listed before any weight is read


@dataclass(frozen=True)
class GateShape:
    """The architecture of a gate.

    Attributes:
        width: P, the width of the prompts' vectors.
        num_attributes: A.
        hidden: units of each hidden layer.
        layers: number of hidden layers; 0 makes the gate linear.
        regularisation: what follows each ReLU: `dropout` (ArmoRM), `batchnorm` (QRM) or `none`.
        dropout: share of units dropped in training, if `regularisation` is `dropout`.
        temperature: T; a larger value makes weights more equal for the same logits.
        hidden_bias: whether hidden layers have an intercept; the published QRM gate has none.
        out_bias: whether the last layer has one.
    """

    width: int
    num_attributes: int
    hidden: int = 1024
    layers: int = 3
    regularisation: Literal["dropout", "batchnorm", "none"] = "dropout"
    dropout: float = 0.2
    temperature: float = 10.0
    hidden_bias: bool = True
    out_bias: bool = True

    def __post_init__(self) -> None:
        if min(self.width, self.num_attributes, self.hidden) < 1 or self.layers < 0:
            raise ArgumentError(f"a gate needs positive sizes and at least 0 layers; received {self}")
        if self.regularisation not in ("dropout", "batchnorm", "none"):
            raise ArgumentError(
                f"regularisation = {self.regularisation!r}; allowed: dropout, batchnorm, none"
            )
        if not 0 <= self.dropout < 1:
            raise ArgumentError(f"dropout = {self.dropout}; allowed: at least 0 and below 1")
        if not 0 < self.temperature < float("inf"):
            raise ArgumentError(f"temperature = {self.temperature}; a positive, finite number is needed")


class Gate(nn.Module):
    """softmax(MLP(prompt) / T), and a scale that multiplies after it.

    A new gate gives equal weights, since its last layer starts at 0.

    Args:
        shape: the architecture.
        scaling: of the prompts' columns; None for no scaling.

    Raises:
        ArgumentError: the scaling has a different width.
    """

    def __init__(self, shape: GateShape, scaling: ColumnScaling | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.scaling = ColumnScaling.empty(shape.width) if scaling is None else scaling
        if len(self.scaling.center) != shape.width:
            raise ArgumentError(
                f"the scaling has width {len(self.scaling.center)}; the gate's is {shape.width}"
            )
        self.hidden = nn.Sequential()
        width = shape.width
        for _ in range(shape.layers):
            self.hidden.append(nn.Linear(width, shape.hidden, bias=shape.hidden_bias))
            self.hidden.append(nn.ReLU())
            if shape.regularisation == "dropout":
                self.hidden.append(nn.Dropout(shape.dropout))
            elif shape.regularisation == "batchnorm":
                self.hidden.append(nn.BatchNorm1d(shape.hidden))
            width = shape.hidden
        self.out = nn.Linear(width, shape.num_attributes, bias=shape.out_bias)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, prompt: Float[Tensor, "N P"]) -> Float[Tensor, "N A"]:
        """The softmax, in float32; rows sum to 1."""
        logits: Tensor = self.out(self.hidden(self.scaling(prompt)))
        return torch.softmax(logits / self.shape.temperature, -1)

    def spec(self) -> dict[str, Any]:
        """The description that, with the state dict, rebuilds this gate; serialisable as JSON."""
        return asdict(self.shape)

    @staticmethod
    def check_spec(spec: Any, where: str) -> None:
        """Raises `ArtifactError` unless `spec()` could have returned `spec`."""
        schema.record(
            {
                "width": schema.whole(1),
                "num_attributes": schema.whole(1),
                "hidden": schema.whole(1),
                "layers": schema.whole(0, _MOST_LAYERS),
                "regularisation": schema.choice("dropout", "batchnorm", "none"),
                "dropout": schema.number(0, 1),
                "temperature": schema.number(above=0),
                "hidden_bias": schema.flag,
                "out_bias": schema.flag,
            }
        )(spec, where)
        if spec["dropout"] == 1:
            raise schema.refuse(f"{where}.dropout", spec["dropout"], "a number below 1")

    @staticmethod
    def tensor_shapes(spec: dict[str, Any]) -> schema.TensorShapes:
        """The tensors in the state dict of a gate with this checked `spec`."""
        shape = GateShape(**spec)
        found = {f"scaling.{k}": v for k, v in ColumnScaling.tensor_shapes(shape.width).items()}
        size, step = shape.width, 2 if shape.regularisation == "none" else 3
        for layer in range(shape.layers):
            found |= _linear(f"hidden.{step * layer}", size, shape.hidden, shape.hidden_bias)
            if shape.regularisation == "batchnorm":
                names = ("weight", "bias", "running_mean", "running_var")
                norm = f"hidden.{step * layer + 2}"
                found |= {f"{norm}.{name}": (torch.float32, (shape.hidden,)) for name in names}
                found[f"{norm}.num_batches_tracked"] = (torch.int64, ())
            size = shape.hidden
        return (
            found
            | _linear("out", size, shape.num_attributes, shape.out_bias)
            | {"scale": (torch.float32, ())}
        )

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """An empty, frozen gate of the stored shape, to load a state dict into."""
        gate = cls(GateShape(**spec)).eval()
        gate.requires_grad_(False)
        return gate


def _linear(name: str, inputs: int, outputs: int, bias: bool) -> schema.TensorShapes:
    weight: schema.TensorShapes = {f"{name}.weight": (torch.float32, (outputs, inputs))}
    return weight | ({f"{name}.bias": (torch.float32, (outputs,))} if bias else {})
