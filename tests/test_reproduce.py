"""The recipes in examples/reproduce: their flags exist, each runs on tables of the published schemas."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import tiny_policy
from pluralign.cli.main import main as command

FOLDER = Path(__file__).parents[1] / "examples" / "reproduce"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
ATTRIBUTES: list[str] = yaml.safe_load((FOLDER / "qrm.yaml").read_text())["steps"]["fit"]["flags"][
    "attribute_columns"
]


@pytest.fixture(scope="module")
def run() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reproduce_run", FOLDER / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_paper_has_a_recipe() -> None:
    assert RECIPES == ["brme", "dprm", "qrm", "qrpo"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_flag_of_a_recipe_exists(
    name: str, run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Commands get as far as their data, which is not there."""
    monkeypatch.chdir(tmp_path)
    run.main([name, "--dry-run"])
    steps = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["steps"]
    for step, about in steps.items():
        config = tmp_path / "runs" / "reproduce" / name / f"{step}.yaml"
        known = yaml.safe_load(config.read_text())
        assert set(about["flags"]) <= set(known)
        assert not [value for value in known.values() if str(value).startswith("@")]
        capsys.readouterr()
        assert command([about["command"], "--config", str(config)]) in (1, 2)
        said = capsys.readouterr().err
        assert "unknown" not in said, said
        assert "allowed: " not in said or "hub" in said or "no such file" in said.lower(), said


def test_what_is_changed_has_to_be_there(run: ModuleType, tmp_path: Path) -> None:
    for change, said in (
        ("fit.backbone", "received no STEP.FLAG=VALUE"),
        ("backbone=minilm", "received no STEP.FLAG=VALUE"),
        ("fitt.backbone=minilm", "no step 'fitt' (did you mean 'fit'?)"),
        ("fit.levels=[0.1", "the value is not YAML"),
        ("rewardbench.model=@fitt", "rewardbench.model: @fitt names no step; steps: fit, rewardbench"),
    ):
        with pytest.raises(SystemExit) as raised:
            run.main(["qrm", "--dry-run", "--folder", str(tmp_path), "--set", change])
        assert said in str(raised.value)


def test_a_failing_step_ends_the_recipe(
    run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def fails(verb: str, config: Path) -> int:
        done.append(verb)
        return 3

    monkeypatch.setattr(run, "pluralign", fails)
    with pytest.raises(SystemExit) as raised:
        run.main(["brme", "--folder", str(tmp_path)])
    assert (raised.value.code, done) == (3, ["fit"])


# -- offline, on made-up tables ----------------------------------------------------------------------


def asked(i: int) -> dict[str, str]:
    return {"role": "user", "content": f"Q{i}?"}


def said(i: int, good: float) -> dict[str, str]:
    return {"role": "assistant", "content": f"{'b' if good > 0.5 else 'a'}{i}"}


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def tables(folder: Path) -> dict[str, str]:
    """Files with the columns of the published sets, and a policy."""
    draw = random.Random(0)
    rated, helpsteer = [], []
    for i in range(60):
        good = draw.random()
        row: dict[str, Any] = {"messages": [asked(i // 3), said(i, good)]}
        row |= {name: None if draw.random() < 0.2 else round(4 * good) / 4 for name in ATTRIBUTES}
        rated.append(row)
        people = {
            name: [min(4, max(0, round(4 * good) + draw.choice((-1, 0, 1)))) for _ in range(3)]
            for name in ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
        }
        helpsteer.append({"prompt": f"Q{i // 3}?", "response": said(i, good)["content"]} | people)
    both = [
        {"chosen": [asked(i), said(i, 1.0)], "rejected": [asked(i), said(i, 0.0)], "chosen_score": 1.0}
        for i in range(24)
    ]
    feedback = [
        {"prompt": f"Q{i}?", "prompt_id": str(i), "messages": row["chosen"], **row}
        for i, row in enumerate(both)
    ]
    bench = [
        {"id": i, "prompt": f"B{i}?", "chosen": f"b{i}", "chosen_model": "m", "rejected": f"a{i}",
         "rejected_model": "m", "subset": ("hep-cpp", "llmbar-natural")[i % 2]}
        for i in range(8)
    ]  # fmt: skip
    prompts = [{"uuid": str(i), "instruction": f"Q{i}?", "response": "a"} for i in range(6)]
    return {
        "armorm": written(folder / "armorm.jsonl", rated),
        "pairs": written(folder / "pairs.jsonl", both),
        "feedback": written(folder / "feedback.jsonl", feedback),
        "helpsteer": written(folder / "disagreements.jsonl", helpsteer),
        "bench": written(folder / "bench.jsonl", bench),
        "prompts": written(folder / "magpie.jsonl", prompts),
        "tiny": str(tiny_policy.saved(folder / "tiny")),
    }


GATE = ("gate_steps=4", "gate_batch=16", "gate_hidden=4")
PPO = (
    "hub_split=",
    "steps=1",
    "prompts_per_step=4",
    "max_new_tokens=4",
    "lora_r=2",
    "save_steps=0",
    "model={tiny}",
)
TUNED = (
    *(
        "backbone={tiny}",
        "dtype=float32",
        "max_length=64",
        "tune_rank=2",
        "tune_batch=4",
        "tune_accumulate=2",
    ),
    *("tune_bf16=false", "hub_split=", "test_share=0.2"),
)
CHANGES: dict[str, dict[str, tuple[str, ...]]] = {
    "qrm": {
        "fit": ("backbone={tiny}", "dtype=float32", "max_length=64", "ratings={armorm}", "pairs={pairs}",
                "hub_split=", *GATE),
        "rewardbench": ("pairs={bench}", "hub_split="),
    },
    "brme": {
        "fit": ("pairs={feedback}", *TUNED),
        "rewardbench": ("pairs={bench}", "hub_split="),
        "align": ("prompts={feedback}", *PPO),
    },
    "dprm": {
        "fit": ("ratings={helpsteer}", "l2=0.1", "steps=20", *TUNED),
        "evaluate": ("ratings={helpsteer}",),
        "align": ("prompts={helpsteer}", *PPO),
    },
    "qrpo": {
        "fit": ("backbone={tiny}", "dtype=float32", "max_length=64", "ratings={armorm}", "pairs={pairs}",
                "hub_split=", *GATE),
        "sample": ("prompts={prompts}", "hub_split=", "model={tiny}", "dtype=float32", "max_new_tokens=6"),
        "align": ("model={tiny}", "bf16=false", "gradient_accumulation_steps=2", "max_length=64"),
        "alpaca_eval": ("prompts={prompts}", "hub_split=", "max_new_tokens=6"),
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.filterwarnings("ignore::pluralign.errors.PluralignWarning")
def test_a_recipe_runs_offline(
    name: str, run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """From the first step to the last; and once more, where nothing is left to do."""
    places = tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "pluralign", lambda verb, config: command([verb, "--config", str(config)]))
    changes = [
        f"{step}.{change.format(**places)}" for step, parts in CHANGES[name].items() for change in parts
    ]
    run.main([name, "--set", *changes])
    for step in CHANGES[name]:
        folder = tmp_path / "runs" / "reproduce" / name / step
        assert json.loads((folder / "run.json").read_text()), step
    if name == "qrpo":
        answers = json.loads((folder / "alpaca_eval.json").read_text())
        assert len(answers) == 6
    capsys.readouterr()
    run.main([name, "--set", *changes])
    assert capsys.readouterr().err.count("already holds this run") >= len(CHANGES[name]) - 1
