"""Folders of evaluations: what `evaluate` writes for a small model, to be read, changed and damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import pluralign as pl
from fake_backbone import WIDTH, FakeBackbone, ratings_rows
from pluralign.evaluation import evaluate
from pluralign.heads import Attribute, BradleyTerryHead, ColumnScaling, QuantileHead

LEVELS = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)


def evaluated_quantiles(folder: Path, attributes: int) -> None:
    """A quantile model on rows of two kinds of prompt, whose true quantiles are known."""
    weight = torch.zeros(attributes, 5, WIDTH)
    weight[:, :, 0] = 0.2
    weight[:, :, 1] = torch.tensor([-0.3, -0.1, 0.0, 0.1, 0.3])
    head, constant = (
        QuantileHead(
            ColumnScaling.empty(WIDTH),
            coef,
            (0.3 + 0.4 * LEVELS.float()).expand(attributes, 5).clone(),
            LEVELS,
            tuple(Attribute(f"a{i}", 1.0, 5.0, 1.0) for i in range(attributes)),
        )
        for coef in (weight, torch.zeros_like(weight))
    )
    scores = BradleyTerryHead(ColumnScaling.empty(WIDTH), torch.eye(WIDTH)[0])
    baselines = {"constant": constant, "bradley_terry": scores}
    model = pl.RewardModel(FakeBackbone(), head, baselines=baselines)
    rows = [
        row | {"subset": "craft" if i % 8 < 4 else "care", "true_quantiles": [2.0, 3.0, 4.0]}
        for i, row in enumerate(ratings_rows(30, attributes=attributes))
    ]
    evaluate(model, ratings=pl.load_ratings(rows), out=folder)
    record = {
        "verb": "evaluate",
        "config": {"model": "runs/one", "family": "quantile", "folds": 0, "ratings": "data/ratings.jsonl"},
        "inputs": {"ratings": "ab" * 32, "model": "cd" * 32},
        "versions": {"pluralign": "1.2.3"},
        "started": "2026-01-01T00:00:00Z",
    }
    (folder / "run.json").write_text(json.dumps(record))


def evaluated_scores(folder: Path) -> None:
    """A Bradley-Terry model, which predicts no distributions, on the same rows."""
    model = pl.RewardModel(FakeBackbone(), BradleyTerryHead(ColumnScaling.empty(WIDTH), torch.eye(WIDTH)[0]))
    evaluate(model, ratings=pl.load_ratings(ratings_rows(30)), out=folder)


def evaluated_ensemble(folder: Path) -> None:
    """Three Gaussian heads on the same rows, and the warnings of their fit."""
    ratings = pl.load_ratings(ratings_rows(30))
    config = {"heads": 3, "l2": 0.1, "std_l2": 1.0, "steps": 30}
    model = pl.fit("gaussian_ensemble", ratings=ratings, config=config, backbone=FakeBackbone(), cache=None)
    model.fitted["warnings"] = ["the heads of <a0> are nearly equal"]
    evaluate(model, ratings=ratings, out=folder)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    evaluated_quantiles(folder / "one", 1)
    evaluated_quantiles(folder / "two", 2)
    evaluated_scores(folder / "scores")
    evaluated_ensemble(folder / "heads")
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy that a test may change: `one` or `two` attributes, `scores` of Bradley-Terry, `heads`."""

    def copy(name: str, to: str | None = None) -> Path:
        return Path(shutil.copytree(made / name, tmp_path / (to or name)))

    return copy


@pytest.fixture
def change() -> Callable[..., None]:
    """Rewrites a file of JSON, or every line of one, by a function of its content."""

    def change(file: Path, function: Callable[[Any], Any]) -> None:
        parts = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
        values = [json.loads(part) for part in parts]
        for value in values:
            function(value)
        file.write_text("\n".join(map(json.dumps, values)) + "\n")

    return change
