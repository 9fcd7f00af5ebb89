"""Facts about a model that the page shows before any text is scored: its attributes, its gate, which measures
apply.

In: a `Predictor`. Out: `Facts`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pluralign.server.scoring import Predictor

__all__ = ["Facts", "Scale", "facts_of"]


@dataclass(frozen=True)
class Scale:
    """One attribute.

    Attributes:
        name: as in the data.
        low: the lowest rating.
        high: the highest rating.
        categories: names of its categories, in the order of their ratings; empty where it has none.
        objections: those of them that are worth less than an average response.
    """

    name: str
    low: float
    high: float
    categories: tuple[str, ...] = ()
    objections: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """A model.

    Attributes:
        name: of its folder, as it was given; None where there is none.
        kind: `model`, `combination` or `scorer`, which is anything else.
        risk: the measure that it is served with.
        attributes: in order; empty where weights and steering act on nothing.
        has_gate: whether weights of attributes were learned and depend on the prompt.
        compares_members: whether measures that compare members apply; None where that is not known.
        personas: names of groups of people.
    """

    name: str | None
    kind: str
    risk: str
    attributes: tuple[Scale, ...] = ()
    has_gate: bool = False
    compares_members: bool | None = None
    personas: tuple[str, ...] = ()


def facts_of(predictor: Predictor, folder: str | None) -> Facts:
    """The facts of what a predictor scores with.

    Args:
        predictor: it.
        folder: the model's, as it was given; None where there is none.
    """
    scorer, personas = predictor.scorer, tuple(predictor.personas)
    head = getattr(scorer, "head", None)
    if not predictor.has_head or head is None:
        sources = getattr(scorer, "sources", ())
        kind = "combination" if sources else "scorer"
        named = personas or tuple(f"source {place + 1}" for place in range(len(sources)))
        return Facts(folder, kind, predictor.default_risk, personas=named)
    scales = []
    for attribute in head.attributes:
        held = head.categories_of(attribute.name)
        worth = dict(zip(held.names, held.rewards, strict=True)) if held is not None else {}
        bad = tuple(name for name, reward in worth.items() if reward < head.reference.mean)
        scales.append(Scale(attribute.name, attribute.low, attribute.high, tuple(worth), bad))
    return Facts(
        folder,
        "model",
        predictor.default_risk,
        tuple(scales),
        head.has_gate,
        head.has_heads(head.spec()),
        personas,
    )
