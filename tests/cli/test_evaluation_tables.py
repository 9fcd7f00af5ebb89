"""What `pluralign evaluate` prints: every number of the page's tables, and the warnings of the fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import pluralign as pl
from fake_backbone import FakeBackbone, ratings_rows
from pluralign.cli.console import Console
from pluralign.cli.evaluation_tables import print_results


@pytest.fixture(scope="module")
def results():
    """Of an ensemble on two attributes and two kinds of prompt, with a second baseline of distributions."""
    rows = [
        row | {"subset": "craft" if i % 2 else "care"} for i, row in enumerate(ratings_rows(12, attributes=2))
    ]
    ratings, options = pl.load_ratings(rows), {"backbone": FakeBackbone(), "cache": None}
    model = pl.fit(
        "gaussian_ensemble", ratings=ratings, config={"l2": 0.1, "std_l2": 1.0, "steps": 30}, **options
    )
    twin = pl.fit("quantile", ratings=ratings, config={"l1": 0.01, "levels": [0.1, 0.5, 0.9]}, **options)
    model.baselines["quantile"] = twin.head
    return pl.evaluation.evaluate(model, ratings=ratings)


def printed(capsys, results):
    print_results(Console(False), results)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    return out


def line_of(out, title, start):
    """The first line of a table that starts so."""
    part = out[out.index(title) :]
    return next(line for line in part.splitlines() if line.startswith(start))


def test_other_baselines_attributes_and_kinds_are_printed(capsys, results):
    out = printed(capsys, results)
    twin = results["ratings"]["a1"]["crps"]["others"]["quantile"]
    part = out[out.index("a1: other baselines") :]
    cells = next(line for line in part.splitlines() if "crps" in line)
    assert f"{twin['value']['estimate']:.4f} [" in cells
    assert f"{twin['difference']['estimate']:.4f} [" in cells
    pairs = results["pairs"]["pairs_from_ratings"]
    own = pairs["attributes"]["a0"]["accuracy"]["own_attribute"]["estimate"]
    assert f"{own:.3f}" in line_of(out, "pairs from ratings by attribute", "a0 ")
    assert f"{pairs['subsets']['care']['length']:.3f}" in line_of(out, "by kind of prompt", "care ")


def test_the_heads_are_printed_with_intervals(capsys, results):
    line = line_of(printed(capsys, results), "heads of the ensemble", "a1 ")
    found = results["ensemble"]["ratings"]["a1"]["intervals"]["spearman_between_error"]
    assert f"{found['estimate']:.3f} [{found['low']:.3f}, {found['high']:.3f}]" in line
    now = results["ensemble"]["ratings"]["a1"]
    parts = line_of(printed(capsys, results), "in its two parts", "a1 ").split()[1:]
    assert parts == [f"{now[f'{kind}_std']:.3f}" for kind in ("within", "between")]
    later = {"intervals", "within_std", "between_std"}  # than the first results
    earlier = {k: v for k, v in now.items() if k not in later}
    out = printed(capsys, results | {"ensemble": {"ratings": {"a1": earlier}}})
    assert "in its two parts" not in out
    line = line_of(out, "heads of", "a1 ")
    assert line.split() == ["a1", f"{earlier['correlation']:.3f}", f"{earlier['disagreement']:.3f}", "-", "-"]


def test_skill_within_a_prompt_stands_beside_pinball(capsys, results):
    out = printed(capsys, results)
    for name in ("a0", "all"):
        found = results["ratings"][name]["within_prompt"]
        line = line_of(out, f"{name}: ", "within a prompt")
        assert f"{found['model']['estimate']:.3f} [" in line
        assert f"chance {found['chance']:.3f}" in line
        assert line.rstrip().endswith(found["verdict"].partition(":")[0])
        assert f"{found['length']['estimate']:.3f} [" in line_of(out, f"{name}: ", "longer text")
    lines = out[out.index("all: ") :].splitlines()
    order = [i for i, line in enumerate(lines) if line.startswith(("pinball", "within", "longer text"))][:3]
    assert order == [order[0], order[0] + 1, order[0] + 2]
    parts = results["ratings"]
    unknown = {"a0": parts["a0"] | {"within_prompt": {"verdict": "not known: no two responses"}}}
    line = line_of(printed(capsys, results | {"ratings": unknown}), "a0: ", "within a prompt")
    assert line.split() == ["within", "a", "prompt", "-", "not", "known"]
    earlier = {"a0": {k: v for k, v in parts["a0"].items() if k != "within_prompt"}}
    assert "within a prompt" not in printed(capsys, results | {"ratings": earlier})


def test_both_losses_are_named(capsys, results):
    out = printed(capsys, results)
    part = results["ratings"]["a0"]
    for name, key in (
        ("pinball, continuous", "pinball"),
        ("pinball, on grid", "pinball_on_grid"),
        ("crps, continuous", "crps"),
        ("crps, on grid", "crps_on_grid"),
    ):
        assert f"{part[key]['model']['estimate']:.4f} [" in line_of(out, "a0: ", name)
    one = {k: v for k, v in part.items() if not k.endswith("_on_grid")}
    out = printed(capsys, results | {"ratings": {"a0": one}})
    assert line_of(out, "a0: ", "pinball").split()[1].startswith("0.")  # no name where there is one


def test_many_kinds_of_prompt_are_cut_and_the_title_says_so(capsys, results):
    pairs = results["pairs"]["pairs_from_ratings"]
    many = {f"kind {i}": {"rows": 1, "model": 0.5} for i in range(30)}
    changed = results | {"pairs": {"pairs": pairs | {"subsets": many}}}
    out = printed(capsys, changed)
    assert "pairs by kind of prompt: 12 of 30, the others are in results.json" in out
    assert "kind 11" in out
    assert "kind 12" not in out


@pytest.mark.filterwarnings("default::pluralign.errors.CategoryWarning")
def test_what_the_fit_warned_of_is_reported_again(workplace, fake, command):
    Path("one.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ratings_rows(20, raters=1)))
    fit = "fit --family categorical --loss transport --ratings one.jsonl --l2 0.1 --steps 5 --out run"
    _, _, err = command(fit)
    assert "warning: a0 has 1 raters per response" in err
    for again in (fit, "evaluate --model run --ratings one.jsonl"):
        _, _, err = command(again)
        assert "the fit warned: a0 has 1 raters per response" in err
