"""Six personas: what each sees in a text, what each values, and how much their judgements vary.

In:  traits [B, 8] and kinds of prompt (from `parser.read`).
Out: mean judgements [B, 6], one column per persona, for any attribute. `truth` turns them into ratings.

With `sat(x) = 1 - exp(-x)` and `words = min(length, LENGTH_CAP)`, a persona perceives

    helpfulness  accuracy * correctness + 1.5 sat(detail / appetite)
    safety       0.6 sat(caution) - strictness * sat(risk)
    courtesy     sat(courtesy / formality)
    conciseness  -max(0, words - patience) / 10 - 0.8 sat(filler / tolerance)
    verbosity    words / 10 + sat(filler / 2)          (the same for all)
    overall      sum over the first four of KIND_WEIGHTS[kind][a] * taste_a * grade_a

where grade_a is the perceived value minus the centre, divided by the spread of `SCALES`: about 0 +- 1 for
texts of the behaviour policy. Tastes can be negative, and each kind of prompt has its own weights. A
judgement is on the scale of ratings, where `ORDINARY` = 3 is an ordinary text:

    judgement    ORDINARY + grade - BROKEN * (1 - fluency) [only helpfulness and overall] + noise * e

with e standard normal: all personas share the penalty for words that do not parse. Longer is better within
the behaviour policy's range, because details need words, and worse beyond it.
The roles are those of Li et al. 2024 (arXiv 2402.09764); the formulas are this project's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.lab.parser import TRAITS

__all__ = ["ATTRIBUTES", "KIND_WEIGHTS", "PERSONAS", "POPULATION", "VALUED", "Persona", "mean_judgements"]


@dataclass(frozen=True)
class Persona:
    """One kind of person.

    Attributes:
        name: the persona's name.
        accuracy: weight of correctness in perceived helpfulness.
        appetite: number of details at which helpfulness from detail is 63 % saturated.
        strictness: weight of risky advice in perceived safety.
        formality: number of courtesies at which courtesy is 63 % saturated.
        patience: number of words above which a text is too long.
        tolerance: number of fillers at which annoyance is 63 % saturated.
        taste: weights of helpfulness, safety, courtesy and conciseness; negative for dislike.
        noise: standard deviation of every judgement, on the scale of ratings.
    """

    name: str
    accuracy: float
    appetite: float
    strictness: float
    formality: float
    patience: float
    tolerance: float
    taste: tuple[float, float, float, float]
    noise: float


PERSONAS: tuple[Persona, ...] = (
    Persona("scientist", 1.0, 3.0, 1.2, 1.0, 38, 1.0, (1.00, 0.60, 0.00, 0.20), 0.5),
    Persona("teacher", 0.8, 2.0, 1.6, 1.0, 40, 2.0, (0.80, 0.80, 0.35, 0.10), 0.6),
    Persona("politician", 0.3, 1.5, 1.0, 2.0, 42, 3.0, (0.50, 0.50, 0.90, 0.00), 0.8),
    Persona("teenager", 0.4, 0.8, 0.6, 0.7, 30, 0.8, (0.90, -0.40, -0.10, 0.45), 1.0),
    Persona("ceo", 0.8, 1.0, 0.8, 1.0, 32, 0.7, (0.75, 0.25, -0.15, 0.70), 0.7),
    Persona("artist", 0.2, 1.2, 0.5, 1.5, 42, 3.0, (0.60, -0.30, 0.80, 0.00), 0.9),
)
POPULATION: dict[str, float] = {
    "scientist": 0.15,
    "teacher": 0.20,
    "politician": 0.15,
    "teenager": 0.20,
    "ceo": 0.20,
    "artist": 0.10,
}

VALUED = ("helpfulness", "safety", "courtesy", "conciseness")
ATTRIBUTES: tuple[str, ...] = ("overall", *VALUED, "verbosity")
# kind of prompt -> weights of helpfulness, safety, courtesy and conciseness; they are equal for a request
# that is not one of this world.
KIND_WEIGHTS: dict[str, tuple[float, float, float, float]] = {
    "care": (1.5, 0.7, 0.7, 1.0),
    "craft": (0.8, 2.0, 0.5, 0.7),
    "transport": (0.9, 0.8, 0.6, 1.8),
    "gift": (0.7, 0.6, 1.8, 0.7),
    "": (1.0, 1.0, 1.0, 1.0),
}
# attribute -> (centre, spread) of the perceived values for texts of the behaviour policy, over personas
SCALES: dict[str, tuple[float, float]] = {
    "overall": (-0.15, 1.15),
    "helpfulness": (1.10, 0.65),
    "safety": (0.03, 0.35),
    "courtesy": (0.43, 0.33),
    "conciseness": (-0.20, 0.40),
    "verbosity": (2.4, 0.95),
}
ORDINARY = 3.0
BROKEN = 4.0
LENGTH_CAP = 64.0


def _column(field: str) -> Tensor:
    return torch.tensor([getattr(persona, field) for persona in PERSONAS], dtype=torch.float64)


def _saturate(x: Tensor) -> Tensor:
    return -torch.expm1(-x)


def _perceived(traits: Tensor, attribute: str) -> Tensor:
    t = dict(zip(TRAITS, traits.to(torch.float64).unsqueeze(-1).unbind(1), strict=True))  # each [B, 1]
    length = t["length"].clamp(max=LENGTH_CAP)
    if attribute == "helpfulness":
        return _column("accuracy") * t["correctness"] + 1.5 * _saturate(t["detail"] / _column("appetite"))
    if attribute == "safety":
        return 0.6 * _saturate(t["caution"]) - _column("strictness") * _saturate(t["risk"])
    if attribute == "courtesy":
        return _saturate(t["courtesy"] / _column("formality"))
    if attribute == "conciseness":
        too_long = (length - _column("patience")).clamp(min=0) / 10
        return -too_long - 0.8 * _saturate(t["filler"] / _column("tolerance"))
    return (length / 10 + _saturate(t["filler"] / 2)).expand(-1, len(PERSONAS))


def _grade(traits: Tensor, kinds: Sequence[str], attribute: str) -> Tensor:
    if attribute == "overall":
        rows = [KIND_WEIGHTS[kind] for kind in kinds]
        weights = torch.tensor(rows, dtype=torch.float64).reshape(-1, 1, len(VALUED))
        grades = torch.stack([_grade(traits, kinds, name) for name in VALUED], dim=-1)  # [B, 6, 4]
        seen = (weights * _column("taste") * grades).sum(-1)
    else:
        seen = _perceived(traits, attribute)
    centre, spread = SCALES[attribute]
    return (seen - centre) / spread


def mean_judgements(
    traits: Float[Tensor, "B 8"], kinds: Sequence[str], attribute: str = "overall"
) -> Float[Tensor, "B 6"]:
    """Computes every persona's mean judgement, before noise (the formulas above).

    Args:
        traits: as from `parser.read`.
        kinds: B kinds of prompt; empty for a request that is not one of this world.
        attribute: one of `ATTRIBUTES`.

    Returns:
        Means in float64, in the order of `PERSONAS`, on the scale of ratings but neither rounded nor clamped:
        larger is more of the attribute (for `overall`: better).

    Raises:
        ArgumentError: the attribute does not exist.
    """
    if attribute not in ATTRIBUTES:
        raise ArgumentError(f"attribute must be one of {', '.join(ATTRIBUTES)}; got {attribute!r}")
    means = ORDINARY + _grade(traits, kinds, attribute)
    if attribute in ("overall", "helpfulness"):
        means = means - BROKEN * (1 - traits[:, TRAITS.index("fluency"), None])
    return means
