"""Policy study in the lab: which offline method helps people, at what distance, and why.

    python benchmarks/lab_policy.py                  # what is not there yet, most important first
    python benchmarks/lab_policy.py --arms methods gold
    python benchmarks/lab_policy.py --minutes 30       # begin no run after that

One JSON per run in `results/lab_policy/`; runs that are there are skipped, so it can be interrupted at any
time. Grids are searched first, on a seed of their own, by gold reward; each method then runs with its best
settings on 5 seeds. What can be computed again (the language model, samples, proxies) lies in the folder of
--work.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import pluralign as pl
from lab_policy_ideal import ideal
from lab_policy_runs import GRIDS, Run, Settings, search, study, training_table
from lab_policy_world import CROWD, World
from pluralign.backbones.threads import choose_num_threads
from pluralign.lab import summarise_samples
from study_runs import provenance
from tables import write as write_result

RESULTS = Path(__file__).parent / "results" / "lab_policy"
WORK = Path(__file__).parent.parent / ".runs" / "lab_policy"
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


def perform(world: World, run: Run) -> dict[str, Any]:
    """Train, judge, and everything worth keeping."""
    started, cpu = time.perf_counter(), time.process_time()
    model, log = train(world, run)
    samples = world.judge(model, run.reward)
    return {
        "run": asdict(run),
        "outcome": summarise_samples(CROWD, samples, world.before.samples()),
        "log": log,
        "examples": samples.responses[:4],
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def best_settings() -> Settings | None:
    """Of each method, the grid point of the highest gold reward; None while a grid is incomplete."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for run in search():
        path = RESULTS / f"{run.name}.json"
        if not path.exists():
            return None
        gold = json.loads(path.read_text())["outcome"]["measures"]["gold"]["estimate"]
        found.setdefault(run.method, []).append((gold, run.beta, run.learning_rate))
    return {method: max(found[method])[1:] for method in GRIDS}


def everything() -> Iterator[Run]:
    """Grids, then the study that follows from them."""
    yield from search()
    best = best_settings()
    if best is not None:
        yield from study(best)


def write(name: str, record: dict[str, Any]) -> None:
    """One result file, whole or not at all."""
    record |= {
        **provenance(),
    }
    target = RESULTS / f"{name}.json"
    write_result(target, record)


def main() -> None:
    """Runs what is not there yet."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--arms", nargs="*", help="only these arms")
    parser.add_argument("--seeds", nargs="*", type=int, help="only these seeds; processes may share the work")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after that")
    options = parser.parse_args()
    torch.set_num_threads(choose_num_threads())
    _quiet()
    RESULTS.mkdir(parents=True, exist_ok=True)
    world = lru_cache(maxsize=None)(lambda seed: World(options.work, seed))
    started = time.perf_counter()
    for run in everything():
        if (options.arms and run.arm not in options.arms) or (
            options.seeds and run.seed not in options.seeds
        ):
            continue
        if time.perf_counter() - started > 60 * options.minutes:
            print(f"{options.minutes:g} minutes are over")
            return
        if run.arm == "methods" and not (RESULTS / f"before-{run.seed}.json").exists():
            write(f"before-{run.seed}", {"seed": run.seed, **before(world(run.seed))})
        if (RESULTS / f"{run.name}.json").exists():
            continue
        record = perform(world(run.seed), run)
        write(run.name, record)
        measures = record["outcome"]["measures"]
        shown = ", ".join(f"{k} {measures[k]['estimate']:.3f}" for k in ("gold", "proxy", "kl", "broken"))
        print(f"{run.name}: {shown}; {record['seconds']} s", flush=True)


def before(world: World) -> dict[str, Any]:
    """The language model itself, and how far reweighting its own responses could get."""
    proxy = world.rewards("before", "mean").flatten()
    samples = world.before.samples(proxy=proxy)
    return {"outcome": summarise_samples(CROWD, samples), "ideal": ideal(world)}


def _quiet() -> None:
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    from transformers.trainer_callback import PrinterCallback

    PrinterCallback.on_log = lambda *args, **options: None  # its lines are in the records


if __name__ == "__main__":
    main()
