"""log Z of the optimal policy, exact or from the references, and its consequences for a training run.

In: b (the weight of the KL penalty), a transform and, for the finite form, the ranks of the references. Out:
float64. Notation as in `transforms`.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pluralign.checks import as_finite
from pluralign.errors import ArgumentError
from pluralign.losses.checks import require, require_tensors
from pluralign.losses.transforms import TransformLike, parse_transform
from pluralign.precision import wide_dtype, widened

__all__ = ["as_beta", "break_even_quantile", "log_partition", "optimum_kl"]


def log_partition(
    beta: float | Float[Tensor, " *B"],
    transform: TransformLike = "identity",
    reference_ranks: Float[Tensor, "B N"] | None = None,
    keep_mask: Bool[Tensor, "B N"] | None = None,
) -> Float[Tensor, " *B"]:
    """log Z: exact for rewards without atoms, or for the empirical distribution of the references' ranks.

    Exact: log of integral of exp(f(t)/b) over (0, 1). Finite: log of the mean of exp(f(c_j)/b) over the
    references' own ranks c_j, which suits rewards with atoms (unit tests, integer scores), whose ranks are
    not uniform. With continuous rewards the exact form is correct for any number of references.

    Args:
        beta: b > 0, a number or [B], one per example.
        transform: f; see `parse_transform`.
        reference_ranks: c_j in [0, 1], [B, N], under the same estimator as the quantile rewards
            (`policy.reference_ranks`); None for the exact form.
        keep_mask: bool [B, N], true where a reference counts; None keeps all.

    Returns:
        float64; exact: the shape of beta, [] for a number; finite: [B].

    Raises:
        ArgumentError: b is not positive, a rank is outside [0, 1], shapes do not fit, a row has no
            reference, or (finite form) all ranks of a row have f(c) = -inf.

    Reference: Matrenok et al. 2025 (arXiv 2507.08068), equation 11, which approximates the identity by
    log b + 1/b; here the term log1p(-exp(-1/b)) is kept. The finite form is ours.

    >>> log_partition(0.1)
    tensor(7.6974, dtype=torch.float64)
    """
    f = parse_transform(transform)
    if reference_ranks is None:
        if keep_mask is not None:
            raise ArgumentError("log_partition: keep_mask needs reference_ranks, which were not given")
        return f.log_partition(as_beta(beta))
    require_tensors("log_partition", reference_ranks=reference_ranks)
    if reference_ranks.ndim != 2 or reference_ranks.shape[-1] == 0:
        raise ArgumentError(
            f"log_partition needs reference_ranks [B, N] with N > 0, received {list(reference_ranks.shape)}"
        )
    keep = torch.ones_like(reference_ranks, dtype=torch.bool) if keep_mask is None else keep_mask
    require_tensors("log_partition", keep_mask=keep)
    if keep.dtype != torch.bool or keep.shape != reference_ranks.shape:
        raise ArgumentError(
            f"keep_mask must be bool of shape {list(reference_ranks.shape)}, "
            f"received {keep.dtype} {list(keep.shape)}"
        )
    b = as_beta(beta, rows=len(reference_ranks), device=reference_ranks.device)
    require(keep.any(-1), "log_partition: every row needs at least one reference")
    require(
        ((reference_ranks >= 0) & (reference_ranks <= 1)) | ~keep, "log_partition: ranks must lie in [0, 1]"
    )
    exponents = f(torch.where(keep, reference_ranks, 0.5)) / b.reshape(-1, 1)
    result = torch.logsumexp(exponents.masked_fill(~keep, -torch.inf), -1) - widened(keep.sum(-1)).log()
    require(result.isfinite(), "log_partition: all references of a row have f = +-inf; clamp their ranks")
    return result


def break_even_quantile(
    beta: float | Float[Tensor, " *B"], transform: TransformLike = "identity"
) -> Float[Tensor, " *B"]:
    """The rank at which the optimum leaves a response's probability unchanged: f(t) = b log Z.

    The optimal log-ratio is f(R_q)/b - log Z, so responses above this rank should become more probable, all
    others less: with the identity only the top 23 % at b = 0.1, the top 0.7 % at b = 0.001.

    Args:
        beta: b > 0, a number or any shape.
        transform: f, which must not decrease.

    Returns:
        float64 in [0, 1], the shape of beta; by bisection, to 1e-15.

    Raises:
        ArgumentError: b is not positive.
    """
    f = parse_transform(transform)
    b = as_beta(beta)
    target = b * f.log_partition(b)
    low, high = torch.zeros_like(b), torch.ones_like(b)
    for _ in range(60):
        middle = 0.5 * (low + high)
        below = f(middle) < target
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return high


def optimum_kl(
    beta: float | Float[Tensor, " *B"],
    transform: TransformLike = "identity",
    reference_ranks: Float[Tensor, "B N"] | None = None,
    keep_mask: Bool[Tensor, "B N"] | None = None,
) -> Float[Tensor, " *B"]:
    """KL(pi* || ref) of the optimum: E*[f]/b - log Z = -b d(log Z)/db - log Z.

    About log(1/b) - 1 for the identity and small b. Compare it with the measured KL: a policy far below it
    is undertrained, one above it has moved beyond the target.

    Args:
        beta: b > 0, a number or any shape; with reference_ranks a number or [B].
        transform: f.
        reference_ranks: for the optimum under the finite log Z, as in `log_partition`.
        keep_mask: as in `log_partition`.

    Returns:
        float64, the shape of beta, in nats, not negative; with reference_ranks [B], at most the log of the
        number of references.

    Raises:
        ArgumentError: as `log_partition`.
    """
    with torch.enable_grad():
        b = as_beta(beta).detach()
        if reference_ranks is not None:
            b = b.expand(len(reference_ranks)).clone() if b.ndim == 0 else b
        b.requires_grad_()
        log_z = log_partition(b, transform, reference_ranks, keep_mask)
        (slope,) = torch.autograd.grad(log_z.sum(), b)
    # At large b it vanishes, and rounding alone could make it negative.
    return (-b * slope - log_z).detach().clamp(min=0)


def as_beta(
    beta: float | Tensor, rows: int | None = None, device: torch.device | None = None
) -> Float[Tensor, " *B"]:
    """The KL weight as a float64 tensor, checked.

    Args:
        beta: a number, or one per example.
        rows: the number of examples; None for any shape.
        device: target device; None keeps the current one.

    Raises:
        ArgumentError: it is not positive and finite, or not one number per example.
    """
    if isinstance(beta, int | float) and not isinstance(beta, bool):
        if not as_finite(beta) > 0:
            raise ArgumentError(f"beta must be positive and finite, received {beta!r}")
        wide = wide_dtype(device or "cpu")
        return torch.full((), beta, dtype=wide, device=device)  # no copy that a device waits for
    try:
        place = device or (beta.device if isinstance(beta, Tensor) else torch.device("cpu"))
        b = torch.as_tensor(beta, dtype=wide_dtype(place), device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(
            f"beta must be a positive number or a tensor of them, received {beta!r}"
        ) from error
    if rows is not None and b.shape not in ((), (rows,)):
        raise ArgumentError(f"beta must be a number or have shape [{rows}], received {list(b.shape)}")
    require((b > 0) & b.isfinite(), "beta must be positive and finite")
    return b
