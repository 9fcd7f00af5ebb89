"""Random draws in the lab: streams of random numbers, responses to prompts, and the judgements of raters.

In:  seeds, sizes, and mean judgements (from `personas`).
Out: responses with their traits, and the judgements of drawn raters.

Every quantity has its own stream, seeded by (crowd seed, data seed, name) and used item by item. So the first
n items of a longer draw are equal to a draw of n, the ratings of one attribute do not depend on the other
attributes, and two data seeds are independent.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pluralign.checks import is_whole
from pluralign.errors import ArgumentError
from pluralign.lab import grammar, parser, world
from pluralign.lab.parser import TRAITS
from pluralign.lab.raters import RaterPool
from pluralign.lab.world import Request

__all__ = ["Items", "Judges", "checked_bias", "draw_items", "stream"]

_MAX_PER_PROMPT = 256


def stream(name: str, crowd_seed: int, data_seed: int) -> np.random.Generator:
    """Opens the stream of random numbers of one quantity.

    Args:
        name: name of the quantity.
        crowd_seed: at least 0.
        data_seed: at least 0.

    Returns:
        A generator at its start.

    Raises:
        ArgumentError: a seed is not a whole number, or is negative.
    """
    for seed in (crowd_seed, data_seed):
        if not is_whole(seed, 0):
            raise ArgumentError(f"a seed must be a whole number of at least 0; got {seed!r}")
    return np.random.default_rng([crowd_seed, data_seed, zlib.crc32(name.encode())])


@dataclass(frozen=True)
class Items:
    """Responses to prompts.

    Attributes:
        prompts: one per item.
        responses: one per item.
    """

    prompts: list[Request]
    responses: list[str]

    @cached_property
    def traits(self) -> Tensor:
        """Traits [B, 8] in float64."""
        rows = [parser.parse(prompt, text) for prompt, text in zip(self.prompts, self.responses, strict=True)]
        return torch.tensor(rows, dtype=torch.float64)

    @property
    def kinds(self) -> list[str]:
        """The kind of each prompt."""
        return [prompt.kind for prompt in self.prompts]


def draw_items(n: int, name: str, crowd_seed: int, data_seed: int, per_prompt: int, style: str) -> Items:
    """Draws responses to prompts in random order; all prompts are used once before any is repeated.

    Args:
        n: number of items, at least 1.
        name: name of the streams.
        crowd_seed: at least 0.
        data_seed: at least 0.
        per_prompt: number of different, consecutive responses each time a prompt is used, 1..256.
        style: one of `grammar.STYLES`.

    Returns:
        The items.

    Raises:
        ArgumentError: an argument is out of range.
    """
    if not is_whole(n, 1):
        raise ArgumentError(f"n must be a whole number of at least 1; got {n!r}")
    if not is_whole(per_prompt, 1) or per_prompt > _MAX_PER_PROMPT:
        raise ArgumentError(f"responses_per_prompt must be in 1..{_MAX_PER_PROMPT}; got {per_prompt!r}")
    order = stream(f"{name}/prompts", crowd_seed, data_seed)
    rng = random.Random(int(stream(f"{name}/{style}", crowd_seed, data_seed).integers(2**63)))
    items = Items([], [])
    while True:
        for index in order.permutation(len(world.PROMPTS)):
            prompt, texts = world.PROMPTS[index], dict[str, None]()
            while len(texts) < per_prompt:
                texts[grammar.render(grammar.draw(prompt, rng, style))] = None
            items.prompts.extend([prompt] * per_prompt)
            items.responses.extend(texts)
            if len(items.prompts) >= n:
                return Items(items.prompts[:n], items.responses[:n])


def checked_bias(bias: Mapping[str, float]) -> dict[str, float]:
    """Checks a bias: finite numbers by name of a trait; raises `ArgumentError`."""
    for name, weight in bias.items():
        if name not in TRAITS or not math.isfinite(weight):
            raise ArgumentError(
                f"bias must be finite numbers by trait ({', '.join(TRAITS)}); got {name!r}: {weight}"
            )
    return dict(bias)


class Judges:
    """The raters of each item of one table; each judges by persona and with noise, and all share a bias.

    Attributes:
        stds: noise of each persona, [6], float64.
        weights: the shares of the population at the time, [6], float64.
        bias: bias of all raters, per unit of each trait, [8], float64.
        rater_ids: the raters of each item, in order.
    """

    def __init__(
        self,
        table: str,
        seeds: tuple[int, int],
        num_items: int,
        per_item: int,
        *,
        pool: RaterPool,
        stds: Tensor,
        weights: Tensor,
        bias: Mapping[str, float],
        label_flips: float,
    ) -> None:
        """Draws the raters.

        Args:
            table: name of the table, part of the names of its streams.
            seeds: seeds of the crowd and of the data.
            num_items: number of items.
            per_item: raters per item, at least 1.
            pool: all raters.
            stds: noise of each persona, positive.
            weights: the shares of the population, summing to 1.
            bias: added to every judgement, per unit of a trait.
            label_flips: share of judgements that are recorded inverted.

        Raises:
            ArgumentError: `per_item` is below 1.
        """
        if not is_whole(per_item, 1):
            raise ArgumentError(f"raters_per_item must be a whole number of at least 1; got {per_item!r}")
        self.stds = stds
        self.weights = weights
        self._table, self._seeds = table, seeds
        self.bias = torch.tensor([bias.get(name, 0.0) for name in TRAITS], dtype=torch.float64)
        self._label_flips = label_flips
        self._personas, raters = pool.draw(weights.tolist(), num_items, per_item, self._stream("raters"))
        self.rater_ids: list[list[str]] = np.asarray(pool.ids)[raters].tolist()

    def judge(self, means: Tensor, traits: Tensor, quantity: str) -> NDArray[np.float64]:
        """Draws judgements.

        Args:
            means: mean judgement of each persona, [B, 6].
            traits: traits of the same texts, [B, 8], for the bias.
            quantity: name of the judged quantity, part of the stream's name.

        Returns:
            Judgements [B, raters per item].
        """
        biased = (means + (traits @ self.bias)[:, None]).numpy()
        noise = self._stream(quantity).standard_normal(self._personas.shape)
        centres = np.take_along_axis(biased, self._personas, axis=1)
        return np.asarray(centres + self.stds.numpy()[self._personas] * noise)

    def record(
        self, values: NDArray[np.float64], mirrored: NDArray[np.float64], quantity: str
    ) -> list[list[float]]:
        """Records values, a share of them inverted.

        Args:
            values: the judgements, [B, R].
            mirrored: the values to record for flipped labels, [B, R].
            quantity: name of the recorded quantity, part of the stream's name.

        Returns:
            The recorded values, [B, R].
        """
        flipped = self._stream(f"{quantity}/flips").random(values.shape) < self._label_flips
        written: list[list[float]] = np.where(flipped, mirrored, values).tolist()
        return written

    def _stream(self, quantity: str) -> np.random.Generator:
        return stream(f"{self._table}/{quantity}", *self._seeds)
