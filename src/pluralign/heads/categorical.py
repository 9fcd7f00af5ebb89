"""The categorical family (DPRM): probabilities of ordered categories per attribute on a frozen backbone.

In: embeddings of responses [N, D]. Out: `Categorical` per attribute, and their mix. A category stands for a
rating on the attribute's scale and for a reward; the mix is over rewards.

Fitted on comparisons it has one attribute, `preference`, and predicts the votes that a response would get
against an opponent of score 0, the average training response:

    P(loses), P(tie), P(wins)  proportional to  exp(-s/2), v, exp(s/2)

That is Davidson's model of ties, so that two such distributions determine everything about their pair: the
log-odds of winning is s, and P(a), P(tie), P(b) are proportional to exp(d/2), v, exp(-d/2) with d = s_a -
s_b. Swapping the responses swaps P(a) and P(b) and leaves P(tie) unchanged.

Fitted on the votes that each side received, its categories are the same three, and pairs are predicted by the
same formula, with s the log-odds of winning and v fitted to the ties of the comparisons. (Two sides are not
independent: that would turn 12 % of ties into 40 %.)

Paper: Li et al. 2024 (DPRM), arXiv 2402.09764; Davidson 1970 (JASA 65). Gate, bins and the comparison with an
average opponent are this project's.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pluralign.distributions import Categorical, RewardDistribution
from pluralign.errors import ArgumentError
from pluralign.heads import category_mix, schema
from pluralign.heads.base import RAW_UNITS, Attribute, Reference
from pluralign.heads.categories import Categories
from pluralign.heads.debias import Debias
from pluralign.heads.gate import Gate
from pluralign.heads.linearity import Linearity
from pluralign.heads.mixed import Mix, MixedHead
from pluralign.heads.scaling import ColumnScaling
from pluralign.heads.steering import Steering

__all__ = ["CategoricalHead", "CategoryLogits", "ComparisonLogits"]

_MIXES = {"vincentize": category_mix.vincentize, "mixture": category_mix.mixture}


class CategoryLogits(nn.Module):
    """Logits of C categories, linear in the embedding or with one hidden layer; 0 weights at the start.

    Args:
        width: D.
        num_categories: C.
        hidden: units of the hidden layer; 0 for none.
    """

    def __init__(self, width: int, num_categories: int, hidden: int = 0) -> None:
        super().__init__()
        self.body = _body(width, hidden)
        self.out = nn.Linear(hidden or width, num_categories)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, scaled: Float[Tensor, "N D"]) -> Float[Tensor, "N C"]:
        """Logits; softmax gives the probabilities."""
        return self.out(self.body(scaled))  # type: ignore[no-any-return]


class ComparisonLogits(nn.Module):
    """Logits (-s/2, log v, s/2) of losing, tying and winning against the average training response.

    Args:
        width: D.
        hidden: units of the hidden layer of the score; 0 for none.
    """

    center: Tensor

    def __init__(self, width: int, hidden: int = 0) -> None:
        super().__init__()
        self.body = _body(width, hidden)
        self.out = nn.Linear(hidden or width, 1, bias=False)
        nn.init.zeros_(self.out.weight)
        self.log_tie = nn.Parameter(torch.zeros(()))
        self.register_buffer("center", torch.zeros(()))

    def score(self, scaled: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
        """s, the log-odds of winning against the average training response."""
        return self.out(self.body(scaled))[:, 0] - self.center  # type: ignore[no-any-return]

    def logits(self, difference: Float[Tensor, " N"]) -> Float[Tensor, "N 3"]:
        """Logits of (loses, tie, wins) for a difference of scores."""
        half = 0.5 * difference
        return torch.stack([-half, self.log_tie.expand_as(half), half], -1)

    def forward(self, scaled: Float[Tensor, "N D"]) -> Float[Tensor, "N 3"]:
        """Logits against an opponent of score 0."""
        return self.logits(self.score(scaled))


def _body(width: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU()) if hidden else nn.Identity()


class CategoricalHead(MixedHead):
    """p_a(z) = softmax(logits_a(z)) on scaled embeddings z.

    Args:
        scaling: the column scaling that the weights refer to.
        logits: A modules, one per attribute; a single `ComparisonLogits` for a head fitted on comparisons.
        categories: A of them, of the sizes of the logits.
        attributes: A of them, with their original scales.
        reference: the unit of reward.
        hidden: units of the hidden layer of every module; 0 for linear ones.
        gate: weights by prompt; None for equal weights.
        debias: what is subtracted from the attributes before they are mixed; None for nothing.
        mix: `vincentize` or `mixture`, exact both.
        log_tie: log v of a head fitted on the votes that each side received; None for any other.

    Raises:
        ArgumentError: parts that do not fit together.
    """

    family = "categorical"
    reads_categories = True

    def __init__(
        self,
        scaling: ColumnScaling,
        logits: list[CategoryLogits] | list[ComparisonLogits],
        categories: tuple[Categories, ...],
        attributes: tuple[Attribute, ...],
        reference: Reference = RAW_UNITS,
        *,
        hidden: int = 0,
        gate: Gate | None = None,
        debias: Debias | None = None,
        mix: Mix = "vincentize",
        log_tie: float | None = None,
    ) -> None:
        super().__init__(scaling, attributes, reference, gate, debias, mix)
        if not len(logits) == len(categories) == len(attributes):
            raise ArgumentError(
                f"{len(logits)} modules and {len(categories)} lists of categories do not fit "
                f"{len(attributes)} attributes"
            )
        if debias is not None and debias.coupling == "parity":
            raise ArgumentError("debias by parity subtracts levels, and categories have none; use shift")
        self.categories = categories
        self.hidden = hidden
        self.logits = nn.ModuleList(logits)
        self.log_tie = log_tie
        if self.predicts_ties and (len(logits), len(categories[0])) != (1, 3):
            raise ArgumentError("a head fitted on comparisons has one attribute of three categories")

    @property
    def comparison(self) -> ComparisonLogits | None:
        """The model of comparisons, where the head was fitted on them."""
        first = self.logits[0]
        return first if isinstance(first, ComparisonLogits) else None

    @property
    def predicts_ties(self) -> bool:
        """Whether it was fitted on comparisons, so that `comparison_probs` applies."""
        return self.comparison is not None or self.log_tie is not None

    def categories_of(self, attribute: str) -> Categories:
        """The categories of an attribute, by its name."""
        return self.categories[[a.name for a in self.attributes].index(attribute)]

    def probs(self, response: Float[Tensor, "N D"]) -> list[Float[Tensor, "N C"]]:
        """Probabilities of each attribute's categories, in the order of `categories`."""
        scaled = self.scaling(response)
        return [module(scaled).softmax(-1) for module in self.logits]

    def attribute_means(
        self, response: Float[Tensor, "N D"], length: Float[Tensor, " N"] | None = None
    ) -> Float[Tensor, "N A"]:
        """Scalar rewards sum_k p_k R_k per attribute on the [0, 1] scale, debiased."""
        means = self._means(self.probs(response))
        return means if self.debias is None else means + self.debias.shift(means, length)

    def attribute_distributions(self, response: Float[Tensor, "N D"]) -> dict[str, RewardDistribution]:
        """One `Categorical` per attribute over the ratings that its categories stand for: not debiased."""
        return {
            a.name: Categorical(probs, probs.new_tensor(c.values), validate=False)
            for a, c, probs in zip(self.attributes, self.categories, self.probs(response), strict=True)
        }

    def preference_probability(
        self, chosen: RewardDistribution, rejected: RewardDistribution
    ) -> Float[Tensor, " N"]:
        """P(a) + P(tie) / 2 of the pair; from ratings, P(R1 > R2) + P(R1 = R2) / 2 of independent raters."""
        votes = self.vote_probabilities(chosen, rejected)
        if votes is None:
            return super().preference_probability(chosen, rejected)
        return votes[:, 0] + 0.5 * votes[:, 1]

    def vote_probabilities(
        self, first: RewardDistribution, second: RewardDistribution
    ) -> Float[Tensor, "N 3"] | None:
        """`comparison_probs` of a head fitted on comparisons; None from ratings."""
        return self.comparison_probs(first, second) if self.predicts_ties else None

    def comparison_probs(self, first: RewardDistribution, second: RewardDistribution) -> Float[Tensor, "N 3"]:
        """P(a), P(tie), P(b) for two batches of distributions from a head fitted on comparisons.

        Exactly symmetric: swapping the arguments reverses each row bit for bit.

        Args:
            first: distributions of responses a, as returned by `distribution`.
            second: distributions of responses b.

        Raises:
            ArgumentError: the head was fitted on ratings, or the distributions are not its own.
        """
        if (
            not self.predicts_ties
            or not isinstance(first, Categorical)
            or not isinstance(second, Categorical)
            or not len(first) == len(second)
            or not first.probs.shape[1] == second.probs.shape[1] == 3
        ):
            raise ArgumentError(
                "comparison_probs needs a head fitted on comparisons, and two batches of its distributions"
            )
        half = 0.5 * (_log_odds(first) - _log_odds(second))
        known = self.log_tie if self.comparison is None else self.comparison.log_tie
        log_tie = torch.as_tensor(known, dtype=half.dtype, device=half.device)
        largest = torch.maximum(half.abs(), log_tie)
        a, b, tie = (half - largest).exp(), (-half - largest).exp(), (log_tie - largest).exp()
        return torch.stack([a, tie, b], -1) / ((a + b) + tie).unsqueeze(-1)

    def spec(self) -> dict[str, Any]:
        """Shapes, scales, units and the mapping from ratings to categories and rewards."""
        own = {
            "categories": [asdict(c) for c in self.categories],
            "hidden": self.hidden,
            "compares": self.comparison is not None,
        }
        ties = {} if self.log_tie is None else {"log_tie": self.log_tie}
        return self._base_spec(len(self.scaling.center)) | own | ties | self._mixing_spec()

    @classmethod
    def check_spec(cls, spec: Any, where: str) -> None:
        """Raises `ArtifactError` unless `spec()` could have returned `spec`."""
        own = {
            "categories": schema.listed(Categories.check_spec, 1),
            "hidden": schema.whole(0),
            "compares": schema.flag,
        }
        may = {"log_tie": schema.number()}
        schema.record(cls._base_schema(1) | own | cls._mixing_schema(), may)(spec, where)
        categories, count = spec["categories"], len(spec["attributes"])
        if len(categories) != count:
            raise schema.refuse(f"{where}.categories", categories, f"{count} of them, as attributes")
        if spec["compares"] and (count, len(categories[0]["names"])) != (1, 3):
            raise schema.refuse(f"{where}.compares", True, "false, but for one attribute of three categories")
        if "log_tie" in spec and (spec["compares"] or (count, len(categories[0]["names"])) != (1, 3)):
            raise schema.refuse(
                f"{where}.log_tie",
                spec["log_tie"],
                "only for one attribute of three categories, not compared",
            )
        if spec["debias"] is not None and spec["debias"]["coupling"] == "parity":
            raise schema.refuse(f"{where}.debias.coupling", "parity", "shift, in this family")
        cls._check_mixing(spec, where)

    @classmethod
    def tensor_shapes(cls, spec: dict[str, Any]) -> schema.TensorShapes:
        """Dtype and shape of every tensor of a head with this checked `spec`."""
        found, width, hidden = cls._mixing_shapes(spec), spec["width"], spec["hidden"]
        for place, categories in enumerate(spec["categories"]):
            shapes: dict[str, tuple[int, ...]] = {}
            if hidden:
                shapes |= {"body.0.weight": (hidden, width), "body.0.bias": (hidden,)}
            if spec["compares"]:
                shapes |= {"out.weight": (1, hidden or width), "log_tie": (), "center": ()}
            else:
                count = len(categories["names"])
                shapes |= {"out.weight": (count, hidden or width), "out.bias": (count,)}
            found |= {f"logits.{place}.{name}": (torch.float32, shape) for name, shape in shapes.items()}
        return found

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """An empty head of the stored shape, to load a state dict into."""
        width, hidden = spec["width"], spec["hidden"]
        categories = tuple(Categories.from_spec(entry) for entry in spec["categories"])
        logits: list[Any] = [
            ComparisonLogits(width, hidden) if spec["compares"] else CategoryLogits(width, len(c), hidden)
            for c in categories
        ]
        return cls(
            ColumnScaling.empty(width),
            logits,
            categories,
            hidden=hidden,
            log_tie=spec.get("log_tie"),
            **cls._read_base(spec),
            **cls._read_mixing(spec),
        )

    def _attribute_linearity(self) -> Linearity:
        return Linearity(obstacle="its probabilities are a softmax of the response's vector")

    def _means(self, probs: list[Tensor]) -> Tensor:
        return torch.stack(
            [p @ p.new_tensor(c.rewards) for p, c in zip(probs, self.categories, strict=True)], 1
        )

    def _mixed(
        self, response: Tensor, length: Tensor | None, weights: Tensor, steering: Steering
    ) -> RewardDistribution:
        probs = self.probs(response)
        means = self._means(probs)
        shift = torch.zeros_like(means) if self.debias is None else self.debias.shift(means, length)
        parts = []
        for i, (p, categories) in enumerate(zip(probs, self.categories, strict=True)):
            atoms = p.new_tensor(categories.rewards) + shift[:, i : i + 1]
            if i in steering.measures:
                utility = steering.measures[i](Categorical(p, atoms, validate=False))
                p, atoms = torch.ones_like(p[:, :1]), utility.unsqueeze(1)
            parts.append((p, atoms))
        if len(parts) == 1:  # keeps the original categories
            return Categorical(*parts[0], validate=False)
        return _MIXES[self.mix](parts, weights.to(means))


def _log_odds(distribution: Categorical) -> Tensor:
    """log P(wins) - log P(loses): s of a response that was compared with an opponent of score 0."""
    tiny = torch.finfo(distribution.probs.dtype).tiny
    return distribution.probs[:, 2].clamp_min(tiny).log() - distribution.probs[:, 0].clamp_min(tiny).log()
