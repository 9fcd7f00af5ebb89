"""The members of an ensemble: M small networks on the same embeddings, evaluated in one pass.

    linear   o_m(z) = W_m z + b_m
    mlp      o_m(z) = W_m relu(U_m z + c_m) + b_m

In: scaled embeddings [N, D]. Out: O numbers per member, [N, M, O]. All members together are a single matrix
product (two with hidden units), so that more members cost little if the embeddings are wide.

Notation: D width of the embeddings, U hidden units of each member, O outputs.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pluralign.errors import ArgumentError

__all__ = ["Members"]


class Members(nn.Module):
    """M networks of the same shape, with all weights initially 0.

    Args:
        num_members: M.
        width: D.
        num_outputs: O.
        hidden: U, units of each member's hidden layer; 0 makes members linear.

    Attributes:
        weight: [M, O, D], or [M, O, U] with a hidden layer.
        bias: [M, O].
        hidden_weight: [M, U, D]; empty without a hidden layer.
        hidden_bias: [M, U]; empty without a hidden layer.

    Raises:
        ArgumentError: a size is not positive.
    """

    def __init__(self, num_members: int, width: int, num_outputs: int, hidden: int = 0) -> None:
        super().__init__()
        if min(num_members, width, num_outputs) < 1 or hidden < 0:
            raise ArgumentError(
                f"received {num_members} members, width {width}, {num_outputs} outputs and {hidden} hidden "
                "units; needed: at least 1 of each, hidden units at least 0"
            )
        self.hidden = hidden
        self.hidden_weight = nn.Parameter(torch.zeros(num_members, hidden, width if hidden else 0))
        self.hidden_bias = nn.Parameter(torch.zeros(num_members, hidden))
        self.weight = nn.Parameter(torch.zeros(num_members, num_outputs, hidden or width))
        self.bias = nn.Parameter(torch.zeros(num_members, num_outputs))

    def forward(self, features: Float[Tensor, "N D"]) -> Float[Tensor, "N M O"]:
        """The outputs of every member for every row."""
        num_members, num_outputs, _ = self.weight.shape
        if not self.hidden:  # in the order (output, member), so that all means are contiguous
            weight = self.weight.transpose(0, 1).flatten(0, 1)
            flat = torch.addmm(self.bias.T.flatten(), features, weight.T)
            return flat.reshape(-1, num_outputs, num_members).transpose(1, 2)
        units = torch.addmm(self.hidden_bias.flatten(), features, self.hidden_weight.flatten(0, 1).T)
        units = torch.relu(units).reshape(-1, num_members, self.hidden)
        return torch.einsum("nmu,mou->nmo", units, self.weight) + self.bias

    @torch.no_grad()
    def rotate_(self, rotation: Float[Tensor, "D D"]) -> None:
        """Converts members on z @ rotation to the same functions of z, in place."""
        first = self.hidden_weight if self.hidden else self.weight
        first.copy_(first @ rotation.T.to(first))
