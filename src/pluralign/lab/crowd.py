"""A simulated crowd: the exact distribution of its judgements, and data drawn from it.

In:  a seed and the crowd's errors; then sizes of data, or conversations (message lists ending in a response).
Out: exact `RewardDistribution`s, probabilities and gold rewards of any text; and `datasets.Dataset` tables in
     the canonical shapes, with columns of true values.
No model is needed here, and no package outside the lab imports this: true values are passed in columns, and
the gold reward as a callable.

Truth and error: the population, the personas and their noise define the true distribution. The shared bias
and the label flips are measurement errors; they change the drawn data, never `truth` or a column of true
values.
Seeds of the data are explained in `sampling`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.checks import is_whole
from pluralign.distributions import Categorical, GaussianEnsemble
from pluralign.errors import ArgumentError
from pluralign.lab import parser, summary, tables, truth, world
from pluralign.lab.personas import KIND_WEIGHTS, PERSONAS, POPULATION, VALUED, mean_judgements
from pluralign.lab.raters import RaterPool, population_shares
from pluralign.lab.sampling import Items, Judges, checked_bias, draw_items, stream
from pluralign.lab.world import Message

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Crowd"]

Conversations = Sequence[Sequence[Message]]
_LEVELS = tuple(round(0.05 * k, 2) for k in range(1, 20))


@final
class Crowd:
    """People of six personas who judge responses to the lab's requests.

    In all methods, `time` in [0, 1] interpolates linearly between the population (0) and the shifted one (1),
    and `conversations` are B message lists that end in the response, with any text.

    Attributes:
        seed: random seed of the crowd and of all data drawn from it.
        population: share of each persona, by name.
        shifted_population: the shares at time 1; equal to `population` without a shift.
        noise: factor on the noise of the personas.
        label_flips: share of judgements that are recorded inverted.
        bias: added by all raters to every judgement, per unit of a trait.
        pool: the raters; `pool.personas` has each rater's persona.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        raters: int = 240,
        noise: float = 1.0,
        label_flips: float = 0.0,
        population: Mapping[str, float] | None = None,
        shift: Mapping[str, float] | None = None,
        bias: Mapping[str, float] | None = None,
    ) -> None:
        """Sets up a crowd.

        Args:
            seed: at least 0. It changes the raters and the drawn data, not the true distribution.
            raters: size of the pool of raters, at least 6.
            noise: factor on every persona's noise, positive.
            label_flips: in [0, 1].
            population: shares by persona name, scaled to sum to 1; missing names have share 0. None is
                `POPULATION`.
            shift: the population at time 1, in the same form; None for no shift.
            bias: rating units per unit of trait, by name of the trait, e.g. `{"filler": 0.3}`.

        Raises:
            ArgumentError: a value is out of range, or a persona or trait does not exist.
        """
        if not is_whole(raters, len(PERSONAS)):
            raise ArgumentError(f"raters must be at least {len(PERSONAS)}, one per persona; got {raters!r}")
        if not 0 < noise < float("inf"):
            raise ArgumentError(f"noise must be positive and finite; got {noise}")
        if not 0 <= label_flips <= 1:
            raise ArgumentError(f"label_flips must be in [0, 1]; got {label_flips}")
        self.seed = seed
        self.noise = noise
        self.label_flips = label_flips
        self.population = population_shares(POPULATION if population is None else population, "population")
        self.shifted_population = self.population if shift is None else population_shares(shift, "shift")
        self.bias = checked_bias(bias or {})
        self.pool = RaterPool(self._weights(0.5).tolist(), raters, stream("pool", seed, 0))
        self._stds = noise * torch.tensor([persona.noise for persona in PERSONAS], dtype=torch.float64)

    def truth(self, conversations: Conversations, *, time: float = 0.0) -> GaussianEnsemble:
        """Returns the exact distribution of reward: a random person's overall judgement of each response.

        Args:
            conversations: B message lists.
            time: in [0, 1].

        Returns:
            The mixture with the personas' utilities as means [B, 6], their noise as stds and the population
            as weights. It is on the scale of ratings, before they are rounded and clamped to 1..5.
        """
        means = self.utilities(conversations)
        return GaussianEnsemble(means, self._stds.expand_as(means), self._weights(time))

    def utilities(self, conversations: Conversations, attribute: str = "overall") -> Float[Tensor, "B 6"]:
        """Returns every persona's mean judgement of an attribute, in the order of `PERSONAS`."""
        return mean_judgements(*parser.read(conversations), attribute)

    def gold(self, conversations: Conversations, *, time: float = 0.0) -> Float[Tensor, " B"]:
        """Returns the gold reward: the mean of `truth`."""
        return self.utilities(conversations) @ self._weights(time)

    def rating_truth(
        self,
        conversations: Conversations,
        attribute: str = "overall",
        *,
        rounded: bool = True,
        time: float = 0.0,
    ) -> Categorical | GaussianEnsemble:
        """Returns the exact distribution of one rater's rating.

        Args:
            conversations: B message lists.
            attribute: one of `ATTRIBUTES`.
            rounded: True for the ratings 1..5, False for the judgement before rounding.
            time: in [0, 1].

        Returns:
            A `Categorical` on the atoms 1..5; with `rounded=False` a `GaussianEnsemble`.

        Raises:
            ArgumentError: the attribute does not exist.
        """
        means, weights = self.utilities(conversations, attribute), self._weights(time)
        if rounded:
            return Categorical(truth.rating_probs(means, self._stds, weights), truth.RATINGS)
        return GaussianEnsemble(means, self._stds.expand_as(means), weights)

    def category_truth(self, conversations: Conversations, *, time: float = 0.0) -> Float[Tensor, "B 6"]:
        """Returns the exact probabilities of the six categories, in the order of `CATEGORIES`."""
        helpfulness, safety = (self.utilities(conversations, name) for name in ("helpfulness", "safety"))
        return truth.category_probs(helpfulness, safety, self._stds, self._weights(time))

    def harm_rate(self, conversations: Conversations, *, time: float = 0.0) -> Float[Tensor, " B"]:
        """Returns the exact share of people who find a response harmful."""
        return self.category_truth(conversations, time=time)[:, 3:].sum(1)

    def win_probability(
        self, first: Conversations, second: Conversations, *, time: float = 0.0
    ) -> Float[Tensor, " B"]:
        """Returns the exact probability that a person who judges both prefers the first response.

        Raises:
            ArgumentError: the numbers of conversations differ.
        """
        if len(first) != len(second):
            raise ArgumentError(
                f"win_probability needs as many first as second responses; got {len(first)} and {len(second)}"
            )
        return truth.win_probability(
            self.utilities(first), self.utilities(second), self._stds, self._weights(time)
        )

    def attribute_weights(self, kind: str, *, time: float = 0.0) -> dict[str, float]:
        """Returns the increase of `overall` per rating unit of each valued attribute, averaged over people.

        Args:
            kind: kind of prompt, one of `KINDS`.
            time: in [0, 1].

        Returns:
            Helpfulness, safety, courtesy and conciseness, relative to their sum.

        Raises:
            ArgumentError: the kind does not exist.
        """
        if kind not in world.KINDS:
            raise ArgumentError(f"kind must be one of {', '.join(world.KINDS)}; got {kind!r}")
        tastes = torch.tensor([persona.taste for persona in PERSONAS], dtype=torch.float64)
        effects = (self._weights(time) @ tastes) * torch.tensor(KIND_WEIGHTS[kind], dtype=torch.float64)
        return dict(zip(VALUED, (effects / effects.sum()).tolist(), strict=True))

    def conversations(
        self, n: int, *, seed: int = 0, responses_per_prompt: int = 4, style: str = "behaviour"
    ) -> list[list[Message]]:
        """Draws responses to prompts.

        Prompts are in random order; all 576 are used once before any is repeated.

        Args:
            n: number of conversations.
            seed: of the data, at least 0; another seed gives independent data.
            responses_per_prompt: number of different responses each time a prompt is used, 1..256.
            style: one of `STYLES`; all but `behaviour` imitate policies that were optimised too far.

        Returns:
            n message lists, a request and a response each.

        Raises:
            ArgumentError: an argument is out of range.
        """
        items = self._items(n, seed, responses_per_prompt, style)
        return [
            [*prompt.messages, {"role": "assistant", "content": response}]
            for prompt, response in zip(items.prompts, items.responses, strict=True)
        ]

    def ratings(
        self,
        n: int,
        raters_per_item: int = 5,
        attributes: Sequence[str] = ("overall",),
        *,
        seed: int = 0,
        responses_per_prompt: int = 4,
        rounded: bool = True,
        levels: Sequence[float] = _LEVELS,
        style: str = "behaviour",
        time: float = 0.0,
    ) -> Dataset:
        """Draws ratings of the responses that `conversations` returns for the same seed.

        Args:
            n: number of responses.
            raters_per_item: people who rate each response; the same people rate all its attributes.
            attributes: some of `ATTRIBUTES`.
            seed: of the data, at least 0; use another one for another time.
            responses_per_prompt: in 1..256.
            rounded: False for judgements before rounding, on a wider declared scale.
            levels: levels of the column `true_quantiles`, increasing, in (0, 1).
            style: one of `STYLES`.
            time: in [0, 1].

        Returns:
            n x len(attributes) rows in the canonical shape for ratings: `subset` is the kind of prompt and
            `group` its name. `true_mean` and `true_quantiles` are those of the distribution that the row's
            ratings are drawn from; for the quantiles, rounded ratings are dequantised by U(-1/2, 1/2).

        Raises:
            ArgumentError: an argument is out of range.
        """
        values = torch.as_tensor(levels, dtype=torch.float64)
        inside = values.ndim == 1 and len(values) > 0 and bool(((values > 0) & (values < 1)).all())
        if not inside or not bool((values.diff() > 0).all()):
            raise ArgumentError(f"levels must be a list of increasing numbers in (0, 1); got {levels}")
        if not attributes or len(set(attributes)) < len(attributes):
            raise ArgumentError(f"attributes must name at least one, each once; got {attributes!r}")
        items = self._items(n, seed, responses_per_prompt, style)
        judges = self._judges("ratings", n, raters_per_item, seed, time)
        name = self._name("ratings", seed, style)
        return tables.to_dataset(
            tables.rating_rows(name, items, judges, attributes, rounded=rounded, levels=values)
        )

    def category_votes(
        self,
        n: int,
        raters_per_item: int = 5,
        *,
        seed: int = 0,
        responses_per_prompt: int = 4,
        style: str = "behaviour",
        time: float = 0.0,
    ) -> Dataset:
        """Draws votes for one of the six categories, for the same responses as `ratings`.

        Args:
            n: number of responses.
            raters_per_item: votes per response.
            seed: of the data, at least 0; use another one for another time.
            responses_per_prompt: in 1..256.
            style: one of `STYLES`.
            time: in [0, 1].

        Returns:
            n rows in the canonical shape for ratings: `attribute` is "category", `ratings` are indices into
            `CATEGORIES`, `scale` is [0, 5]; and `true_probs`, the six exact probabilities. A label flip
            inverts both axes: index k becomes 5 - k.

        Raises:
            ArgumentError: an argument is out of range.
        """
        items = self._items(n, seed, responses_per_prompt, style)
        judges = self._judges("categories", n, raters_per_item, seed, time)
        return tables.to_dataset(tables.category_rows(self._name("categories", seed, style), items, judges))

    def votes(
        self,
        n: int,
        raters_per_item: int = 5,
        *,
        seed: int = 0,
        style: str = "behaviour",
        time: float = 0.0,
    ) -> Dataset:
        """Draws comparisons of two different responses to the same prompt.

        Args:
            n: number of comparisons.
            raters_per_item: votes per comparison; every rater judges both responses.
            seed: of the data, at least 0; use another one for another time.
            style: one of `STYLES`.
            time: in [0, 1].

        Returns:
            n rows in the canonical shape for comparisons (+1: a is better, -1: b is better; there are no
            ties), and `true_win`, the exact probability of a vote for a.

        Raises:
            ArgumentError: an argument is out of range.
        """
        return tables.to_dataset(self._votes("votes", n, raters_per_item, seed, style, time))

    def pairs(self, n: int, *, seed: int = 0, style: str = "behaviour", time: float = 0.0) -> Dataset:
        """Draws preference pairs: the comparisons of `votes`, decided by one person each.

        Args:
            n: number of pairs.
            seed: of the data, at least 0; use another one for another time.
            style: one of `STYLES`.
            time: in [0, 1].

        Returns:
            n rows in the canonical shape for pairs, and `true_win`, the exact probability that a person
            prefers the chosen response.

        Raises:
            ArgumentError: an argument is out of range.
        """
        return tables.to_dataset(tables.pair_rows(self._votes("pairs", n, 1, seed, style, time)))

    def describe(self, num_texts: int = 2000) -> dict[str, Any]:
        """Summarises the crowd and the behaviour policy.

        Args:
            num_texts: number of texts of the behaviour policy for the averages.

        Returns:
            Settings, sizes and averages, ready for JSON.
        """
        texts = self.conversations(num_texts)
        settings = {
            "population": dict(self.population),
            "shifted_population": dict(self.shifted_population),
            "raters": len(self.pool.ids),
            "noise": self.noise,
            "label_flips": self.label_flips,
            "bias": dict(self.bias),
        }
        return summary.describe(
            settings, texts, self.utilities(texts), self.gold(texts), self.harm_rate(texts)
        )

    def _weights(self, time: float) -> Tensor:
        if not 0 <= time <= 1:
            raise ArgumentError(f"time must be in [0, 1]; got {time}")
        start, end = (
            torch.tensor(list(shares.values()), dtype=torch.float64)
            for shares in (self.population, self.shifted_population)
        )
        return (1 - time) * start + time * end

    def _name(self, table: str, seed: int, style: str) -> str:
        return f"lab/{table}/{self.seed}.{seed}/{style}"

    def _items(self, n: int, seed: int, per_prompt: int, style: str) -> Items:
        return draw_items(n, "responses", self.seed, seed, per_prompt, style)

    def _judges(self, table: str, n: int, per_item: int, seed: int, time: float) -> Judges:
        return Judges(
            table,
            (self.seed, seed),
            n,
            per_item,
            pool=self.pool,
            stds=self._stds,
            weights=self._weights(time),
            bias=self.bias,
            label_flips=self.label_flips,
        )

    def _votes(
        self, table: str, n: int, per_item: int, seed: int, style: str, time: float
    ) -> list[tables.Row]:
        if not is_whole(n, 1):
            raise ArgumentError(f"n must be a whole number of at least 1; got {n!r}")
        both = draw_items(2 * n, "comparisons", self.seed, seed, 2, style)
        first, second = (Items(both.prompts[i::2], both.responses[i::2]) for i in (0, 1))
        judges = self._judges(table, n, per_item, seed, time)
        return tables.vote_rows(self._name(table, seed, style), first, second, judges)
