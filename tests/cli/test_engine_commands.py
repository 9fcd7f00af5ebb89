"""`score` and `embed` in shards: the same lines as without, resumed, and refused in folders of others."""

from __future__ import annotations

import csv
import json
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import pluralign as pl
from pluralign.data import json_lines
from pluralign.engines.scores import ScoreRows, model_identity, score_stage
from pluralign.errors import ArgumentError, FingerprintError
from pluralign.policy.sampling.shards import read_manifest, read_shards
from tiny_backbones import tiny_decoder

FIT = "fit --family quantile --ratings ratings.jsonl --l1 0.01 --baselines false --out run"
SCORE = "score --model run --data ratings.jsonl --risk cvar:0.5"


def lines(file):
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


@pytest.fixture
def model(workplace, fake, command):
    assert command(FIT)[0] == 0
    return workplace


def test_score_in_shards_is_score(model, command):
    more = "--levels [0.1,0.9] --attributes"
    assert command(f"{SCORE} {more} --out plain.jsonl")[0] == 0
    status, out, err = command(f"{SCORE} {more} --engine local --out one.jsonl")
    assert (status, out) == (0, "one.jsonl\n")
    assert "80 rows in 1 shard of at most 8,192, in one.jsonl.shards" in err
    assert "1 of 1 shards" in err
    assert Path("one.jsonl").read_bytes() == Path("plain.jsonl").read_bytes()
    _, out, _ = command(f"{SCORE} {more} --engine local --rows_per_shard 7 --out many.jsonl --json")
    summary = json.loads(out)
    assert (summary["rows"], summary["risk"], summary["constant"]) == (80, "cvar:0.5", False)
    few, many = lines("plain.jsonl"), lines("many.jsonl")
    assert [line["id"] for line in many] == [line["id"] for line in few]
    assert [line.keys() for line in many] == [line.keys() for line in few]
    utilities = [[line["utility"] for line in of] for of in (few, many)]
    assert utilities[1] == pytest.approx(utilities[0], rel=1e-5, abs=1e-6)
    shards = read_shards("many.jsonl.shards/scores")
    assert shards["utility"][:] == utilities[1]
    assert not Path("many.jsonl.shards/rows").exists()
    assert read_manifest("many.jsonl.shards/scores")["shards"] == 12


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("engine", ["", "--engine local --rows_per_shard 30"])
def test_scores_have_the_format_of_their_ending(model, command, ending, engine):
    assert command(f"{SCORE} --levels [0.1,0.9] --attributes {engine} --out s.jsonl")[0] == 0
    status, out, _ = command(f"{SCORE} --levels [0.1,0.9] --attributes {engine} --out s.{ending}")
    assert (status, out) == (0, f"s.{ending}\n")
    expected = lines("s.jsonl")
    if ending == "parquet":
        assert pq.read_table("s.parquet").to_pylist() == expected
        return
    with Path("s.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [list(row) for row in found] == [list(row) for row in expected]
    for row, line in zip(found, expected, strict=True):
        assert (row["id"], float(row["utility"])) == (line["id"], line["utility"])
        assert json.loads(row["quantiles"]) == line["quantiles"]
        assert json.loads(row["attributes"]) == line["attributes"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_scores_of_any_format_are_compared(model, command, ending):
    for name, risk in (("a", "mean"), ("b", "cvar:0.1")):
        assert command(f"score --model run --data ratings.jsonl --risk {risk} --out {name}.{ending}")[0] == 0
    status, out, err = command(f"compare a.{ending} b.{ending} --json")
    assert status == 0, err
    assert json.loads(out)["comparisons"][0]["groups"] == 80


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--rows_per_shard 9 --out s.jsonl", "--rows_per_shard needs --engine"),
        ("--how vincentize --out s.jsonl", "--how says how several models are combined; name them with"),
        ("--out s.txt", "--out: received 's.txt'; allowed: a file that ends in .jsonl, .csv or .parquet"),
        ("--out s", "--out: received 's'; allowed: a file that ends in .jsonl, .csv or .parquet"),
        ("--out .", "--out . is a folder; pass a file"),
    ],
)
def test_flags_that_say_nothing_are_refused(workplace, command, flags, message):
    status, _, err = command(f"{SCORE} {flags}")
    assert (status, message in err) == (2, True), err


def test_two_sides_have_two_utilities(model, command):
    for source in ("pairs.jsonl", "votes.jsonl"):
        line = f"score --model run --data {source} --out"
        assert command(f"{line} plain.jsonl")[0] == 0
        assert command(f"{line} {source}-scores.jsonl --engine local")[0] == 0
        assert Path(f"{source}-scores.jsonl").read_bytes() == Path("plain.jsonl").read_bytes()
    columns = read_shards("votes.jsonl-scores.jsonl.shards/scores").column_names
    assert columns == ["id", "utility_a", "utility_b", "line"]


