"""From fitted attributes to one reward: debias them, train their gate, measure the unit of reward.

In: a fitted `MixedHead`, the texts it was fitted on, and pairs or votes if there are any. Out: that head with
debiasing, gate and reference, and a summary of what was done and why.

A gate is trained and evaluated on debiased rewards, the same that are used afterwards.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from pluralign.data import weighted_pairs
from pluralign.errors import DataError, DebiasWarning, GateWarning
from pluralign.fitting.mix.config import MixConfig
from pluralign.fitting.mix.debias import smallest_lambdas
from pluralign.fitting.mix.gate import GatePairs, train_gate
from pluralign.fitting.tables.inputs import Inputs
from pluralign.fitting.tables.pairs import pair_index
from pluralign.fitting.train.state import TrainingState
from pluralign.heads import Debias, Gate, MixedHead
from pluralign.heads.debias import LENGTH_UNITS, LengthUnit
from pluralign.model.inputs import head_inputs, response_lengths

if TYPE_CHECKING:
    from pluralign.backbones import Embeddings

__all__ = ["add_mixing"]

Mixed = TypeVar("Mixed", bound=MixedHead)


def add_mixing(
    head: Mixed,
    inputs: Inputs,
    config: MixConfig,
    conversations: Sequence[Any],
    embedded: Embeddings,
    *,
    seed: int,
) -> tuple[Mixed, dict[str, Any]]:
    """Debiases a fitted head, trains its gate and measures its reference.

    Args:
        head: a head without gate and debiasing.
        inputs: inputs of the fit; `pairs`, or otherwise `votes`, train the gate.
        config: the options.
        conversations: the reference responses, those that were rated.
        embedded: their embeddings.
        seed: seed of the gate.

    Returns:
        The head with these parts; and a record with `gate`, and `debias` if requested, serialisable as JSON.

    Raises:
        DataError: the bias variable is neither an attribute of the ratings nor a length.
    """
    summary: dict[str, Any] = {}
    if config.debias is not None:
        debias, summary["debias"] = _debias(head, config, conversations, embedded)
        head = head.with_parts(debias=debias)
        inputs.report(_debias_line(summary["debias"]))
    gate, summary["gate"] = _gate(head, inputs, config, seed)
    inputs.report(_gate_line(summary["gate"], head))
    head = head.with_parts(gate=gate).eval()
    return head.in_units_of(*head_inputs(head, conversations, embedded)), summary


def _debias(
    head: MixedHead, config: MixConfig, conversations: Sequence[Any], embedded: Embeddings
) -> tuple[Debias, dict[str, Any]]:
    names = [a.name for a in head.attributes]
    variable = str(config.debias)
    own = names.index(variable) if variable in names else None
    if own is not None and len(names) == 1:
        raise DataError(f"debias = {variable!r} is the only attribute: nothing would be left of the reward")
    means = head.attribute_means(embedded.response).double()
    options: dict[str, Any] = {}
    if own is not None:
        bias = means[:, own]
    else:
        unit = _length_unit(variable, names)
        length = response_lengths(unit, conversations, embedded).double()
        span = _length_span(length, means)
        bias = length / span
        options = {"length_unit": unit, "length_span": span}
    found = smallest_lambdas(means, bias, config.debias_threshold)
    searched = {name: i for i, name in enumerate(names) if i != own}
    unreached = [name for name, i in searched.items() if found.values[i] is None]
    if unreached:
        warnings.warn(
            f"no lambda reduces the correlation of {', '.join(unreached)} with {variable} to "
            f"{config.debias_threshold:g}: nothing is subtracted there",
            DebiasWarning,
            stacklevel=3,
        )
    lambdas = torch.tensor([value or 0.0 for value in found.values])
    transform = torch.eye(len(names))
    if own is None:
        options["length_slope"] = lambdas
    else:
        transform[own] -= lambdas
        transform[own, own] = 0.0  # as published: the bias variable itself adds nothing to the reward
    return Debias(transform, config.debias_coupling, **options), {
        "variable": variable,
        "coupling": config.debias_coupling,
        "threshold": config.debias_threshold,
        "lambdas": {name: found.values[i] for name, i in searched.items()},
        "spearman_before": {name: found.before[i] for name, i in searched.items()},
        "spearman_after": {name: found.after[i] for name, i in searched.items()},
        "unreached": unreached,
    }


def _length_unit(variable: str, names: Sequence[str]) -> LengthUnit:
    for unit in LENGTH_UNITS:
        if variable == unit:
            return unit
    raise DataError(
        f"debias = {variable!r} is neither an attribute of the ratings ({', '.join(names)}) nor a length "
        f"({', '.join(LENGTH_UNITS)})"
    )


def _length_span(length: Tensor, means: Tensor) -> float:
    """The number of tokens or characters per unit, so that length varies as much as the most variable
    attribute.

    Then the grid of lambdas, which was made for attributes, covers the range from nothing to nearly
    everything.
    """
    variation = float(means.std(0, unbiased=False).max())
    spread = float(length.std(unbiased=False))
    return spread / variation if spread > 0 and variation > 0 else 1.0


def _gate(
    head: MixedHead, inputs: Inputs, config: MixConfig, seed: int
) -> tuple[Gate | None, dict[str, Any]]:
    if not config.gate:
        return _no_gate("gate is false")
    if len(head.attributes) < 2:
        return _no_gate("there is one attribute")
    table = inputs.pairs if inputs.pairs is not None else inputs.votes
    if table is None:
        return _no_gate("there are no pairs and no votes to train a gate on")
    pairs = _gate_pairs(head, inputs, table)
    if len(pairs.weight) < 2:
        return _useless("fewer than two pairs have two different sides")
    if not bool(pairs.difference.any()):
        return _useless("the attributes do not distinguish any two sides")
    if _all_tied(pairs):
        return _useless("every comparison is tied")
    key = hashlib.sha256(f"{config} {seed} {len(pairs.weight)}".encode())
    key.update(pairs.difference.double().sum(0).numpy().tobytes())
    state = TrainingState(inputs.journal.beside("gate.safetensors"), key.hexdigest())
    gate, summary = train_gate(pairs, config, seed=seed, state=state, report=inputs.report)
    names = [a.name for a in head.attributes]
    return gate, summary | {"mean_weights": dict(zip(names, summary["mean_weights"], strict=True))}


@torch.no_grad()
def _gate_pairs(head: MixedHead, inputs: Inputs, table: Any) -> GatePairs:
    """Both orders of a divided vote stay two pairs: their weights show how divided people were."""
    index = pair_index(weighted_pairs(table))
    embedded = inputs.embed(index.conversations)
    given = head_inputs(head, index.conversations, embedded)
    means = head.attribute_means(given.response, given.length)
    chosen, rejected = index.chosen.long(), index.rejected.long()
    return GatePairs(
        embedded.prompt[chosen], means[chosen] - means[rejected], index.weight.float(), index.groups
    )


def _all_tied(pairs: GatePairs) -> bool:
    """Whether both orders of every comparison weigh the same."""
    pull = (pairs.weight[:, None] * pairs.difference).sum(0).abs()
    cancels = bool((pull <= 1e-4 * pairs.difference.abs().sum(0)).all())
    return cancels and bool((pairs.weight == 0.5).all())


def _no_gate(reason: str) -> tuple[None, dict[str, Any]]:
    return None, {"trained": False, "reason": reason}


def _useless(reason: str) -> tuple[None, dict[str, Any]]:
    """Warns that pairs were given to train a gate on, but carry no information."""
    warnings.warn(f"no gate was trained, {reason}: attributes have equal weights", GateWarning, stacklevel=4)
    return _no_gate(reason)


def _debias_line(summary: dict[str, Any]) -> str:
    taken = ", ".join(
        f"{name} {'none suffices' if value is None else format(value, 'g')}"
        for name, value in summary["lambdas"].items()
    )
    return f"debiased against {summary['variable']} ({summary['coupling']}): lambda {taken}"


def _gate_line(summary: dict[str, Any], head: MixedHead) -> str:
    if not summary["trained"]:
        if len(head.attributes) == 1:
            return "gate: none, there is one attribute"
        return f"gate: none, attributes have equal weights: {summary['reason']}"
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in summary["mean_weights"].items())
    return (
        f"gate: {summary['pairs']:,} weighted pairs, loss {summary['loss']:.4f} at step "
        f"{summary['best_step']:,} against {summary['loss_of_equal_weights']:.4f} of equal weights and "
        f"{summary['loss_of_constant_weights']:.4f} of the best single set, "
        f"entropy {summary['entropy_share']:.0%} of the largest; on average {weights}"
    )
