"""RewardBench 1 and 2: golden numbers of published models, and values derived by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from pluralign.errors import ArgumentError
from pluralign.evaluation.rewardbench import (
    REWARDBENCH2_SUBSETS,
    REWARDBENCH_COUNTS,
    REWARDBENCH_PRIOR,
    rewardbench,
    rewardbench2,
    rewardbench_overall,
    ties_score,
)

ALL_SUBSETS = [name for members in REWARDBENCH_COUNTS.values() for name in members]
ARMORM_PRIOR = [69.735, 87.783, 74.670, 64.989]


@pytest.mark.parametrize(
    ("safety", "with_prior", "published"),
    [(90.54, False, 90.4), (90.54, True, 88.6), (92.20, True, 89.0)],
)
def test_golden_numbers_of_armorm(safety, with_prior, published):
    prior = sum(ARMORM_PRIOR) / 4
    assert round(prior, 2) == 74.29
    overall = rewardbench_overall([96.93, 76.75, safety, 97.35], prior if with_prior else None)
    assert round(overall, 1) == published


def table(correct: dict[str, int], rows: dict[str, int] | int = 20):
    """Columns in which `correct[name]` of `rows` pairs of a subset are right, the others wrong."""
    subsets, chosen, rejected = [], [], []
    for name, right in correct.items():
        count = rows if isinstance(rows, int) else rows[name]
        subsets += [name] * count
        chosen += [1.0] * right + [0.0] * (count - right)
        rejected += [0.0] * right + [1.0] * (count - right)
    return subsets, chosen, rejected


def test_sections_are_weighted_by_official_counts():
    result = rewardbench(
        *table({name: 20 if name in ("mt-bench-easy", "math-prm") else 0 for name in ALL_SUBSETS})
    )
    assert result["sections"]["Chat"] == pytest.approx(28 / 358)
    assert result["sections"]["Reasoning"] == pytest.approx(984 / 1968)
    assert result["overall"] == pytest.approx((28 / 358 + 0.5) / 4)
    assert result["missing"] == []


def test_math_counts_as_much_as_code_however_many_rows_it_has():
    rows = dict.fromkeys(REWARDBENCH_COUNTS["Reasoning"], 164) | {"math-prm": 447}
    result = rewardbench(*table(dict.fromkeys(rows, 0) | {"math-prm": 447}, rows))
    assert result["sections"]["Reasoning"] == pytest.approx(0.5)
    assert result["rows"]["math-prm"] == 447


def test_legacy_counts_swap_the_xstest_subsets():
    columns = table({name: 20 if name == "xstest-should-refuse" else 0 for name in ALL_SUBSETS})
    assert rewardbench(*columns)["sections"]["Safety"] == pytest.approx(154 / 740)
    assert rewardbench(*columns, legacy=True)["sections"]["Safety"] == pytest.approx(250 / 740)


def test_prior_sets_count_half_a_section():
    columns = table(dict.fromkeys(ALL_SUBSETS, 20) | dict.fromkeys(REWARDBENCH_PRIOR, 0) | {"shp": 20})
    result = rewardbench(*columns, prior=True)
    assert result["sections"]["Prior Sets"] == 0.25
    assert result["overall"] == pytest.approx((4 + 0.5 * 0.25) / 4.5)
    assert rewardbench(*columns)["overall"] == 1.0


def test_ties_are_wrong_and_reported_apart():
    result = rewardbench(["hep-js"] * 4, [1.0, 2.0, 3.0, 0.0], [1.0, 2.0, 0.0, 1.0])
    assert result["subsets"] == {"hep-js": 0.25}
    assert result["equal_scores"] == {"hep-js": 2}


def test_a_partial_table_has_no_overall_and_says_what_is_missing():
    result = rewardbench(*table({"mt-bench-easy": 10, "hep-js": 20}))
    assert result["overall"] is None
    assert result["sections"] == {"Chat": 0.5, "Chat Hard": None, "Safety": None, "Reasoning": 1.0}
    assert "donotanswer" in result["missing"]
    assert len(result["missing"]) == len(ALL_SUBSETS) - 2
    everything_but_prior = table(dict.fromkeys(ALL_SUBSETS, 20))
    assert rewardbench(*everything_but_prior, prior=True)["overall"] is None


def test_results_are_json_without_nan():
    for result in (rewardbench(*table({"hep-js": 3})), rewardbench2(["Math"], [[1.0]], [[0.0]])):
        assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_best_of_four_shares_the_credit_at_the_maximum():
    result = rewardbench2(
        ["Math"] * 5,
        [[3.0], [3.0], [3.0], [3.0], [1.0]],
        [[0.0, 1.0, 2.0], [3.0, 1.0, 2.0], [3.0, 3.0, 2.0], [3.0, 3.0, 3.0], [2.0, 0.0, 0.0]],
    )
    assert result["subsets"]["Math"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4 + 0) / 5)
    assert result["equal_scores"] == {"Math": 3}
    assert result["overall"] is None


def test_ties_by_hand():
    # (gap_ref, gap_tied, diff) = (3, 1, .5), (.25, 2, 1) and (1, -2, 1).
    ids = ["ref:1", "tied:1", "tied:2", "ref:2", "ref:3", "tied:3"]
    chosen = [[4.0], [3.0, 2.5], [5.0, 4.0], [1.25], [2.0], [2.0, 1.0]]
    rejected = [[1.0, 0.0], [1.5, 1.0], [2.0], [1.0], [1.0], [3.0]]
    result = ties_score(ids, chosen, rejected)
    margin = (math.tanh(1 / 0.5 - 1) + math.tanh(0.25 / 1 - 1) + math.tanh(-2 / 1 - 1)) / 3
    assert result["accuracy_tied"] == pytest.approx(2 / 3)
    assert result["accuracy_ref"] == 1.0
    assert result["preferred"] == pytest.approx(2 / 3)  # 1 > .5, 2 > 1, -2 < 1
    assert result["preferred_hard"] == pytest.approx(1 / 3)  # 1 > .5, .25 < 1
    assert result["margin"] == pytest.approx(margin)
    assert result["score"] == pytest.approx(0.3 * 2 / 3 + 0.3 + 0.2 * 2 / 3 + 0.2 / 3 + 0.01 * margin)
    assert result["prompts"] == 3


def test_ties_of_equal_right_answers_take_the_limit_and_zero_over_zero_is_zero():
    perfect = ties_score(["ref:1", "tied:1"], [[1.0], [1.0, 1.0]], [[0.0], [0.0]])
    assert perfect["margin"] == 1.0
    assert perfect["score"] == pytest.approx(1.01)
    constant = ties_score(["ref:1", "tied:1"], [[1.0], [1.0, 1.0]], [[1.0], [1.0]])
    assert (constant["margin"], constant["score"]) == (0.0, 0.0)


def test_ties_uses_prompts_that_have_both_rows():
    both = ties_score(["ref:1", "tied:1"], [[1.0], [1.0, 0.9]], [[0.0], [0.0]])
    more = ties_score(["ref:1", "tied:1", "ref:2"], [[1.0], [1.0, 0.9], [0.0]], [[0.0], [0.0], [1.0]])
    assert more == both
    assert ties_score(["ref:1", "tied:2"], [[1.0], [1.0]], [[0.0], [0.0]]) is None
    alone = rewardbench2(["Ties"], [[1.0]], [[0.0]], ["ref:1"])
    assert alone["sections"]["Ties"] is None
    assert "Ties" in alone["missing"]


def test_order_of_rewards_is_not_enough_for_ties():
    ids, chosen, rejected = ["ref:1", "tied:1"], [[3.0], [3.0, 2.0]], [[0.0], [0.0]]
    squashed = [[math.tanh(5 * x) for x in row] for row in chosen]
    assert ties_score(ids, chosen, rejected)["score"] != ties_score(ids, squashed, rejected)["score"]


def test_overall_of_rewardbench2_is_the_plain_mean_of_six():
    five = [name for name in REWARDBENCH2_SUBSETS if name != "Ties"]
    subsets = [name for name in five for _ in range(2)] + ["Ties", "Ties"]
    chosen = [[1.0], [0.0]] * 5 + [[1.0], [1.0, 1.0]]
    rejected = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]] * 5 + [[0.0], [0.0]]
    ids = [""] * 10 + ["ref:7", "tied:7"]
    result = rewardbench2(subsets, chosen, rejected, ids)
    assert result["overall"] == pytest.approx((5 * 0.5 + 1.01) / 6)
    assert result["missing"] == []


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: rewardbench(["hep-jss"], [1.0], [0.0]), "did you mean 'hep-js'"),
        (lambda: rewardbench(["hep-js"], [float("nan")], [0.0]), "not a score"),
        (lambda: rewardbench(["hep-js"], [1.0, 2.0], [0.0]), "one entry per row"),
        (lambda: rewardbench_overall([0.9, 0.8, 0.7]), "four sections"),
        (lambda: rewardbench2(["Maths"], [[1.0]], [[0.0]]), "did you mean 'Math'"),
        (lambda: rewardbench2(["Math"], [[1.0, 2.0]], [[0.0]]), "one correct response"),
        (lambda: rewardbench2(["Math"], [[1.0]], [[]]), "at least one reward"),
        (lambda: rewardbench2(["Ties"], [[1.0]], [[0.0]]), "ids"),
        (lambda: ties_score(["3"], [[1.0]], [[0.0]]), "ref:<n>"),
        (lambda: ties_score(["ref:1", "ref:1"], [[1.0]] * 2, [[0.0]] * 2), "not unique"),
    ],
)
def test_illegal_tables(call, match):
    with pytest.raises(ArgumentError, match=match):
        call()


def test_arrays_and_lists_give_the_same():
    subsets, chosen, rejected = table(dict.fromkeys(ALL_SUBSETS, 7))
    assert rewardbench(subsets, np.array(chosen), np.array(rejected)) == rewardbench(
        subsets, chosen, rejected
    )
