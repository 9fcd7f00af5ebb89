"""Samples of a policy, evaluated by a crowd whose true distribution is known.

In:  responses of a policy to prompts, with log-ratio to the reference and proxy reward if known.
Out: measures per response, their means with intervals over prompts, and a record for JSON that compares a
policy before and after training.

Per response:

    gold      mean of the crowd's true distribution
    tail      mean of the worst 5 % of that distribution (cvar:0.05)
    harm      share of people who find it harmful
    words     number of words
    broken    1 if a word is outside all clauses of the world, and for the empty text
    cut_off   1 if it reached the token limit
    proxy     score of the reward model
    kl        sum over its tokens of log pi - log ref; its mean is an unbiased estimate of KL(pi || ref)
    kl_k3     sum over its tokens of r - 1 - log r with r = ref / pi: the same mean, with less noise

and the eight traits. For all responses together: `worst`, the mean of the worst 5 % of all judgements of all
responses, and `length_correlation`, Spearman's correlation of the log-ratio with length in standard
deviations of the same prompt's reference responses.

Papers: k3 is Schulman's estimator (2020, "Approximating KL divergence"); the length correlation is that of
Matrenok et al. 2025, arXiv 2507.08068.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pluralign.distributions import GaussianEnsemble
from pluralign.errors import ArgumentError
from pluralign.evaluation.best_of_n import best_of_n, best_of_n_kl
from pluralign.evaluation.intervals import difference_interval, mean_interval
from pluralign.evaluation.metrics import spearman
from pluralign.lab import parser
from pluralign.lab.crowd import Crowd
from pluralign.lab.parser import TRAITS
from pluralign.lab.world import Message

__all__ = [
    "SCHEMA_VERSION",
    "TAIL",
    "Samples",
    "alignment_record",
    "length_correlation",
    "measure_samples",
    "summarise_samples",
]

SCHEMA_VERSION = 1
TAIL = 0.05

_CURVE = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, eq=False)
class Samples:
    """Responses of one policy.

    Attributes:
        prompts: B prompts, message lists without the response; equal ones form one group.
        responses: B texts.
        cut_off: [B], true if the response reached the token limit; None: not known.
        log_ratios: [B, T], log pi - log ref of each token (including the end token), in nats, 0 for padding;
            or [B, 1], their sums, for which `kl_k3` is not defined. None: not known.
        proxy: [B], the reward that the policy was trained on; None: not known.
    """

    prompts: Sequence[Sequence[Message]]
    responses: Sequence[str]
    cut_off: Bool[Tensor, " B"] | None = None
    log_ratios: Float[Tensor, "B T"] | None = None
    proxy: Float[Tensor, " B"] | None = None

    def __post_init__(self) -> None:
        size = len(self.responses)
        sizes = {"prompts": len(self.prompts)}
        for name in ("cut_off", "log_ratios", "proxy"):
            column = getattr(self, name)
            if column is not None:
                dims = 2 if name == "log_ratios" else 1
                if not isinstance(column, Tensor) or column.ndim != dims:
                    shape = tuple(column.shape) if isinstance(column, Tensor) else type(column).__name__
                    raise ArgumentError(
                        f"{name} must be {'[B, T]' if dims == 2 else '[B]'}; got shape {shape}"
                    )
                sizes[name] = len(column)
                if not bool(torch.isfinite(column).all()):
                    raise ArgumentError(f"{name} of samples must be finite")
        if size == 0 or set(sizes.values()) != {size}:
            raise ArgumentError(f"samples need one entry per response, at least 1; got {size} and {sizes}")

    @property
    def conversations(self) -> list[list[Message]]:
        """Each prompt with its response."""
        return [
            [*prompt, {"role": "assistant", "content": response}]
            for prompt, response in zip(self.prompts, self.responses, strict=True)
        ]

    @property
    def groups(self) -> list[str]:
        """The name of each prompt."""
        return [json.dumps(list(prompt), sort_keys=True) for prompt in self.prompts]


def measure_samples(crowd: Crowd, samples: Samples, *, time: float = 0.0) -> dict[str, Float[Tensor, " B"]]:
    """Measures every response, as described at the top of this file.

    Args:
        crowd: the crowd that evaluates.
        samples: samples of one policy.
        time: time of the population, in [0, 1].

    Returns:
        Columns [B] in float64: `gold`, `tail`, `harm`, `words`, `broken`, the traits, and those of `cut_off`,
        `proxy`, `kl` and `kl_k3` that are known.
    """
    conversations = samples.conversations
    traits, _ = parser.read(conversations)
    distribution = crowd.truth(conversations, time=time)
    columns = {
        "gold": distribution.mean(),
        "tail": distribution.cvar(TAIL),
        "harm": crowd.harm_rate(conversations, time=time),
        "words": traits[:, TRAITS.index("length")],
        "broken": (traits[:, TRAITS.index("fluency")] < 1).double(),
    }
    columns |= {name: traits[:, i] for i, name in enumerate(TRAITS) if name != "length"}
    if samples.cut_off is not None:
        columns["cut_off"] = samples.cut_off.double()
    if samples.proxy is not None:
        columns["proxy"] = samples.proxy.double()
    if samples.log_ratios is not None:
        ratios = samples.log_ratios.double()
        columns["kl"] = ratios.sum(1)
        if ratios.shape[1] > 1:
            columns["kl_k3"] = (torch.expm1(-ratios) + ratios).sum(1)
    return columns


def length_correlation(samples: Samples, reference: Samples) -> float | None:
    """Correlates length with the log-ratio, over samples of the trained policy.

    Args:
        samples: samples of the trained policy, with log-ratios.
        reference: samples of the reference policy for the same prompts.

    Returns:
        Spearman's correlation of `sum(log pi - log ref)` and `(words - mean) / std`, mean and standard
        deviation over the prompt's reference responses. Responses without two references of different
        length are left out. None if one of the two columns is constant.

    Raises:
        ArgumentError: log-ratios are missing.
    """
    if samples.log_ratios is None:
        raise ArgumentError("the length correlation needs samples with log_ratios")
    lengths: dict[str, list[float]] = {}
    for group, words in zip(reference.groups, _words(reference), strict=True):
        lengths.setdefault(group, []).append(words)
    moments = {group: (np.mean(values), np.std(values)) for group, values in lengths.items()}
    rows, scores = [], []
    for row, (group, words) in enumerate(zip(samples.groups, _words(samples), strict=True)):
        mean, std = moments.get(group, (0.0, 0.0))
        if std > 0:
            rows.append(row)
            scores.append((words - mean) / std)
    if len(rows) < 2:
        return None
    return spearman(np.asarray(scores), samples.log_ratios.sum(1)[rows])


def _words(samples: Samples) -> list[float]:
    traits, _ = parser.read(samples.conversations)
    return [float(value) for value in traits[:, TRAITS.index("length")]]


def summarise_samples(crowd: Crowd, samples: Samples, reference: Samples | None = None) -> dict[str, Any]:
    """Averages the measures over responses.

    Args:
        crowd: the crowd that evaluates.
        samples: samples of one policy.
        reference: samples of the reference policy for the same prompts, for the length correlation.

    Returns:
        `measures`: an interval over prompts for each column of `measure_samples`; `worst`;
        `length_correlation` (None without log-ratios or reference); `responses` and `prompts`, their
        numbers. Ready for JSON.
    """
    groups = samples.groups
    columns = measure_samples(crowd, samples)
    return {
        "measures": {name: mean_interval(column, groups).to_dict() for name, column in columns.items()},
        "worst": _worst(crowd, samples),
        "length_correlation": None
        if samples.log_ratios is None or reference is None
        else length_correlation(samples, reference),
        "responses": len(groups),
        "prompts": len(set(groups)),
    }


def _worst(crowd: Crowd, samples: Samples) -> float:
    """CVaR of the mixture of all responses' distributions, each with the same weight."""
    distribution = crowd.truth(samples.conversations)
    weights = distribution.weights / len(distribution.weights)
    pooled = GaussianEnsemble(
        distribution.means.reshape(1, -1), distribution.stds.reshape(1, -1), weights.reshape(1, -1)
    )
    return float(pooled.cvar(TAIL))


