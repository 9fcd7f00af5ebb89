"""The page on a training run: what is read, which numbers it says, and files that are damaged or foreign."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from pluralign.errors import ArtifactError
from pluralign.report.run_content import MOST_POINTS, build_run_content, paired_samples
from pluralign.report.run_page import render_run, write_run
from pluralign.report.training_runs import is_training_run, read_training_run
from pluralign.warning_signs import SIGNS

pytest.importorskip("jinja2")


def sample(text, prompt="Why?", **changed):
    numbers = {
        "tokens": len(text),
        "cut_off": False,
        "reward": 1.0,
        "gold": 2.0,
        "log_ratio": 0.5,
        "kl_k3": 0.1,
    }
    prompt = [{"role": "user", "content": prompt}]
    return {"prompt": prompt, "response": text, **numbers, "profile": {"utility": 1.0, "std": 0.25}} | changed


def online(step):
    """A step of a run whose reward rises by .1 a step, and whose entropy falls by .01."""
    return {
        "step": step,
        "reward/utility": 0.1 * step,
        "reward/utility_std": 0.5,
        "reward/std": 0.8,
        "reward/mean": 0.1 * step + 0.2,
        "reward/tail": 0.1 * step - 1,
        "kl_k3": 0.02 * step,
        "entropy": 2 - 0.01 * step,
        "length": 20.0,
        "cut_off": 0.1,
        "signs/crossing": 0.5 if 3 <= step <= 5 else 0.1,
        "signs/equal_stds": 0.01 if step >= 8 else 0.5,
    }


def evaluation(step, **changed):
    found = {
        "reward": 0.1 * step,
        "gold": 3 - 0.1 * step,
        "kl_k3": 0.02 * step,
        "length": 20.0,
        "cut_off": 0.1,
    }
    found |= {"reward_std": 0.4, "signs/kl_beyond_optimum": 0.3}
    return {"step": step, **{f"eval/{key}": value for key, value in (found | changed).items()}}


def write_lines(file, lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """A finished run of ten steps, as `align --method ppo` leaves it."""
    run = tmp_path / "runs" / "ppo"
    lines = [
        evaluation(0),
        *map(online, range(1, 6)),
        evaluation(5),
        *map(online, range(6, 11)),
        evaluation(10),
    ]
    write_lines(run / "metrics.jsonl", [{"time": "2026-01-01T00:00:00Z", **line} for line in lines])
    config = {"method": "ppo", "model": "my/policy", "prompts": "p q.jsonl", "steps": 10, "beta": 0.1}
    config |= {"reward_model": "runs/quality", "risk": "cvar:0.1", "combine": [], "tokenizer": None}
    record = {
        "verb": "align",
        "config": config,
        "inputs": {"prompts": "ab" * 32},
        "versions": {"pluralign": "1.2.3"},
        "started": "2026-01-01T00:00:00Z",
    }
    (run / "run.json").write_text(json.dumps(record))
    best = {"step": 5, "metric": "gold", "value": 2.5}
    (run / "done.json").write_text(json.dumps({"made": [], "result": {"run": str(run), "best": best}}))
    kinds = {0: "before", 5: "between", 10: "after"}
    for step, kind in kinds.items():
        said = [sample(f"{kind} {n} {m}", prompt=f"Q{n}") for n in range(12) for m in range(2)]
        write_lines(run / "training" / "samples" / f"step-{step:06d}.jsonl", said)
    return run


def test_what_is_read(folder):
    assert is_training_run(folder)
    run = read_training_run(folder)
    assert [line["step"] for line in run.steps] == list(range(1, 11))
    assert [line["step"] for line in run.evaluations] == [0, 5, 10]
    assert run.evaluations[1]["gold"] == 2.5
    assert (run.finished, run.best["step"], sorted(run.samples)) == (True, 5, [0, 10])
    pairs = paired_samples(run)
    assert len(pairs) == 24
    assert [one["response"] for one in pairs[3]] == ["before 1 1", "after 1 1"]


def test_numbers_of_the_content(folder):
    content = build_run_content(
        read_training_run(folder), {"gold": {"estimate": -1.0, "low": -2.0, "high": -0.5}}
    )
    lines = {line["key"]: line for line in content["headlines"]}
    assert (lines["gold"]["before"], lines["gold"]["after"]) == (3.0, 2.0)
    assert lines["gold"]["difference"]["estimate"] == -1.0
    assert lines["reward"]["difference"] is None
    assert (lines["entropy"]["before"], lines["entropy"]["after"]) == pytest.approx((1.99, 1.9))
    reward = next(curve for curve in content["curves"] if curve["name"] == "Reward")
    assert reward["lines"][0]["x"] == list(range(1, 11))
    assert reward["lines"][0]["y"] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert reward["lines"][0]["spread"] == [0.5] * 10
    assert reward["dots"] == {"x": [0, 5, 10], "y": [0.0, 0.5, 1.0]}
    assert [curve["name"] for curve in content["curves"]] == [
        *("Reward", "Spread of the reward", "Mean and worst tenth", "Gold reward"),
        *("KL divergence from the reference", "Entropy", "Length", "Cut off"),
    ]
    assert content["against_kl"][0] == {
        "name": "Gold reward",
        "x": pytest.approx([0, 0.1, 0.2]),
        "y": pytest.approx([3, 2.5, 2]),
        "steps": [0, 5, 10],
    }
    assert [one["prompt"][0]["content"] for one in content["examples"]] == [
        "Q0",
        "Q2",
        "Q4",
        "Q6",
        "Q8",
        "Q10",
    ]
    assert content["examples"][1]["after"]["response"] == "after 2 0"
    tail = next(m for m in content["measures"] if m["name"] == "reward/tail")
    assert [tail[key] for key in ("count", "first", "last", "lowest")] == pytest.approx([10, -0.9, 0, -0.9])
    json.dumps(content, allow_nan=False)


def test_signs_that_are_seen_come_first(folder):
    content = build_run_content(read_training_run(folder))
    first, second, third = content["signs"]
    assert (first["name"], first["now"], first["first_step"], first["seen"]) == ("equal_stds", True, 8, 3)
    assert (second["name"], second["now"], second["seen"], second["worst"]) == ("crossing", False, 3, 0.5)
    assert (second["first_step"], second["last_step"]) == (3, 5)
    assert (third["name"], third["seen"], third["measured"]) == ("kl_beyond_optimum", 0, 3)
    assert len(content["not_measured"]) == len(SIGNS) - 3
    page = render_run(content)
    assert "Equal stds: beyond the limit when last measured." in page
    assert SIGNS["equal_stds"].advice in page
    assert "from step 3 to 5" in page
    assert "never in 3 times" in page
    assert "50.0\u00a0%" in page


def test_long_curves_are_averaged(folder):
    write_lines(folder / "metrics.jsonl", [online(step) for step in range(1, 401)])
    content = build_run_content(read_training_run(folder))
    line = content["curves"][0]["lines"][0]
    assert line["per_point"] == math.ceil(400 / MOST_POINTS) == 3
    assert len(line["x"]) == 134
    assert (line["x"][0], line["y"][0]) == pytest.approx((2, 0.2))
    assert (line["x"][-1], line["y"][-1]) == pytest.approx((400, 40))
    assert "an average of up to 3 steps" in render_run(content)
    assert content["headlines"][0]["where"] == "the first and the last 40 steps of training"


def test_the_page(folder):
    content = build_run_content(read_training_run(folder))
    page = render_run(content)
    assert page == render_run(content)
    assert "PPO of my/policy" in page
    assert page.count("<svg") == 8 + 2
    assert page.count("<polygon") == 1
    assert "after 10 0" in page
    assert "pluralign align --method ppo --model my/policy --prompts &#39;p q.jsonl&#39;" in page
    assert "The best evaluation, gold 2.500, was after step 5." in page
    assert "not finished" not in page
    assert "<script" not in page
    write_run(content, folder / "report.html")
    assert (folder / "report.html").read_text(encoding="utf-8") == page


def test_texts_are_escaped_and_printable(folder):
    file = folder / "training" / "samples" / "step-000010.jsonl"
    said = [json.loads(line) for line in file.read_text().splitlines()]
    said[0]["response"] = "<img src=x onerror=alert(1)>\u2028\x00\ud800"
    write_lines(file, said)
    page = render_run(build_run_content(read_training_run(folder)))
    assert "<img" not in page
    assert "&lt;img src=x" in page
    assert not re.search("[\x00\ud800]", page)


def test_a_run_under_way(folder):
    """The last line may be half written, and there may be one evaluation."""
    (folder / "done.json").unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join(lines[:4]) + "\n" + lines[4][:25])
    for step in (5, 10):
        (folder / "training" / "samples" / f"step-{step:06d}.jsonl").unlink()
    run = read_training_run(folder)
    assert (run.finished, len(run.steps), len(run.evaluations)) == (False, 3, 1)
    content = build_run_content(run)
    page = render_run(content)
    assert "3 of 10 steps, not finished" in page
    assert content["against_kl"] == []
    assert content["examples"][0]["after"] is None
    assert "side by side" not in page
    assert {line["before"] for line in content["headlines"] if line["key"] == "gold"} == {None}


def test_what_a_trainer_wrote(folder, tmp_path):
    """The output_dir of a PPOTrainer: no record of a command, samples beside the measurements."""
    made = tmp_path / "made"
    made.mkdir()
    (folder / "metrics.jsonl").rename(made / "metrics.jsonl")
    (folder / "training" / "samples").rename(made / "samples")
    assert is_training_run(made)
    run = read_training_run(made)
    assert (run.run, run.finished, run.best) == (None, None, None)
    page = render_run(build_run_content(run))
    assert "Training in made" in page
    assert "after 10 0" in page


def test_other_prompts_are_not_put_side_by_side(folder):
    write_lines(folder / "training" / "samples" / "step-000010.jsonl", [sample("other", prompt="Else?")])
    run = read_training_run(folder)
    assert paired_samples(run) == []
    (example,) = build_run_content(run)["examples"]
    assert (example["before"]["response"], example["after"]) == ("other", None)


def test_a_run_offline_has_the_same_names(tmp_path):
    lines = [
        {"step": 0, "eval_loss": 0.2, "eval_samples/reward": 1.0, "eval_samples/kl_k3": 0.0},
        {"step": 10, "loss": 0.1, "rewards/margins": 0.3, "epoch": 0.5},
        {
            "step": 20,
            "eval_loss": 0.1,
            "eval_samples/reward": 2.0,
            "eval_samples/kl_k3": 1.5,
            "eval_samples/optimum_kl": 4.0,
            "eval_samples/signs/kl_beyond_optimum": 0.4,
        },
    ]
    write_lines(tmp_path / "metrics.jsonl", lines)
    content = build_run_content(read_training_run(tmp_path))
    assert {line["key"]: (line["before"], line["after"]) for line in content["headlines"]} == {
        "reward": (1.0, 2.0),
        "kl_k3": (0.0, 1.5),
    }
    curves = {curve["name"]: curve for curve in content["curves"]}
    assert set(curves) == {"Reward", "KL divergence from the reference", "Loss", "Implicit rewards"}
    assert curves["KL divergence from the reference"]["level"] == 4.0
    assert curves["Loss"]["lines"][0]["y"] == [0.1]
    assert [sign["name"] for sign in content["signs"]] == ["kl_beyond_optimum"]
    assert "optimum of beta: 4.000" in render_run(content)


def test_flat_curves_and_single_points(tmp_path):
    write_lines(tmp_path / "metrics.jsonl", [online(1) | {"cut_off": 0.0, "reward/utility": 0.0}])
    page = render_run(build_run_content(read_training_run(tmp_path)))
    assert "nan" not in page
    assert page.count("<svg") == 7


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.jsonl", "", "no measurements yet"),
        ("metrics.jsonl", '{"step": 1}\nhalf\n{"step": 2}\n', "line 2 is damaged"),
        ("metrics.jsonl", '{"reward/utility": 1.0}\n', "line 1: step is missing"),
        ("metrics.jsonl", '{"step": 1, "kl": "far"}\n', "kl is 'far'; allowed: a finite number"),
        ("metrics.jsonl", "[1]\n", "allowed: an object"),
        ("run.json", '{"verb": "align"}', "config is missing"),
        ("done.json", "{", "done.json is damaged"),
        ("done.json", '{"result": {"best": {"step": 1}}}', "metric is missing"),
        ("training/samples/step-000010.jsonl", '{"prompt": []}\n', "line 1: response is missing"),
    ],
)
def test_files_that_are_damaged_or_foreign(folder, name, content, message):
    (folder / name).write_text(content)
    with pytest.raises(ArtifactError, match=re.escape(message)):
        read_training_run(folder)


def test_other_folders_are_not_training_runs(tmp_path):
    assert not is_training_run(tmp_path)
    assert not is_training_run(Path("absent"))
    (tmp_path / "run.json").write_text('{"verb": "evaluate"}')
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    assert not is_training_run(tmp_path)
    (tmp_path / "run.json").write_text("half")
    assert not is_training_run(tmp_path)
