"""Risk measures: from a reward distribution to a utility, `parse("cvar:0.1")(d)` or `CVaR(0.1)(d)`."""

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
from pluralign.risk.parsing import MEASURES, parse
from pluralign.risk.robust_weight import robust_weight_from_disagreement, robust_weight_from_ratings

__all__ = [
    "MEASURES",
    "UWO",
    "BestCase",
    "CVaR",
    "Entropic",
    "Exponential",
    "Mean",
    "MeanStd",
    "Median",
    "Nested",
    "Nominal",
    "Quantile",
    "RiskMeasure",
    "Robust",
    "WorstCase",
    "parse",
    "robust_weight_from_disagreement",
    "robust_weight_from_ratings",
]
