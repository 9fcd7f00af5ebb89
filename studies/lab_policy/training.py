"""One run of the lab's policy study: train, sample, and hold against the crowd's truth.

In: settings of a `Run`. Out: outcome, log and a few examples. What can be computed again (the language model,
samples, proxies) lies in the work folder.
"""

from __future__ import annotations

import tempfile
from functools import cache
from typing import Any

import pluralign as pl
from pluralign.lab import summarise_samples
from studies import records
from studies.lab_policy.ideal import ideal
from studies.lab_policy.runs import GRIDS, Run, Settings, runs_of, search, training_table
from studies.lab_policy.world import CROWD, World

WORK = records.WORK / "lab_policy"
BATCH = 32  # responses per step


def train(world: World, run: Run) -> tuple[Any, list[dict[str, float]]]:
    """The trained model, and the last lines of its log."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(world.base)
    table = training_table(world, run)
    with tempfile.TemporaryDirectory() as folder:
        config = pl.policy.OfflineConfig(
            folder,
            method=run.method,
            beta=run.beta,
            transform=run.transform,
            learning_rate=run.learning_rate,
            leave_one_out=run.leaves_one_out,
            estimator="mid" if run.leave_one_out else "inclusive",
            per_device_train_batch_size=BATCH if run.references else BATCH // 2,
            seed=run.seed,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            logging_steps=0.25,
        )
        trainer = pl.policy.OfflineTrainer(model, config, table)
        trainer.train()
    model.eval()
    return model, [line for line in trainer.state.log_history if "loss" in line]


@cache
def world(seed: int) -> World:
    """What runs of a seed share."""
    return World(WORK, seed)


def perform(arm: str, **settings: Any) -> dict[str, Any]:
    """Trains and evaluates, and returns everything to keep."""
    run = Run(arm, **settings)
    _quiet()
    model, log = train(world(run.seed), run)
    samples = world(run.seed).evaluated(model, run.reward)
    return {
        "outcome": summarise_samples(CROWD, samples, world(run.seed).before.samples()),
        "log": log,
        "examples": samples.responses[:4],
    }


def before(seed: int) -> dict[str, Any]:
    """The language model itself, and how far reweighting its own responses could get."""
    proxy = world(seed).rewards("before", "mean").flatten()
    samples = world(seed).before.samples(proxy=proxy)
    return {"outcome": summarise_samples(CROWD, samples), "ideal": ideal(world(seed))}


def best_settings() -> Settings | None:
    """Of each method, the grid point of the highest gold reward; None while a grid is incomplete."""
    known = {records.name_of("grid", r["settings"]): r["results"] for r in records.read("lab_policy", "grid")}
    found: dict[str, list[tuple[float, float, float]]] = {}
    for run in search():
        name = records.name_of("grid", run.settings())
        if name not in known:
            return None
        gold = known[name]["outcome"]["measures"]["gold"]["estimate"]
        found.setdefault(run.method, []).append((gold, run.beta, run.learning_rate))
    return {method: max(found[method])[1:] for method in GRIDS}


def grid(seed: int) -> list[dict[str, Any]]:
    """Every point of every grid, on a seed of its own."""
    return [] if seed else [run.settings() for run in search()]


def after_grid(arm: str, seed: int) -> list[dict[str, Any]]:
    """The runs of an arm, which follow from the grids; none before these are complete."""
    best = best_settings()
    return [] if best is None else [run.settings() for run in runs_of(arm, seed, best)]


def _quiet() -> None:
    from transformers.trainer_callback import PrinterCallback

    PrinterCallback.on_log = lambda *args, **options: None  # its lines are in the records
