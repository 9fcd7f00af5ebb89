"""Specifications: read, written back, refused with a helpful message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluralign import risk
from pluralign.errors import RiskError

CANONICAL = {
    "mean": risk.Mean(),
    "median": risk.Median(),
    "quantile:0.05": risk.Quantile(0.05),
    "cvar:0.1": risk.CVaR(0.1),
    "entropic:1": risk.Entropic(1.0),
    "entropic:-2.5": risk.Entropic(-2.5),
    "exponential:1e-05": risk.Exponential(1e-5),
    "mean_std:2": risk.MeanStd(2.0),
    "nominal": risk.Nominal(),
    "worst_case": risk.WorstCase(),
    "best_case": risk.BestCase(),
    "uwo:0.5": risk.UWO(0.5),
    "robust:0.4": risk.Robust(0.4),
}


@pytest.mark.parametrize("text", CANONICAL)
def test_text_to_measure_and_back(text):
    assert risk.parse(text) == CANONICAL[text]
    assert str(risk.parse(text)) == text


def test_the_table_holds_every_measure_under_its_name():
    concrete = set(risk.RiskMeasure.__subclasses__()) - {risk.Nested}  # made of two of them
    assert set(risk.MEASURES.values()) == concrete
    assert {text.split(":")[0] for text in CANONICAL} == set(risk.MEASURES)
    assert all(measure.name == name for name, measure in risk.MEASURES.items())


@given(st.floats(min_value=0, max_value=1, exclude_min=True))
def test_every_parameter_survives_the_round_trip(value):
    measure = risk.CVaR(value)
    assert risk.parse(str(measure)) == measure


def test_spaces_and_other_spellings_of_a_number():
    assert risk.parse(" cvar : .10 ") == risk.CVaR(0.1)
    assert str(risk.parse("entropic:1.0")) == "entropic:1"
    assert str(risk.MeanStd(1)) == "mean_std:1"


def test_a_measure_is_returned_as_it_is():
    measure = risk.CVaR(0.3)
    assert risk.parse(measure) is measure


def test_measures_are_values():
    assert len({risk.CVaR(0.1), risk.CVaR(0.1), risk.Mean(), risk.Mean()}) == 2
    with pytest.raises(AttributeError):
        risk.CVaR(0.1).fraction = 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cvarr:0.1", r"unknown risk measure 'cvarr:0.1' \(did you mean 'cvar'\?\); known: mean"),
        ("worstcase", r"did you mean 'worst_case'\?"),
        ("zzz", "known: .*robust:<weight>$"),
        ("", "unknown"),
        ("cvar", "write it as cvar:<fraction>"),
        ("cvar:", "must be a number"),
        ("cvar:0.1:0.2", "write it as cvar:<fraction>"),
        ("mean:1", "write it as mean$"),
        ("cvar:low", "must be a number"),
        ("cvar:0", r"parameter of cvar must be a fraction in \(0, 1\], received 0.0"),
        ("cvar:1.01", "fraction"),
        ("cvar:nan", "fraction"),
        ("quantile:0", r"level in \(0, 1\)"),
        ("quantile:1", "level"),
        ("entropic:inf", "finite"),
        ("exponential:0", "positive"),
        ("exponential:-1", "positive"),
        ("exponential:inf", "positive"),
        ("mean_std:nan", "finite"),
        ("uwo:inf", "finite"),
        ("robust:-0.1", r"weight in \[0, 1\]"),
        ("robust:1.1", "weight"),
        (0.1, "received float"),
        (None, "received NoneType"),
    ],
)
def test_bad_specifications(text, message):
    with pytest.raises(RiskError, match=message):
        risk.parse(text)
    with pytest.raises(ValueError):
        risk.parse(text)
