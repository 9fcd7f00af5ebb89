"""Risk measures by name: from "cvar:0.1" to `CVaR(0.1)`, from "worst_case(cvar:0.1)" to `Nested`; `str`
converts back.
"""

from __future__ import annotations

import dataclasses
import re

from pluralign.errors import RiskError, did_you_mean
from pluralign.risk.measures import (
    UWO,
    BestCase,
    CVaR,
    Entropic,
    Exponential,
    Mean,
    MeanStd,
    Median,
    Nominal,
    Quantile,
    RiskMeasure,
    Robust,
    WorstCase,
)
from pluralign.risk.nested import Nested

__all__ = ["MEASURES", "parse"]

_LONGEST = 80  # characters of a measure that a message repeats
_NESTED = re.compile(r"(?P<outer>[^()]*)\((?P<inner>[^()]*)\)\s*")

MEASURES: dict[str, type[RiskMeasure]] = {
    measure.name: measure
    for measure in (
        Mean,
        Median,
        Quantile,
        CVaR,
        Entropic,
        Exponential,
        MeanStd,
        Nominal,
        WorstCase,
        BestCase,
        UWO,
        Robust,
    )
}


def parse(measure: str | RiskMeasure) -> RiskMeasure:
    """Converts a specification to a measure; a measure is returned unchanged.

    Args:
        measure: `name` or `name:parameter`, such as "mean", "cvar:0.1", "robust:0.5"; or `outer(inner)`, such
            as "worst_case(cvar:0.1)": the inner one for each member of an ensemble, the outer one over the
            members.

    Raises:
        RiskError: if the name is unknown (the message lists all names and the nearest), the parameter is
            missing, too many, not a number or out of range; or the inner measure compares members itself.

    >>> parse("cvar:0.1")
    CVaR(fraction=0.1)
    """
    if isinstance(measure, RiskMeasure):
        return measure
    if not isinstance(measure, str):
        raise RiskError(f"a risk measure is a string or a RiskMeasure, received {type(measure).__name__}")
    if "(" in measure or ")" in measure:
        parts = _NESTED.fullmatch(measure)
        if parts is None:
            raise RiskError(
                f"risk measure {_quoted(measure)}: write a nested one as OUTER(INNER), such as "
                "worst_case(cvar:0.1), with one measure inside"
            )
        return Nested(parse(parts["outer"]), parse(parts["inner"]))
    name, *given = (part.strip() for part in measure.split(":"))
    if name not in MEASURES:
        known = [_usage(m) for m in MEASURES]
        hint = did_you_mean(name, MEASURES)
        raise RiskError(
            f"unknown risk measure {_quoted(measure)}{hint}; known: {', '.join(known)}",
            allowed=known,
        )
    if len(given) != len(dataclasses.fields(MEASURES[name])):
        raise RiskError(f"risk measure {_quoted(measure)}: write it as {_usage(name)}")
    try:
        return MEASURES[name](*map(float, given))
    except ValueError as error:
        if isinstance(error, RiskError):
            raise
        raise RiskError(
            f"risk measure {_quoted(measure)}: the parameter must be a number, as in {_usage(name)}"
        ) from error


def _quoted(measure: str) -> str:
    return repr(measure if len(measure) <= _LONGEST else f"{measure[:_LONGEST]}...")


def _usage(name: str) -> str:
    return ":".join([name, *(f"<{field.name}>" for field in dataclasses.fields(MEASURES[name]))])
