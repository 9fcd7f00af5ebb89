"""The verbs from end to end: what they print, what they write, what a second call does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import pluralign as pl
from fake_backbone import ratings_rows
from tiny_backbones import tiny_decoder

FIT = "fit --ratings ratings.jsonl --l1 0.003 --levels [0.1,0.3,0.5,0.7,0.9]"


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# -- check -----------------------------------------------------------------------------------------


def test_check_shows_one_row_per_attribute(workplace, command):
    Path("two.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in ratings_rows(5, attributes=2, raters=3))
    )
    status, out, err = command("check two.jsonl")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 100
    row = next(line.split() for line in lines if line.startswith("a1 "))
    assert row[1:5] == ["20", "3/3/3", "1..5", "1"]
    assert len([line for line in lines if line.startswith("a0 ")]) == 2  # the table and the histogram
    assert lines[-1] == "two.jsonl: 40 rows, no problems"


def test_check_shortens_many_subsets(workplace, command):
    rows = [row | {"subset": f"s{i % 9}"} for i, row in enumerate(ratings_rows(20))]
    Path("many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, out, _ = command("check many.jsonl")
    assert "and 4 more subsets" in out
    assert len([line for line in out.splitlines() if line.startswith("subset ")]) == 5


@pytest.mark.parametrize(
    ("file", "shape"),
    [("ratings.jsonl", "ratings"), ("pairs.jsonl", "pairs"), ("votes.jsonl", "comparisons")],
)
def test_check_prints_json(workplace, command, file, shape):
    status, out, _ = command(f"check {file} --json")
    assert status == 0
    assert json.loads(out)["shape"] == shape


def test_check_takes_plain_responses_and_mapped_names(workplace, command):
    Path("plain.jsonl").write_text('{"q": "p", "answer": "a"}\n')
    status, out, _ = command("check plain.jsonl --columns.prompt q --columns.response answer")
    assert status == 0
    assert "plain.jsonl: responses" in out


# -- fit, evaluate, score --------------------------------------------------------------------------


def test_from_data_to_scores(workplace, fake, command):
    status, out, err = command(FIT)
    assert status == 0
    path = Path(out.strip())
    run = path.parent
    assert run.parent == Path("runs")
    assert run.name.startswith("fit-quantile-")
    assert "ratings ratings.jsonl: 80 rows" in err
    hint = f"pluralign evaluate --model {run} --ratings ratings.jsonl"
    assert hint in err
    assert files(run) == sorted(
        [
            ".lock",
            "done.json",
            "metrics.jsonl",
            "model/README.md",
            "model/config.json",
            "model/model.safetensors",
            "run.json",
            "search.jsonl",
            "train_groups.json",
            "train_texts.npz",
        ]
    )

    status, out, err = command(hint.removeprefix("pluralign "))
    assert status == 0
    assert re.search(
        r"evaluated on: \d+ of 80 rows \(\d+ %\), in \d of 20 groups; 0 of its \d groups were in", err
    )
    assert "pinball" in out
    assert "bradley_terry" in out
    assert max(map(len, out.splitlines())) <= 100
    results = Path(out.splitlines()[-1])
    assert files(results.parent) == [
        ".lock",
        "done.json",
        "examples.jsonl",
        "results.json",
        "run.json",
        "scores.parquet",
    ]
    judged = json.loads(results.read_text())
    assert judged["evaluated_on"].startswith("24 of 80 rows (30 %), in 6 of 20 groups; 0 of its ")
    train = set(json.loads((run / "train_groups.json").read_text()))
    import pyarrow.parquet as pq

    scored = set(pq.read_table(results.parent / "scores.parquet")["group"].to_pylist())
    assert train | scored == {f"g{i}" for i in range(20)}
    assert not train & scored
    assert judged["part"] == "test"

    status, out, err = command(f"score --model {run} --data ratings.jsonl --risk cvar:0.5 --levels [0.1,0.9]")
    assert status == 0
    lines = [json.loads(line) for line in out.splitlines()]
    found = [line["utility"] for line in lines]
    ends = f"mean {np.mean(found):.3g}, from {min(found):.3g} to {max(found):.3g}"
    assert "80 utilities, cvar:0.5 of the reward in units of the reference standard deviation" in err
    assert err.endswith(f"{ends}\n")  # what the numbers are, and nothing else
    table = pl.load_ratings("ratings.jsonl")
    assert [line["id"] for line in lines] == table["id"][:]
    model = pl.RewardModel.from_pretrained(path, cache=None)
    conversations = [
        pl.data.conversation(p, r) for p, r in zip(table["prompt"], table["response"], strict=True)
    ]
    expected = model.score(conversations, risk="cvar:0.5").tolist()
    assert [line["utility"] for line in lines] == pytest.approx(expected, rel=1e-5)
    assert all(low < high for low, high in (line["quantiles"] for line in lines))


@pytest.mark.parametrize(
    ("family", "data"),
    [
        ("quantile", "votes"),
        ("bradley_terry", "votes"),
        ("bradley_terry", "pairs"),
        ("bradley_terry", "ratings"),
        ("gaussian_ensemble", "ratings"),
    ],
)
def test_families_and_kinds_of_data(workplace, fake, command, family, data):
    fitted = f"fit --family {family} --{data} {data}.jsonl --out run --json"
    quick = {"quantile": ["--l1", "0.003"], "gaussian_ensemble": ["--l2", "0.1", "--std_l2", "1"]}
    status, out, _ = command(fitted, *quick.get(family, []))
    assert status == 0
    assert json.loads(out)["model"] == "run/model"
    status, out, _ = command(f"evaluate --model run --{data} {data}.jsonl --json")
    assert status == 0
    results = json.loads(out)
    assert results["family"] == family
    assert results["pairs"]


def test_the_same_command_again_does_nothing(workplace, fake, command):
    _, first, _ = command(FIT + " --json")
    count = len(fake.embedded)
    status, again, err = command(FIT + " --json")
    assert status == 0
    assert json.loads(first) == json.loads(again)
    assert "already holds this run" in err
    assert len(fake.embedded) == count
    model = json.loads(first)["run"]
    _, first, _ = command(f"evaluate --model {model} --ratings ratings.jsonl --json")
    count = len(fake.embedded)
    status, again, err = command(f"evaluate --model {model} --ratings ratings.jsonl --json")
    assert (status, json.loads(first)) == (0, json.loads(again))
    assert len(fake.embedded) == count


def test_a_run_whose_model_is_gone_is_made_again(workplace, fake, command):
    import shutil

    _, out, _ = command(FIT)
    shutil.rmtree(out.strip())
    status, again, err = command(FIT)
    assert (status, again) == (0, out)
    assert "already" not in err
    assert Path(out.strip(), "config.json").is_file()


def test_config_file_with_flags_on_top(workplace, fake, command):
    Path("c.yaml").write_text(
        "ratings: ratings.jsonl\nl1: 0.01\nlevels: [0.1, 0.2, 0.5]\nfamily: quantile\ntest_share: 0.0\n"
    )
    for flag in ("--config c.yaml", "--config=c.yaml"):
        status, out, _ = command(f"fit {flag} --l1 0.02 --json --out run{len(flag)}")
        assert status == 0
        config = json.loads(out)["fitted"]["config"]
        assert (config["l1"], config["levels"]) == (0.02, [0.1, 0.2, 0.5])


def test_cross_fitting_evaluates_every_row_once(workplace, fake, command):
    status, out, err = command(
        "evaluate --folds 4 --ratings ratings.jsonl --l1_grid [0.003,0.01] --levels [0.1,0.5,0.9] "
        "--out cross --json"
    )
    assert status == 0
    assert "fold 4 of 4" in err
    assert json.loads(out)["ratings"]["a0"]["rows"] == 80
    assert len(list(Path("cross").glob("search-fold-*.jsonl"))) == 4
    assert {"results.json", "scores.parquet"} <= set(files(Path("cross")))


def test_evaluate_warns_where_the_fit_saw_the_groups(workplace, made_once, command):
    made_once(FIT + " --out run")
    status, _, err = command("evaluate --model run --ratings ratings.jsonl --part all")
    assert status == 0
    assert "WARNING: this is not a held-out result" in err


def test_evaluate_needs_something_held_out(workplace, fake, command):
    command(FIT + " --test_share 0 --out run")
    status, _, err = command("evaluate --model run --ratings ratings.jsonl --out judged")
    assert status == 2
    assert "--part all" in err
    assert not Path("judged").exists()


def test_score_takes_every_shape(workplace, made_once, command):
    made_once(FIT + " --out run")
    Path("plain.jsonl").write_text('{"response": "1 0.5 a"}\n{"prompt": "p", "response": "-1 0.5 b"}\n')
    Path("trl.jsonl").write_text('{"prompt": "p", "completion": "1 0.5 a"}\n')
    for file, keys in {
        "plain.jsonl": {"utility"},
        "trl.jsonl": {"utility"},
        "ratings.jsonl": {"utility"},
        "pairs.jsonl": {"utility_chosen", "utility_rejected"},
        "votes.jsonl": {"utility_a", "utility_b"},
    }.items():
        status, out, _ = command(f"score --model run --data {file} --out s.jsonl --json")
        assert status == 0
        lines = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
        assert json.loads(out)["rows"] == len(lines)
        assert all(set(line) == {"id", *keys} for line in lines)
    assert not list(Path().glob(".s.jsonl*"))
    status, _, err = command("score --model run --data plain.jsonl --json")
    assert status == 2
    assert "--out" in err


def test_score_shows_attributes_on_their_rating_scale(workplace, made_once, command):
    made_once(FIT + " --out run")
    line = "score --model run --data ratings.jsonl --attributes --levels [0.1,0.9] --out new/folder/s.jsonl"
    status, out, err = command(line)
    assert (status, out) == (0, "new/folder/s.jsonl\n"), err
    lines = [json.loads(line) for line in Path("new/folder/s.jsonl").read_text().splitlines()]
    model = pl.RewardModel.from_pretrained("run", cache=None)
    table = pl.load_ratings("ratings.jsonl")
    texts = [pl.data.conversation(p, r) for p, r in zip(table["prompt"], table["response"], strict=True)]
    expected = model.attribute_distributions(texts, on_grid=True)["a0"]
    for i in (0, 17, 79):
        shown = lines[i]["attributes"]["a0"]
        assert shown["mean"] == pytest.approx(float(expected.mean()[i]), rel=1e-5)
        assert shown["shares"] == pytest.approx(dict(zip("12345", expected.probs[i].tolist(), strict=True)))
        assert shown["quantiles"] == pytest.approx(expected.quantile(torch.tensor([0.1, 0.9]))[i].tolist())
        assert lines[i]["quantiles"] != shown["quantiles"]  # of the reward, in its own unit
    command("fit --family bradley_terry --pairs pairs.jsonl --l2 0.1 --out scores")
    status, _, err = command("score --model scores --data ratings.jsonl --attributes")
    assert status == 2
    assert "--attributes: scores predicts no ratings" in err


@pytest.mark.filterwarnings("default::pluralign.errors.ConstantHeadWarning")
def test_score_warns_that_a_model_is_constant(workplace, made_once, command):
    status, _, err = command("fit --ratings ratings.jsonl --l1 10 --levels [0.1,0.5,0.9] --out flat")
    assert status == 0, err
    status, out, err = command("score --model flat --data ratings.jsonl --out s.jsonl --json")
    assert status == 0
    assert json.loads(out)["constant"] is True
    assert "every response has the same utility" in err
    Path("one.jsonl").write_text('{"response": "1 0.5 a"}\n')
    _, _, err = command("score --model flat --data one.jsonl")
    assert "same utility" not in err  # one text tells nothing
    made_once(FIT + " --out run")
    _, out, err = command("score --model run --data ratings.jsonl --out s.jsonl --json")
    assert json.loads(out)["constant"] is False
    assert "same utility" not in err


@pytest.mark.parametrize("kind", ["ratings", "votes", "pairs"])
def test_lab_draws_what_check_accepts(workplace, command, kind):
    status, out, err = command(f"lab --kind {kind} --n 12 --out lab.jsonl.gz --json")
    assert (status, err) == (0, "")
    assert json.loads(out) == {"data": "lab.jsonl.gz", "rows": 12, "kind": kind}
    first = Path("lab.jsonl.gz").read_bytes()
    assert command("check lab.jsonl.gz")[0] == 0
    command(f"lab --kind {kind} --n 12 --out lab.jsonl.gz")
    assert Path("lab.jsonl.gz").read_bytes() == first
    command(f"lab --kind {kind} --n 12 --data_seed 1 --out lab.jsonl.gz")
    assert Path("lab.jsonl.gz").read_bytes() != first


def test_usage_and_version(command):
    status, out, _ = command("--help")
    assert status == 0
    assert all(verb in out for verb in ("check", "fit", "score", "evaluate", "lab"))
    assert command("--version")[1].startswith("pluralign ")
    assert command("")[0] == 2


def test_no_bar_of_another_package_on_a_real_backbone(workplace, own_default_cache):
    tiny_decoder(workplace / "tiny")
    line = "fit --family bradley_terry --pairs pairs.jsonl --l2 0.1 --backbone tiny --out run"
    done = subprocess.run(
        [sys.executable, "-m", "pluralign.cli.main", *line.split()], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Loading weights" not in done.stderr
    assert done.stdout == "run/model\n"