def test_an_interrupted_score_continues(model, command, fake, monkeypatch):
    line = f"{SCORE} --engine local --rows_per_shard 20 --out s.jsonl"
    ask, seen = ScoreRows.__call__, []

    def breaks(self, batch):
        seen.append(len(batch["id"]))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return ask(self, batch)

    monkeypatch.setattr(ScoreRows, "__call__", breaks)
    status, _, err = command(line)
    assert status == 130
    assert "the same command continues" in err
    assert not Path("s.jsonl").exists()
    before = len(fake.embedded)
    status, _, err = command(line)
    assert status == 0
    assert "2 of 4 shards" in err
    assert len(fake.embedded) - before == 40
    assert len(lines("s.jsonl")) == 80
    Path("s.jsonl").unlink()  # what is made of shards is made again
    before = len(fake.embedded)
    assert command(line)[0] == 0
    assert len(fake.embedded) == before
    assert len(lines("s.jsonl")) == 80


def test_a_folder_of_another_model_or_input_is_refused(model, command):
    line = f"{SCORE} --engine local --out s.jsonl"
    assert command(line)[0] == 0
    kept = Path("s.jsonl").read_bytes()
    assert command(FIT.replace("0.01", "0.1").replace("run", "other"))[0] == 0
    status, _, err = command(line.replace("run", "other"))
    assert status == 1
    assert re.search(
        r"s.jsonl.shards belongs to another run \(different inputs: model: '\w{64}' in that", err
    )
    with Path("ratings.jsonl").open("a") as file:
        file.write(json.dumps(lines("ratings.jsonl")[0] | {"id": "one more"}) + "\n")
    status, _, err = command(line)
    assert status == 1
    assert "different inputs: data:" in err
    status, _, err = command(line.replace("cvar:0.5", "mean"))
    assert status == 1
    assert "risk: 'cvar:0.5' in that run, 'mean' in this one" in err
    assert Path("s.jsonl").read_bytes() == kept


def test_the_card_of_a_model_may_change(model, command):
    line = f"{SCORE} --engine local --out s.jsonl"
    assert command(line)[0] == 0
    Path("run/model/README.md").write_text("What people say of it.")
    assert command(line)[0] == 0


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        ("--engine local", 2, "--engine works in shards beside a file: pass the file with --out"),
        ("--engine local --out s.jsonl --rows_per_shard 0", 2, "--rows_per_shard must be at least 1"),
        (
            "--engine local --out s.jsonl --combine [run] --reference ratings.jsonl",
            2,
            "--engine takes one folder",
        ),
        ("--out s.jsonl --ray_gpus 1", 2, "--ray_gpus needs --engine ray"),
        ("--engine spark --out s.jsonl", 2, "allowed: local, ray"),
        ("--engine ray --out s.jsonl --ray_workers 0", 2, "--ray_workers must be at least 1, received 0"),
        ("--engine ray --out s.jsonl", 1, "install it with: pip install 'pluralign[ray]'"),
        (
            "--engine local --out s.jsonl --model nowhere",
            1,
            "nowhere has no config.json, so it is no model folder",
        ),
        ("--engine local --out s.jsonl --data nowhere.jsonl", 1, "no such file or folder"),
    ],
)
def test_wrong_flags_are_named(model, command, monkeypatch, more, status, message):
    monkeypatch.setitem(sys.modules, "ray", None)
    found, out, err = command(f"{SCORE} {more}")
    assert (found, out) == (status, "")
    assert message in err
    assert not Path("s").exists()
    assert not Path("s.shards").exists()


def test_bad_rows_stop_the_command_before_any_model_is_loaded(model, command, fake, monkeypatch):
    monkeypatch.setattr(json_lines, "BATCH_ROWS", 30)
    good = Path("ratings.jsonl").read_text()
    Path("ratings.jsonl").write_text(good + '{"prompt": "p"}\n')
    before = len(fake.embedded)
    line = f"{SCORE} --engine local --rows_per_shard 20 --out s.jsonl"
    status, _, err = command(line)
    assert status == 1
    assert "ratings.jsonl, row 81" in err
    assert len(fake.embedded) == before
    assert not Path("s.jsonl.shards").exists()  # though three shards of rows were written
    Path("ratings.jsonl").write_text(good)
    assert command(line)[0] == 0


