"""Stage 2 in the lab: does the gate find what the crowd weighs, on prompts that it has not seen?

In:  heads on ratings of four attributes, and pairs that one person decided each. Out: exact expected loss
and accuracy on pairs of unseen prompts, and how far the learned weights are from the true ones. It does
not know files.

What can be found. A pair shows only a difference, so a centre of an attribute cannot matter; a factor on
all weights is the gate's scale, so weights count up to their sum; and a weight refers to the unit of its
attribute's rating, which is the same [0, 1] for all. The crowd's weights as the lab names them
(`Crowd.attribute_weights`) are an average over people who also perceive differently, and are not what the
best mix of mean ratings has: `best` is, the weights by kind of prompt that minimise the exact expected
loss of these heads' predictions on the training prompts, `ideal` the same with the crowd's exact mean
ratings in place of predictions. `one` is the best single set of weights for all prompts: what a gate
gains over it depends on the prompt.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pluralign.fitting import BradleyTerryConfig, QuantileConfig
from pluralign.fitting.linear import bradley_terry, quantile
from pluralign.fitting.mix.gate import GatePairs, train_gate
from pluralign.fitting.mix.gate_start import scale_of_equal_weights
from pluralign.heads import QuantileHead
from pluralign.lab import KINDS
from pluralign.lab.personas import VALUED
from studies.qrm_lab import world

TEMPERATURES = (0.5, 1.0, 3.0, 5.0, 10.0)
RATED_TEXTS = 2000  # five raters each
PAIRS = 5000
SHAPES: dict[str, dict[str, Any]] = {
    "published": {},
    "small": {"gate_hidden": 64, "gate_layers": 1, "gate_batch": 256},
}
PARTS = ("objects", "tasks")


def grid(seed: int) -> list[dict[str, Any]]:
    """The temperature sweep, fewer pairs, the start at equal weights, and the published sizes."""
    runs = []
    for features in world.FEATURES:
        one = {"features": features, "seed": seed, "shape": "small", "temperature": 10.0}
        runs += [{**one, "pairs": PAIRS, "temperature": t, "start": "constant"} for t in TEMPERATURES]
        runs += [{**one, "pairs": n, "start": "constant"} for n in (500, 1500)]
        runs += [{**one, "pairs": PAIRS, "start": "equal"}]
    published = {"features": "minilm", "shape": "published", "temperature": 10.0, "pairs": PAIRS}
    return [*runs, {**published, "seed": seed, "start": "constant"}]


def run(
    features: str, seed: int, shape: str, temperature: float, pairs: int, start: str = "constant"
) -> dict[str, Any]:
    """Trains one gate and measures it beside the references."""
    differences = _differences(features, seed)
    train = world.paired()["train"]
    rows = world.dealt(pairs, len(train.groups), 100 + seed)
    sign = torch.where(world.decided(train, rows, seed), 1.0, -1.0)[:, None]
    gate_pairs = GatePairs(
        _prompts(features, "train")[rows],
        sign * differences["train"][rows],
        torch.ones(pairs),
        [train.groups[i] for i in rows.tolist()],
    )
    equal = scale_of_equal_weights(gate_pairs.difference, gate_pairs.weight) if start == "equal" else None
    config = QuantileConfig(gate_temperature=temperature, gate_scale=equal, **SHAPES[shape])
    gate, summary = train_gate(gate_pairs, config, seed=seed)
    references = _references(features, seed)
    baseline = _bradley_terry(features, seed) if pairs == PAIRS else None
    result: dict[str, Any] = {
        "gate": {k: summary[k] for k in ("best_step", "steps", "scale", "entropy_share")},
        "references": {name: weights.tolist() for name, (weights, _) in references.items()},
    }
    for part in PARTS:
        test = world.paired()[part]
        learned = gate(_prompts(features, part)).double()
        models = {"gate": (learned, float(gate.scale))} | {
            name: (weights[test.kinds], scale) for name, (weights, scale) in references.items()
        }
        ideal = _true_differences(part)
        result[part] = {
            name: _measures(
                scale * (weights * (ideal if name == "ideal" else differences[part])).sum(1),
                test.win,
                test.gold,
            )
            for name, (weights, scale) in models.items()
        }
        if baseline is not None:
            result[part]["bradley_terry"] = _measures(baseline[part], test.win, test.gold)
        result[part]["exact"] = _measures(torch.logit(test.win), test.win, test.gold)
        result[part]["weights"] = _nearness(learned, test.kinds, {n: w for n, (w, _) in references.items()})
    return result


def _measures(margin: Tensor, win: Tensor, gold: Tensor) -> dict[str, float]:
    """Exact expected loss and accuracy on one person's choice, and accuracy on the crowd's mean judgement."""
    return {
        "loss": float(_loss(margin, win)),
        "accuracy": float(torch.where(margin > 0, win, 1 - win).mean()),
        "gold": float(((margin > 0) == gold).double().mean()),
    }


def _loss(margin: Tensor, win: Tensor) -> Tensor:
    softplus = torch.nn.functional.softplus
    return (win * softplus(-margin) + (1 - win) * softplus(margin)).mean()


def _nearness(learned: Tensor, kinds: Tensor, references: dict[str, Tensor]) -> dict[str, Any]:
    """Learned weights [N, 4] against tables of true ones [kinds, 4].

    `tv` is the total variation distance to the true weights of each prompt's kind, averaged over prompts;
    `specific` the correlation of what differs between kinds, over kinds and attributes.
    """
    by_kind = torch.stack([learned[kinds == k].mean(0) for k in range(len(KINDS))])
    equal = torch.full_like(learned, 1 / len(VALUED))
    result: dict[str, Any] = {"by_kind": by_kind.tolist()}
    for name in ("named", "best", "ideal"):
        true = references[name]
        result[name] = {
            "tv": float((learned - true[kinds]).abs().sum(1).mean() / 2),
            "tv_of_equal": float((equal - true[kinds]).abs().sum(1).mean() / 2),
            "tv_of_one": float((references["one"][kinds] - true[kinds]).abs().sum(1).mean() / 2),
            "correlation": _correlation(by_kind, true),
            "specific": _correlation(by_kind - by_kind.mean(0), true - true.mean(0)),
        }
    return result


def _correlation(first: Tensor, second: Tensor) -> float:
    both = torch.stack([first.flatten(), second.flatten()])
    return float(torch.corrcoef(both)[0, 1]) if float(both.std(1).min()) > 0 else 0.0


@functools.lru_cache(maxsize=2)
def _head(features: str, seed: int) -> QuantileHead:
    part = world.rated(VALUED)["train"]
    table = world.ratings_table(part, world.dealt(RATED_TEXTS, len(part.conversations), seed), seed)
    config = QuantileConfig(baselines=False, gate=False, seed=seed)
    return quantile.fit(world.inputs(features, ratings=table), config).head  # type: ignore[return-value]


@functools.lru_cache(maxsize=3)
def _differences(features: str, seed: int) -> dict[str, Tensor]:
    """Predicted mean rewards of the first minus the second response, [N, 4] by part."""
    head = _head("traits" if features == "crossed" else features, seed)
    names = [a.name for a in head.attributes]
    assert names == list(VALUED)
    return {
        part: head.attribute_means(_responses(features, part, 0))
        - head.attribute_means(_responses(features, part, 1))
        for part in world.SPLITS
    }


@functools.cache
def _responses(features: str, part: str, side: int) -> Tensor:
    pairs = world.paired()[part]
    same = "traits" if features == "crossed" else features
    if features != same:
        return _responses(same, part, side)
    return world.embedded(features, pairs.second if side else pairs.first).response


@functools.cache
def _prompts(features: str, part: str) -> Tensor:
    return world.embedded(features, world.paired()[part].first).prompt


@functools.cache
def _true_differences(part: str) -> Tensor:
    pairs = world.paired()[part]
    return world.true_means(pairs.first) - world.true_means(pairs.second)


@functools.lru_cache(maxsize=3)
def _references(features: str, seed: int) -> dict[str, tuple[Tensor, float]]:
    """Tables of weights [kinds, 4], each with the scale that fits the training prompts best."""
    train = world.paired()["train"]
    given = _differences(features, seed)["train"].double()
    shape = (len(KINDS), len(VALUED))
    named = torch.tensor([[world.crowd().attribute_weights(k)[a] for a in VALUED] for k in KINDS]).double()
    same: dict[str, Callable[[Tensor], Tensor]] = {
        "equal": lambda logits: torch.full(shape, 1 / len(VALUED)).double(),
        "one": lambda logits: logits.softmax(1)[:1].expand(shape),
        "named": lambda logits: named,
        "best": lambda logits: logits.softmax(1),
    }
    found = {name: _fitted(table, given, train.win, train.kinds) for name, table in same.items()}
    return found | {"ideal": _ideal()}


@functools.cache
def _ideal() -> tuple[Tensor, float]:
    train = world.paired()["train"]
    return _fitted(lambda logits: logits.softmax(1), _true_differences("train"), train.win, train.kinds)


def _fitted(
    table: Callable[[Tensor], Tensor], difference: Tensor, win: Tensor, kinds: Tensor
) -> tuple[Tensor, float]:
    logits = torch.zeros(len(KINDS), len(VALUED), dtype=torch.float64, requires_grad=True)
    log_scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits, log_scale], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _loss(log_scale.exp() * (table(logits)[kinds] * difference).sum(1), win)
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return table(logits).detach(), float(log_scale.detach().exp())


@functools.lru_cache(maxsize=2)
def _bradley_terry(features: str, seed: int) -> dict[str, Tensor]:
    """Differences of scores, by part, of the scalar baseline on the same vectors and pairs."""
    if features == "crossed":
        return _bradley_terry("traits", seed)
    train = world.paired()["train"]
    rows = world.dealt(PAIRS, len(train.groups), 100 + seed)
    table = world.pairs_table(train, rows, seed)
    head = bradley_terry.fit(world.inputs(features, pairs=table), BradleyTerryConfig(seed=seed)).head
    return {
        part: (
            head.raw(_responses(features, part, 0), _prompts(features, part)).mean()
            - head.raw(_responses(features, part, 1), _prompts(features, part)).mean()
        ).double()
        for part in PARTS
    }