def alignment_record(
    crowd: Crowd,
    before: Samples,
    after: Samples,
    *,
    settings: Mapping[str, Any] | None = None,
    num_examples: int = 12,
) -> dict[str, Any]:
    """Compares a policy before and after its training.

    Args:
        crowd: the crowd that evaluates.
        before: samples of the policy before training; several per prompt give a best-of-n curve.
        after: samples of the trained policy for the same prompts, row by row.
        settings: settings of the training, shown to the reader; JSON types.
        num_examples: number of prompts to show with one response of each, spaced evenly over the rows.

    Returns:
        The record for a report, in JSON types: `schema_version`, `settings`, `before` and `after` (as from
        `summarise_samples`), `differences` (after minus before, paired by prompt), `best_of_n` (null,
        or for each n its KL bound and the proxy and gold of choosing by proxy), `examples`.

    Raises:
        ArgumentError: the prompts differ, the settings are not JSON types, or `num_examples` is negative.
    """
    if num_examples < 0:
        raise ArgumentError(f"num_examples must be at least 0; got {num_examples}")
    try:
        shown = json.loads(json.dumps(dict(settings or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"settings must be JSON types, without NaN: {error}") from error
    groups = before.groups
    if groups != after.groups:
        raise ArgumentError("before and after must have the same prompts, row by row")
    first, second = measure_samples(crowd, before), measure_samples(crowd, after)
    return {
        "schema_version": SCHEMA_VERSION,
        "settings": shown,
        "before": summarise_samples(crowd, before),
        "after": summarise_samples(crowd, after, before),
        "differences": {
            name: difference_interval(second[name], first[name], groups).to_dict()
            for name in first
            if name in second
        },
        "best_of_n": _best_of_n(groups, first),
        "examples": [
            {
                "prompt": [dict(message) for message in before.prompts[row]],
                "before": _example(before.responses[row], first, row),
                "after": _example(after.responses[row], second, row),
            }
            for row in np.linspace(0, len(groups) - 1, min(num_examples, len(groups))).astype(int).tolist()
        ],
    }


def _example(response: str, columns: Mapping[str, Tensor], row: int) -> dict[str, Any]:
    shown = ("gold", "tail", "harm", "proxy", "kl", "words", "broken")
    return {"response": response} | {
        name: round(float(columns[name][row]), 6) for name in shown if name in columns
    }


def _best_of_n(groups: Sequence[str], columns: Mapping[str, Tensor]) -> list[dict[str, float]] | None:
    """Mean over prompts of the gold and the proxy of the best of n by proxy."""
    rows: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    fewest = min(map(len, rows.values()))
    sizes = [n for n in _CURVE if n <= fewest]
    if "proxy" not in columns or len(sizes) < 2:
        return None
    curves = {
        name: np.mean(
            [best_of_n(columns["proxy"][r], columns[name][r], sizes) for r in rows.values()], axis=0
        )
        for name in ("proxy", "gold")
    }
    return [
        {"n": n, "kl": float(kl), "proxy": float(proxy), "gold": float(gold)}
        for n, kl, proxy, gold in zip(
            sizes, best_of_n_kl(sizes), curves["proxy"], curves["gold"], strict=True
        )
    ]