def test_the_object_of_a_worker_takes_what_ray_data_gives(model):
    """Arrays of texts; the object and the stage are pickled on the way."""
    rows = lines("ratings.jsonl")[:9]
    batch = {name: np.array([row[name] for row in rows]) for name in ("id", "prompt", "response")}
    stage = pickle.loads(pickle.dumps(score_stage("run", ["response"], risk="cvar:0.5", levels=[0.5])))
    found = stage.make(**stage.arguments)(batch)
    assert list(found) == stage.columns.names
    assert list(found["id"]) == [row["id"] for row in rows]
    texts = [pl.data.conversation(row["prompt"], row["response"]) for row in rows]
    whole = pl.RewardModel.from_pretrained("run", cache=None)
    assert found["utility"].tolist() == pytest.approx(whole.score(texts, risk="cvar:0.5").tolist(), rel=1e-5)
    assert json.loads(found["line"][0]).keys() == {"id", "utility", "quantiles"}


def test_a_worker_with_another_model_refuses(model, command):
    stage = score_stage("run", ["response"], identity=model_identity("run"))
    stage.make(**stage.arguments)
    config = Path("run/model/config.json")
    config.write_text(config.read_text().replace("{", "{ ", 1))
    with pytest.raises(FingerprintError, match="is not the model that the command was started with"):
        stage.make(**stage.arguments)
    assert command("fit --family bradley_terry --pairs pairs.jsonl --l2 0.1 --out flat")[0] == 0
    with pytest.raises(ArgumentError, match="predicts no ratings"):
        ScoreRows("flat", attributes=True)


# -- embed -----------------------------------------------------------------------------------------


@pytest.fixture
def decoder(workplace):
    return tiny_decoder(Path("decoder"))


EMBED = "embed --backbone decoder --data pairs.jsonl --max_length 128 --out vectors"


def test_embed_writes_the_vectors_of_the_backbone(decoder, command):
    status, out, err = command(f"{EMBED} --rows_per_shard 16 --json")
    assert status == 0
    result = json.loads(out)
    assert (result["embeddings"], result["rows"]) == ("vectors/embeddings", 40)
    assert "40 rows in 3 shards" in err
    rows = read_shards("vectors/embeddings")
    assert rows.column_names == [
        *("id", "prompt", "chosen", "chosen_tokens", "chosen_truncated"),
        *("rejected", "rejected_tokens", "rejected_truncated"),
    ]
    table = pl.load_pairs("pairs.jsonl")
    for side in ("chosen", "rejected"):
        texts = [pl.data.conversation(p, r) for p, r in zip(table["prompt"], table[side], strict=True)]
        expected = decoder.embed(texts)
        assert np.array(rows[side][:]) == pytest.approx(expected.response.numpy(), rel=1e-4, abs=1e-5)
        assert np.array(rows["prompt"][:]) == pytest.approx(expected.prompt.numpy(), rel=1e-4, abs=1e-5)
        assert rows[f"{side}_tokens"][:] == expected.num_tokens.tolist()
    _, again, err = command(f"{EMBED} --rows_per_shard 16 --json")
    assert json.loads(again) == result
    assert "nothing to do" in err


def test_what_is_embedded_is_in_the_cache(decoder, command):
    assert command(EMBED)[0] == 0
    table = pl.load_pairs("pairs.jsonl")
    texts = [pl.data.conversation(p, r) for p, r in zip(table["prompt"], table["chosen"], strict=True)]
    stats = decoder.embed(texts, cache=pl.backbones.EmbeddingCache()).stats
    assert (stats.computed, stats.cached) == (0, 40)


def test_embeddings_of_another_backbone_or_reading_are_refused(decoder, command):
    assert command(f"{EMBED} --cache none")[0] == 0
    status, _, err = command(f"{EMBED} --cache none --pooling mean")
    assert status == 1
    assert "pooling: None in that run, 'mean' in this one" in err
    tiny_decoder(Path("other"), "gpt2")
    status, _, err = command(EMBED.replace("decoder", "other"))
    assert status == 1
    assert "vectors belongs to another run" in err
    status, _, err = command(EMBED.replace("decoder", "nowhere/at-all"))
    assert status == 1
    assert "neither a folder nor a repository" in err


def test_embedding_needs_no_labels(decoder, command):
    Path("plain.jsonl").write_text('{"response": "only this"}\n{"response": ""}\n')
    assert command(EMBED.replace("pairs", "plain"))[0] == 0
    table = pq.read_table("vectors/embeddings/shard-00000.parquet")
    assert not np.array(table.column("prompt").to_pylist()).any()
    assert len(table) == 2
