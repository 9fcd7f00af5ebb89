"""The starting point of a gate's training: the weights that fit all pairs best if every prompt has the same
ones.

    minimise  mean_i w_i softplus(-scale * sum_a g_a d_ia) + ridge * (|logits|^2 + (log scale / first)^2),
    g = softmax(logits)

In: differences of mean rewards, chosen minus rejected, with weights. Out: a scale, and weights that sum to 1.

Early stopping keeps a gate near its start. From equal weights it would have learned neither what holds for
all prompts nor what differs between them; from this start it has the former. The ridge is this project's: it
keeps weights away from 0, where a gate could hardly change them, and the scale finite if the pairs are
separable.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.losses import bradley_terry
from pluralign.solvers.bradley_terry import fit_bradley_terry

__all__ = ["best_constant_weights", "scale_of_equal_weights"]

_RIDGE = 1e-4


def scale_of_equal_weights(difference: Float[Tensor, "P A"], weight: Float[Tensor, " P"]) -> float:
    """The factor on equally weighted rewards that fits the pairs best; a small one if none fits.

    Args:
        difference: mean rewards of the chosen minus the rejected response.
        weight: of the pairs, not negative.
    """
    equal = difference.double().mean(1)
    spread = float(equal.square().mean().sqrt())
    if spread == 0:
        return 1.0
    fit = fit_bradley_terry(equal[:, None] / spread, l2=1e-6, sample_weight=weight)
    return max(float(fit.coef), 0.1) / spread


def best_constant_weights(
    difference: Float[Tensor, "P A"], weight: Float[Tensor, " P"], first_scale: float
) -> tuple[Float[Tensor, " A"], float]:
    """One set of weights for all prompts, and its scale.

    Args:
        difference: mean rewards of the chosen minus the rejected response.
        weight: of the pairs, not negative, not all 0.
        first_scale: the scale at the start of the search, with equal weights; positive.

    Returns:
        Weights that are positive and sum to 1, in float64; and a positive scale.
    """
    data, shares = difference.double(), weight.double() / weight.double().sum()
    logits = torch.zeros(data.shape[1], dtype=torch.float64, device=data.device, requires_grad=True)
    growth = torch.zeros((), dtype=torch.float64, device=data.device, requires_grad=True)  # of log scale
    optimizer = torch.optim.LBFGS([logits, growth], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        margin = first_scale * growth.exp() * (data @ logits.softmax(0))
        ridge = _RIDGE * (logits.square().sum() + growth.square())
        loss = (shares * bradley_terry(margin, torch.zeros_like(margin))).sum() + ridge
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return logits.detach().softmax(0), first_scale * float(growth.detach().exp())
