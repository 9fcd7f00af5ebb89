"""Gate weights in results: averages by subset and entropy, from numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pluralign.evaluation.summary import summarise_gate


def test_averages_and_entropy():
    columns = {
        "subset": ["care", "gift", "care"],
        "gate_help": np.array([1.0, 0.5, 0.5]),
        "gate_safe": np.array([0.0, 0.5, 0.5]),
    }
    summary = summarise_gate(columns)
    assert summary["weights"] == {"help": pytest.approx(2 / 3), "safe": pytest.approx(1 / 3)}
    assert summary["subsets"] == {
        "care": {"help": 0.75, "safe": 0.25},
        "gift": {"help": 0.5, "safe": 0.5},
    }
    assert (summary["rows"], summary["subset_rows"]) == (3, {"care": 2, "gift": 1})
    assert summary["entropy"] == pytest.approx(2 / 3 * math.log(2))
    assert summary["entropy_share"] == pytest.approx(2 / 3)


def test_a_model_without_a_gate_has_nothing_to_show():
    assert summarise_gate({"subset": ["a"], "utility": np.array([1.0])}) == {}
