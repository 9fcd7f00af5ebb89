"""What the page says of a model before anybody asks: its attributes, its gate, which measures apply.

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
    """

    name: str
    low: float
    high: float
    categories: tuple[str, ...] = ()


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
        names = tuple(held.names) if held is not None else ()
        scales.append(Scale(attribute.name, attribute.low, attribute.high, names))
    return Facts(
        folder,
        "model",
        predictor.default_risk,
        tuple(scales),
        head.has_gate,
        head.has_heads(head.spec()),
        personas,
    )
