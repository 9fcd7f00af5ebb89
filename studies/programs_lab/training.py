"""One run: a policy that is trained on tests, and its programs for held-out instructions.

In: settings. Out: `World.outcome`. Every method learns from 2,048 programs: the offline ones from those of
the language model, once; the online ones from their own, 32 steps of 16 prompts with 4 programs. beta and
learning rate of each method are the best of a small grid, by right programs with the binary reward on a seed
of its own; those of QRPO with the exact Z and tied prompts left out serve all of QRPO's runs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pluralign as pl
from pluralign.lab.programs import share_passed
from studies import records
from studies.programs_lab.world import MAX_NEW_TOKENS, World, reward_of, world

NUM_TESTS = 8
SEARCH_SEED = 5
GRIDS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {  # betas and learning rates
    "qrpo": ((0.1, 0.3, 1.0), (1e-4, 3e-4, 1e-3)),
    "rebel": ((0.3, 1.0), (1e-4, 3e-4, 1e-3)),
    "dpo": ((0.1, 0.3), (1e-4, 3e-4, 1e-3)),
    "simpo": ((2.0,), (1e-4, 3e-4, 1e-3)),
    "gae": ((0.05,), (3e-4, 1e-3, 3e-3)),
    "rloo": ((0.05,), (3e-4, 1e-3, 3e-3)),
    "grpo": ((0.05,), (3e-4, 1e-3, 3e-3)),
}
ONLINE = ("gae", "rloo", "grpo")
REWARDS = ("binary", "graded")


def grid(seed: int) -> list[dict[str, Any]]:
    """Every point of every grid, with the binary reward."""
    points = [(m, b, r) for m, (betas, rates) in GRIDS.items() for b in betas for r in rates]
    found = [{"method": m, "beta": b, "learning_rate": r, "seed": SEARCH_SEED} for m, b, r in points]
    return [] if seed else found


def best_settings() -> dict[str, tuple[float, float]] | None:
    """beta and learning rate of each method; None while the grid is incomplete."""
    known = {
        records.name_of("grid", r["settings"]): r["results"] for r in records.read("programs_lab", "grid")
    }
    found: dict[str, list[tuple[float, float, float]]] = {}
    for point in grid(0):
        name = records.name_of("grid", point)
        if name not in known:
            return None
        found.setdefault(point["method"], []).append(
            (known[name]["right"], point["beta"], point["learning_rate"])
        )
    return {method: max(points)[1:] for method, points in found.items()}


def _with_best(runs: Iterator[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    best = best_settings()
    if best is None:
        return []
    return [
        {**run, "beta": best[run["method"]][0], "learning_rate": best[run["method"]][1], "seed": seed}
        for run in runs
    ]


def methods(seed: int) -> list[dict[str, Any]]:
    """Each method with both rewards."""
    return _with_best(({"method": m, "reward": r} for r in REWARDS for m in GRIDS), seed)


def ties(seed: int) -> list[dict[str, Any]]:
    """QRPO with either Z, tied prompts dropped or kept; without the run that is among the methods."""
    runs = (
        {"method": "qrpo", "reward": r, "partition": z, "tied": t}
        for r in REWARDS
        for z in ("exact", "finite")
        for t in ("dropped", "kept")
        if (z, t) != ("exact", "dropped")
    )
    return _with_best(runs, seed)


def tests(seed: int) -> list[dict[str, Any]]:
    """Fewer and more tests than the eight of the other arms."""
    runs = (
        {"method": m, "reward": r, "num_tests": count}
        for count in (1, 2, 16)
        for m in ("qrpo", "grpo")
        for r in REWARDS
        if count > 1 or r == "binary"
    )
    return _with_best(runs, seed)


def perform(
    method: str,
    beta: float,
    learning_rate: float,
    seed: int,
    reward: str = "binary",
    partition: str = "exact",
    tied: str = "dropped",
    num_tests: int = NUM_TESTS,
) -> dict[str, Any]:
    """Trains and evaluates."""
    own = world(seed)
    begun = time.perf_counter()
    if method in ONLINE:
        policy = _online(own, method, beta, learning_rate, reward, num_tests)
        left_out = 0
    else:
        table, left_out = _table(own, method, reward, num_tests, tied)
        policy = _offline(own, table, method, beta, learning_rate, partition)
    seconds = time.perf_counter() - begun
    return {**own.outcome(policy, num_tests), "left_out": left_out, "train_seconds": seconds}


def before(seed: int) -> dict[str, Any]:
    """The language model itself."""
    own = world(seed)
    return own.outcome(own.load()[0], NUM_TESTS)


def verifier(seed: int) -> dict[str, Any]:
    """The interpreter against `ProgramReward` on the pool of 64 instructions: what both say, and how fast."""
    own = world(seed)
    pairs = [
        (one, row["completion"]) for one, rows in zip(own.trained, own.pool, strict=True) for row in rows
    ]
    pairs = pairs[: 64 * len(own.pool[0])]
    begun = time.perf_counter()
    ours = [share_passed(one, text, one.inputs(NUM_TESTS)) for one, text in pairs]
    interpreted = time.perf_counter() - begun
    reward = pl.policy.ProgramReward(cache_size=0)
    begun = time.perf_counter()
    try:
        rows = {
            "completion": [text for _, text in pairs],
            "tests": [one.tests(NUM_TESTS) for one, _ in pairs],
        }
        theirs = reward(rows)
    finally:
        reward.close()
    ran = time.perf_counter() - begun
    return {
        "programs": len(pairs),
        "differ": sum(a != b for a, b in zip(ours, theirs, strict=True)),
        "zero": sum(share == 0 for share in theirs) / len(theirs),
        "sandbox": reward.sandbox.level,
        "times_faster": ran / interpreted,
    }


def _table(own: World, method: str, reward: str, num_tests: int, tied: str) -> tuple[Any, int]:
    """The training table and how many completions, or pairs, were left out."""
    references = pl.policy.References(own.rewarded(reward, num_tests))
    if method == "qrpo":
        made = pl.policy.unpaired_table(references, leave_out_tied=tied == "dropped")
    else:
        made = pl.policy.pairs_table(references)
    return made.rows, sum(made.left_out.values())


def _offline(own: World, table: Any, method: str, beta: float, learning_rate: float, partition: str) -> Any:
    model, tokenizer = own.load()
    with tempfile.TemporaryDirectory() as folder:
        config = pl.policy.OfflineConfig(
            folder,
            method=method,
            beta=beta,
            learning_rate=learning_rate,
            partition=partition,
            per_device_train_batch_size=32 if method == "qrpo" else 16,
            num_train_epochs=1 if method == "qrpo" else 4,
            seed=own.seed,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = pl.policy.OfflineTrainer(model, config, table, processing_class=tokenizer)
        trainer.train()
    return model.eval()


def _online(own: World, method: str, beta: float, learning_rate: float, reward: str, num_tests: int) -> Any:
    known = {one.text: one for one in own.trained}

    def score(conversations: Sequence[Sequence[Mapping[str, str]]]) -> list[float]:
        return [
            reward_of(known[one[0]["content"]], one[-1]["content"], reward, num_tests)
            for one in conversations
        ]

    model, tokenizer = own.load()
    with tempfile.TemporaryDirectory() as folder:
        config = pl.policy.PPOConfig(
            folder,
            steps=32,
            prompts_per_step=16,
            completions=4,
            max_new_tokens=MAX_NEW_TOKENS,
            advantages=method,
            beta=beta,
            learning_rate=learning_rate,
            critic_learning_rate=1e-3,
            epochs=2,
            rollout_batch_size=256,
            micro_batch_size=64,
            seed=own.seed,
            use_cpu=True,
        )
        trainer = pl.policy.PPOTrainer(
            model,
            config,
            prompts=[{"prompt": one.messages} for one in own.trained],
            reward=score,
            processing_class=tokenizer,
        )
        trainer.train()
    return trainer.policy.eval()
