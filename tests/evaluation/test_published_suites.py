"""`evaluate_suite`: published layouts, golden numbers, and files that are not as they should be."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import pluralign as pl
from fake_backbone import WIDTH, FakeBackbone, pairs_rows
from pluralign.errors import ArgumentError, ArtifactError, DataError, RiskError
from pluralign.evaluation import best_of_n, rewardbench, rewardbench2, rm_bench
from pluralign.evaluation.pair_suites import judgebench, llmbar
from pluralign.evaluation.rewardbench import REWARDBENCH_COUNTS, REWARDBENCH_PRIOR
from pluralign.evaluation.suites import SUITES, evaluate_suite, rescore_suite
from pluralign.heads import BradleyTerryHead, ColumnScaling


class Spread:
    """A uniform reward whose centre and half width are the first two numbers of the response."""

    def __init__(self):
        self.scored = 0

    def distribution(self, conversations):
        self.scored += len(conversations)
        numbers = [list(map(float, c[-1]["content"].split()[:2])) for c in conversations]
        centre, half = torch.tensor(numbers, dtype=torch.float64).T
        levels = torch.arange(1, 20, dtype=torch.float64) / 20
        return pl.Quantiles(centre[:, None] + half[:, None] * (2 * levels - 1), levels)


def said(score: float, half: float = 0.1, words: str = "") -> str:
    return f"{score:.6f} {half:.6f} {words}"


def main(results) -> dict:
    return next(iter(results["suite"]["scores"].values()))


def pair_row(i, chosen, rejected, **more):
    return {"id": i, "prompt": f"question {i}", "chosen": said(chosen), "rejected": said(rejected), **more}


# -- RewardBench ------------------------------------------------------------------------------------


def armorm_rows():
    """Published section scores of ArmoRM as rows: every subset of a section has its share right."""
    shares = {"Chat": 0.9693, "Chat Hard": 0.7675, "Safety": 0.9054, "Reasoning": 0.9735}
    rows = []
    for section, members in REWARDBENCH_COUNTS.items():
        for subset in members:
            for i in range(500):
                right = i < round(500 * shares[section])
                rows.append(pair_row(i, float(right), float(not right), subset=subset))
    return rows


def test_rewardbench_from_rows_gives_the_published_overall():
    """ids repeat between subsets, as in the published set; sections are steps of .2 % from the published."""
    rows = armorm_rows()
    random.Random(0).shuffle(rows)
    results = evaluate_suite(Spread(), rows, "rewardbench")
    steps = [485 / 500, 384 / 500, 453 / 500, 487 / 500]
    assert main(results)["overall"] == pytest.approx(sum(steps) / 4)
    assert 100 * main(results)["overall"] == pytest.approx(90.4, abs=0.1)
    assert main(results)["missing"] == []
    assert results["suite"]["rows"] == 23 * 500
    interval = main(results)["interval"]["overall"]
    assert interval["low"] < main(results)["overall"] < interval["high"]


def test_prior_sets_enter_where_they_are_and_old_weights_where_they_are_asked_for():
    rows = armorm_rows()
    for subset, share in zip(REWARDBENCH_PRIOR, (0.69735, 0.87783, 0.7467, 0.64989), strict=True):
        rows += [pair_row(i, float(i < 500 * share), 0.5, subset=subset) for i in range(500)]
    results = evaluate_suite(Spread(), rows, "rewardbench")
    assert 100 * main(results)["sections"]["Prior Sets"] == pytest.approx(74.29, abs=0.1)
    assert 100 * main(results)["overall"] == pytest.approx(88.6, abs=0.1)
    for row in rows:  # one xstest subset worse than the other, so that their counts matter
        if row["subset"] == "xstest-should-respond":
            row["chosen"], row["rejected"] = said(0), said(1)
    rows = [row for row in rows if row["subset"] in REWARDBENCH_COUNTS["Safety"]]
    new, old = (main(evaluate_suite(Spread(), rows, "rewardbench", legacy=flag)) for flag in (False, True))
    assert new["sections"]["Safety"] == pytest.approx(490 / 740 * 0.906, abs=1e-3)
    assert old["sections"]["Safety"] == pytest.approx(586 / 740 * 0.906, abs=1e-3)
    with pytest.raises(ArgumentError, match="only rewardbench has"):
        evaluate_suite(Spread(), rows[:4], "pairs", legacy=True)


def test_a_suite_without_some_subsets_gives_what_it_can_and_says_what_is_missing():
    rows = [row for row in armorm_rows() if row["subset"].startswith("alpacaeval")]
    found = main(evaluate_suite(Spread(), rows, "rewardbench"))
    assert found["overall"] is None
    assert found["sections"]["Chat"] == pytest.approx(0.97, abs=1e-3)
    assert "hep-go" in found["missing"]
    assert "overall" not in found["interval"]


def test_subsets_that_length_solves_are_named():
    rows = [
        {
            "prompt": f"q {i}",
            "chosen": said(0, words="long " * (1 + (subset == "alpacaeval-length"))),
            "rejected": said(1, words="long " * (1 + (subset != "alpacaeval-length"))),
            "subset": subset,
        }
        for subset in ("alpacaeval-length", "math-prm")
        for i in range(20)
    ]
    notes = evaluate_suite(Spread(), rows, "rewardbench")["suite"]["notes"]
    assert notes == [
        "alpacaeval-length is solved by length alone: the longer response is right in 100 % of its 20 rows",
        "math-prm is solved by length alone: the shorter response is right in 100 % of its 20 rows",
    ]


# -- RewardBench 2, RM-Bench, JudgeBench, LLMBar ------------------------------------------------------


def test_rewardbench2_as_published_and_ties_depend_on_the_measure():
    """Ties by hand in test_rewardbench; here the layout, and a measure that moves margins but no order."""
    draw = random.Random(1)
    rows, right, wrong = [], [], []
    for subset in ("Factuality", "Precise IF", "Math", "Safety", "Focus"):
        for i in range(8):
            scores = [draw.choice([0.0, 1.0, 2.0]) for _ in range(4)]
            rows.append((str(i), subset, scores[:1], scores[1:]))
    for n in range(4):
        rows.append((f"ref:{n}", "Ties", [3.0], [draw.random() for _ in range(3)]))
        rows.append(
            (f"tied:{n}", "Ties", [3.0 + draw.random() for _ in range(4)], [draw.random() for _ in range(5)])
        )
    right, wrong = [row[2] for row in rows], [row[3] for row in rows]
    given = [
        {
            "id": one,
            "prompt": f"{subset} {one}",
            "chosen": [said(s, words=f"{i}") for i, s in enumerate(a)],
            "rejected": [said(s, words=f"-{i}") for i, s in enumerate(b)],
            "num_correct": len(a),
            "subset": subset,
        }
        for one, subset, a, b in rows
    ]
    expected = rewardbench2([r[1] for r in rows], right, wrong, [r[0] for r in rows])
    results = evaluate_suite(Spread(), given, "rewardbench2")
    assert main(results)["overall"] == pytest.approx(expected["overall"], abs=1e-6)
    assert main(results)["ties"] == pytest.approx(expected["ties"], abs=1e-4)
    for row in given:  # right answers of Ties that differ in spread: cvar pulls them apart
        if row["id"].startswith("tied"):
            row["chosen"] = [said(3.0, 0.1 + i, str(i)) for i in range(4)]
    both = evaluate_suite(Spread(), given, "rewardbench2", risk=["mean", "cvar:0.1"])["suite"]["scores"]
    assert both["mean"]["ties"]["preferred"] == 1
    assert both["cvar:0.1"]["ties"]["preferred"] == 0


def test_rm_bench_in_lists_of_styles_equals_rm_bench_in_pairs():
    draw = np.random.default_rng(2)
    styles = ("concise", "detailed_plain", "detailed_markdown")
    lists, pairs = [], []
    for i in range(12):
        domain = ("chat", "math", "code", "safety-refuse", "safety-response")[i % 5]
        a, b = draw.normal(size=3), draw.normal(size=3)
        lists.append(
            {
                "id": f"r{i}",
                "prompt": f"p{i}",
                "domain": domain,
                "chosen": [said(s) for s in a],
                "rejected": [said(s) for s in b],
            }
        )
        pairs += [
            pair_row(
                f"r{i}{j}{k}", a[j], b[k], subset=domain, chosen_style=styles[j], rejected_style=styles[k]
            )
            for j in range(3)
            for k in range(3)
        ]
    first, second = (evaluate_suite(Spread(), rows, "rm_bench") for rows in (lists, pairs))
    assert first["suite"]["scores"]["mean"]["matrices"] == second["suite"]["scores"]["mean"]["matrices"]
    assert main(first)["overall"] == main(second)["overall"] is not None
    assert set(main(first)["sections"]) == {"hard", "normal", "easy"}
    chosen, rejected = ([float(row[side].split()[0]) for row in pairs] for side in ("chosen", "rejected"))
    by_hand = rm_bench(
        [r["subset"] for r in pairs],
        [r["chosen_style"] for r in pairs],
        [r["rejected_style"] for r in pairs],
        chosen,
        rejected,
    )
    assert main(second)["difficulty"] == by_hand["difficulty"]


def judgebench_rows():
    """Correct of all per source as Skywork-Reward-Llama-3.1-8B has them on the pairs of GPT-4o."""
    counts = {
        "mmlu-pro-law": (91, 154),
        "livebench-reasoning": (63, 98),
        "livebench-math": (43, 56),
        "livecodebench": (21, 42),
    }
    rows = []
    for source, (right, total) in counts.items():
        for i in range(total):
            label = "A>B" if i % 2 else "B>A"
            high, low = said(1.0, words=f"{i}"), said(0.0, words=f"{i}")
            good, bad = (high, low) if i < right else (low, high)
            a, b = (good, bad) if label == "A>B" else (bad, good)
            rows.append(
                {
                    "pair_id": f"{source}{i}",
                    "source": source,
                    "question": f"{source} {i}",
                    "response_A": a,
                    "response_B": b,
                    "label": label,
                }
            )
    return rows


def test_judgebench_gives_the_published_numbers_of_a_model():
    """arXiv 2410.12784, table of reward models: 59.09, 64.29, 76.79, 50.00, overall 62.29."""
    found = main(evaluate_suite(Spread(), judgebench_rows(), "judgebench"))
    assert round(100 * found["overall"], 2) == 62.29
    shares = {name: round(100 * share, 2) for name, share in found["sections"].items()}
    assert shares == {"Knowledge": 59.09, "Reasoning": 64.29, "Math": 76.79, "Coding": 50.0}
    with pytest.raises(DataError, match="allowed: A>B or B>A"):
        evaluate_suite(Spread(), [judgebench_rows()[0] | {"label": "A=B"}], "judgebench")
    with pytest.raises(ArgumentError, match="not a source of JudgeBench"):
        judgebench(["arena"], [1.0], [0.0])


def test_llmbar_of_labels_and_of_pairs():
    adversarial = {"Neighbor": 1, "GPTInst": 2, "GPTOut": 3, "Manual": 4}
    rows = []
    for name, right in ({"Natural": 4} | adversarial).items():
        for i in range(4):
            good, bad = said(float(i < right)), said(0.5)
            label = 1 + i % 2
            outputs = (good, bad) if label == 1 else (bad, good)
            path = f"LLMBar/{'' if name == 'Natural' else 'Adversarial/'}{name}"
            rows.append(
                {
                    "input": f"{name} {i}",
                    "output_1": outputs[0],
                    "output_2": outputs[1],
                    "label": label,
                    "subset": path,
                }
            )
    rows += [pair_row(i, 0, 1, subset="CaseStudy/Negation") for i in range(3)]
    found = main(evaluate_suite(Spread(), rows, "llmbar"))
    assert found["sections"] == {"Natural": 1.0, "Adversarial": pytest.approx(2.5 / 4)}
    assert found["overall"] == pytest.approx((1 + 2.5) / 5)
    assert found["subsets"]["CaseStudy/Negation"] == 0
    assert llmbar(["Natural"], [1.0], [0.0])["overall"] is None
    assert list(llmbar(["Adversarial_GPTOut"], [1.0], [0.0])["subsets"]) == ["GPTOut"]


# -- best of n --------------------------------------------------------------------------------------


def samples(proxy, gold):
    return [
        {"prompt": f"p{i}", "responses": [said(x) for x in row], "gold": true.tolist()}
        for i, (row, true) in enumerate(zip(proxy, gold, strict=True))
    ]


def test_best_of_n_of_lists_of_rows_and_of_a_perfect_rule():
    draw = np.random.default_rng(3)
    gold, proxy = draw.normal(size=(5, 6)), draw.normal(size=(5, 6))
    lists = [
        {"prompt": f"p{i}", "responses": [said(x) for x in proxy[i]], "gold": gold[i].tolist()}
        for i in range(5)
    ]
    rows = [
        {"prompt": f"p{i}", "response": said(proxy[i, j]), "reward": gold[i, j]}
        for j in range(6)
        for i in range(5)
    ]
    found, same = (main(evaluate_suite(Spread(), given, "best_of_n")) for given in (lists, rows))
    expected = best_of_n.best_of_n(proxy, gold, [1, 2, 4]).mean(0)
    assert found["n"] == [1, 2, 4]
    assert found["gold"] == pytest.approx(expected)
    assert same["gold"] == pytest.approx(expected)
    possible = best_of_n.best_of_n(gold, gold, [1, 2, 4]).mean(0)
    assert found["overall"] == pytest.approx((expected[2] - expected[0]) / (possible[2] - expected[0]))
    assert found["kl"][2] == pytest.approx(math.log(4) - 0.75)
    perfect = [
        {"prompt": f"p{i}", "responses": [said(x) for x in gold[i]], "gold": gold[i].tolist()}
        for i in range(5)
    ]
    assert main(evaluate_suite(Spread(), perfect, "best_of_n"))["overall"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"prompt": "p", "response": said(1), "gold": 1.0}, "at least two responses"),
        ({"prompt": "p", "responses": [said(1), said(2)], "gold": [1.0]}, "1 rewards for 2 responses"),
        ({"prompt": "p", "responses": [said(1), said(2)], "gold": [1.0, math.nan]}, "one finite number"),
        ({"prompt": "p", "responses": [said(1), said(2)]}, "the true reward of each response"),
    ],
)
def test_best_of_n_needs_a_true_reward_of_several_responses(row, match):
    with pytest.raises((DataError, ArgumentError), match=match):
        evaluate_suite(Spread(), [row], "best_of_n")


# -- what is the same for all -----------------------------------------------------------------------


def test_every_measure_is_evaluated_on_its_own_beside_baselines_and_length(tmp_path):
    coef = torch.zeros(WIDTH)
    coef[0] = 1.0
    head = BradleyTerryHead(ColumnScaling.empty(WIDTH), coef)
    model = pl.RewardModel(FakeBackbone(), head, baselines={"bradley_terry": head})
    rows = pairs_rows(60)
    results = evaluate_suite(model, rows, "pairs", out=tmp_path)
    scores = results["suite"]["scores"]
    assert list(scores) == ["mean", "bradley_terry", "length"]
    ours = np.array([float(r["chosen"].split()[0]) > float(r["rejected"].split()[0]) for r in rows])
    assert scores["mean"]["overall"] == pytest.approx(ours.mean())
    longer = np.array([len(r["chosen"]) > len(r["rejected"]) for r in rows])
    assert scores["length"]["overall"] == pytest.approx(longer.mean())
    difference = results["suite"]["difference"]["mean"]
    assert difference["estimate"] == pytest.approx(ours.mean() - longer.mean())
    assert results["pairs"]["pairs"]["accuracy"]["model"]["estimate"] == pytest.approx(ours.mean())
    assert results["pairs"]["pairs"]["brier"]["estimate"] < 0.25
    assert results["suite"]["truncated"] == 0
    assert json.loads((tmp_path / "results.json").read_text()) == results
    table = pq.read_table(tmp_path / "scores.parquet")
    assert table.num_rows == 3 * 60
    assert set(table.column_names) >= {"id", "subset", "risk", "scores_chosen", "scores_rejected"}


def test_cautious_measures_may_prefer_the_other_side():
    """Centre 1, half width 3 against centre 0 with none: the mean prefers the first, its tail the other."""
    rows = [{"prompt": f"p{i}", "chosen": said(1, 3), "rejected": said(0, 0)} for i in range(4)]
    scores = evaluate_suite(Spread(), rows, "pairs", risk=["mean", "cvar:0.1"])["suite"]["scores"]
    assert (scores["mean"]["overall"], scores["cvar:0.1"]["overall"]) == (1, 0)
    with pytest.raises(ArgumentError, match="each once"):
        evaluate_suite(Spread(), rows, "pairs", risk=["mean", "mean"])
    with pytest.raises(RiskError):
        evaluate_suite(Spread(), rows, "pairs", risk=["nonsense:1"])


def test_a_model_that_tells_nothing_apart_ties_everywhere():
    class Noise(Spread):
        def distribution(self, conversations):
            return pl.Point(1 + 1e-9 * torch.rand(len(conversations)))

    rows = [pair_row(i, 0, 1) for i in range(6)]
    found = main(evaluate_suite(Noise(), rows, "pairs"))
    assert found["overall"] == 0
    assert found["equal_scores"] == {"": 6}


def test_a_file_in_parts_gives_what_it_gives_at_once(monkeypatch, tmp_path):
    from pluralign.evaluation.suites import reading

    rows = judgebench_rows()
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole = evaluate_suite(Spread(), rows, "judgebench")
    monkeypatch.setattr(reading, "_RESPONSES_AT_ONCE", 50)
    parts = evaluate_suite(Spread(), file, "judgebench", out=tmp_path / "out")
    assert parts["suite"]["scores"] == whole["suite"]["scores"]
    again = rescore_suite(tmp_path / "out" / "scores.parquet", "judgebench")
    assert again["suite"]["scores"] == whole["suite"]["scores"]


def test_texts_beyond_the_backbone_are_counted():
    class Short(FakeBackbone):
        def embed(self, conversations, **options):
            found = super().embed(conversations, **options)
            cut = [len(c[-1]["content"].split()) > 64 for c in conversations]
            found.truncated[:] = torch.tensor(cut)
            return found

    head = BradleyTerryHead(ColumnScaling.empty(WIDTH), torch.ones(WIDTH))
    model = pl.RewardModel(Short(), head)
    rows = pairs_rows(5) + [{"prompt": "p", "chosen": "1 0 " + "word " * 20_000, "rejected": "0 0 x"}]
    results = evaluate_suite(model, rows, "pairs")
    assert results["suite"]["truncated"] == 1
    assert "1 texts are longer than the backbone's maximum" in results["suite"]["notes"][-1]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"subset": "alpacaeval-esy"}, r"row 2, column 'subset'.*did you mean 'alpacaeval-easy'"),
        ({"id": "0"}, r"row 2, column 'id'.*'0' again \(first in rows, row 1\)"),
        ({"chosen": ""}, "row 2, column 'chosen'.*an empty text"),
        ({"rejected": None}, "row 2, column 'rejected'.*nothing"),
        ({"chosen": []}, "row 2, column 'chosen'"),
    ],
)
def test_bad_rows_are_named(change, match):
    rows = [pair_row(str(i), 1, 0, subset="alpacaeval-easy") for i in range(3)]
    rows[1] |= change
    with pytest.raises(DataError, match=match):
        evaluate_suite(Spread(), rows, "rewardbench")


def test_bad_rows_are_set_aside_where_that_is_asked_for(tmp_path):
    rows = [pair_row(str(i), 1, 0) for i in range(6)]
    rows[1]["chosen"], rows[3]["rejected"], rows[4]["id"] = "", None, "0"
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "no json\n")
    results = evaluate_suite(Spread(), file, "pairs", on_bad_row="quarantine", out=tmp_path / "out")
    assert results["suite"]["rows"] == 3
    assert "4 bad rows were left out" in results["suite"]["notes"][-1]
    aside = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    assert sorted(one["row"] for one in aside) == [2, 4, 5, 7]
    with pytest.raises(DataError, match="every row is bad"):
        evaluate_suite(Spread(), rows[1:2], "pairs", on_bad_row="quarantine")


def test_equal_sides_are_a_tie_for_everybody():
    rows = [pair_row("0", 1, 1), pair_row("1", 1, 0)]
    scores = evaluate_suite(Spread(), rows, "pairs")["suite"]["scores"]
    assert scores["mean"]["overall"] == 0.5
    assert scores["length"]["equal_scores"] == {"": 2}


@pytest.mark.parametrize("side", ["chosen", "rejected"])
@pytest.mark.parametrize("value", [[], ["", said(1)], None])
def test_an_empty_side_of_a_list_is_named(side, value):
    row = {"id": "1", "prompt": "p", "chosen": [said(1)], "rejected": [said(0)] * 3, "subset": "Math"}
    with pytest.raises(DataError, match=f"row 1, column '{side}'"):
        evaluate_suite(Spread(), [row | {side: value}], "rewardbench2")


def test_a_score_that_is_not_finite_names_its_row():
    class Broken(Spread):
        def distribution(self, conversations):
            values = torch.ones(len(conversations))
            values[-1] = math.nan
            return pl.Point(values, validate=False)

    rows = [pair_row(f"row-{i}", 1, 0) for i in range(3)]
    with pytest.raises(ArgumentError, match=r"mean gives nan for the row row-2"):
        evaluate_suite(Broken(), rows, "pairs")


def test_unknown_suites_and_empty_choices_are_refused():
    with pytest.raises(ArgumentError, match="did you mean 'rewardbench'"):
        evaluate_suite(Spread(), [], "rewardbenc")
    rows = [pair_row(i, 1, 0, subset="a") for i in range(3)]
    with pytest.raises(DataError, match=r"no row is left by where=.*'a' \(3 rows\)"):
        evaluate_suite(Spread(), rows, "pairs", where={"subset": "b"})
    with pytest.raises(DataError, match="no such column"):
        evaluate_suite(Spread(), rows, "pairs", columns={"chosen": "best"})
    assert all(suite.rule and suite.title for suite in SUITES.values())


# -- files of scores --------------------------------------------------------------------------------


def rewardbench_files(nested: bool):
    draw = np.random.default_rng(4)
    subsets = [name for members in REWARDBENCH_COUNTS.values() for name in members for _ in range(10)]
    a, b = draw.normal(size=len(subsets)), draw.normal(size=len(subsets))
    columns = {
        "subset": subsets,
        "id": [i % 10 for i in range(len(subsets))],
        "scores_chosen": [[x] for x in a] if nested else a.tolist(),
        "scores_rejected": [[x] for x in b] if nested else b.tolist(),
        "results": [int(x > y) for x, y in zip(a, b, strict=True)],
        "model": "someone/model",
        "chat_template": "tokenizer",
    }
    return columns, rewardbench(subsets, a, b)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("form", ["columns", "rows", "lines"])
def test_score_files_of_rewardbench_are_read_and_added_up_again(tmp_path, nested, form):
    columns, expected = rewardbench_files(nested)
    listed = {name: value for name, value in columns.items() if isinstance(value, list)}
    rows = [dict(zip(listed, values, strict=True)) for values in zip(*listed.values(), strict=True)]
    text = {
        "columns": json.dumps(columns),
        "rows": json.dumps(rows),
        "lines": "".join(json.dumps(row) + "\n" for row in rows),
    }[form]
    file = tmp_path / "scores.json"
    file.write_text(text)
    found = main(rescore_suite(file, "rewardbench"))
    assert found["sections"] == expected["sections"]
    assert found["overall"] == expected["overall"]


def test_score_files_of_rewardbench_2(tmp_path):
    columns = {
        "subset": ["Math", "ties", "ties"],
        "id": ["1", "ref:0", "tied:0"],
        "scores": [[[2.0], [1.0], [0.0], [2.0]], [1.0, 0.0], [1.0, 0.9, 0.5]],
        "num_correct": [1, 1, 2],
    }
    file = tmp_path / "scores.json"
    file.write_text(json.dumps(columns))
    found = main(rescore_suite(file, "rewardbench2"))
    assert found["sections"]["Math"] == 0.5
    assert found["ties"]["accuracy_tied"] == found["ties"]["preferred"] == 1


def test_score_files_that_are_not_as_they_should_be(tmp_path):
    columns, _ = rewardbench_files(False)
    file = tmp_path / "scores.json"
    for change, match in (
        ({"scores_chosen": [math.nan, *columns["scores_chosen"][1:]]}, "row 1: found the score nan"),
        ({"subset": ["nowhere", *columns["subset"][1:]]}, "'nowhere'"),
        ({"id": [0] * len(columns["id"])}, "'0' again"),
        ({"scores_rejected": [0.0]}, "scores_rejected has 1 rows"),
        ({"scores_rejected": [[], *columns["scores_rejected"][1:]]}, "a side without scores"),
    ):
        file.write_text(json.dumps(columns | change))
        with pytest.raises(DataError, match=match):
            rescore_suite(file, "rewardbench")
    file.write_text('{"subset": [')
    with pytest.raises(ArtifactError, match="not JSON"):
        rescore_suite(file, "rewardbench")
    with pytest.raises(DataError, match="no such file"):
        rescore_suite(tmp_path / "none.json", "rewardbench")


def test_scores_of_another_model_another_suite_or_a_newer_version_are_refused(tmp_path, monkeypatch):
    from pluralign.evaluation.suites import files

    rows = pairs_rows(6)
    evaluate_suite(Spread(), rows, "pairs", out=tmp_path, model_digest="a" * 64)
    file = tmp_path / "scores.parquet"
    assert main(rescore_suite(file, "pairs", model_digest="a" * 64))["overall"] is not None
    with pytest.raises(ArgumentError, match="another version of this model"):
        rescore_suite(file, "pairs", model_digest="b" * 64)
    with pytest.raises(ArgumentError, match="scores of the suite pairs"):
        rescore_suite(file, "hh")
    monkeypatch.setattr(files, "FILE_SCHEMA", 2)
    evaluate_suite(Spread(), rows, "pairs", out=tmp_path / "newer")
    monkeypatch.setattr(files, "FILE_SCHEMA", 1)
    with pytest.raises(ArtifactError, match="schema is 2; this version of pluralign reads 1"):
        rescore_suite(tmp_path / "newer" / "scores.parquet", "pairs")
    (tmp_path / "cut.parquet").write_bytes(file.read_bytes()[:100])
    with pytest.raises(ArtifactError, match="is damaged"):
        rescore_suite(tmp_path / "cut.parquet", "pairs")
