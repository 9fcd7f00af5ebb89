"""The page and the Markdown of a comparison: what they hold, and that names cannot break them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("jinja2")

from pluralign.evaluation import compare
from pluralign.report.comparison import comparison_markdown, render_comparison


@pytest.fixture
def found():
    values = np.random.default_rng(0).normal(size=60)
    return compare({"<b>|x": values + 1, "plain": values, "third": values[::-1]}, np.arange(60) // 3)


def test_page_has_the_numbers_and_escapes_names(found):
    page = render_comparison([found])
    assert "&lt;b&gt;|x" in page
    assert "<b>|x" not in page
    assert page.count("<tr>") == 4
    assert "paired by row" in page
    assert "in 20 groups" in page
    assert page == render_comparison([found])


def test_markdown_is_a_table_of_equal_rows(found):
    lines = comparison_markdown([found, found]).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 10
    assert {line.replace(r"\|", "").count("|") for line in table} == {6}
    assert "<b>" not in comparison_markdown([found])
    assert sum(line.startswith("- ") for line in lines) == 6


def test_a_system_without_an_interval_is_a_dot(found):
    one = compare({"a": [1.0, 2.0], "b": [0.0, 1.0]}, ["g", "g"])
    page = render_comparison([one])
    assert page.count("<circle") == 2
    assert 'class="line"' not in page.partition("</style>")[2]
    assert "one group" not in comparison_markdown([found])
