"""Does the runs of a study that are not there yet, and keeps what comes out.

In: a study, and which of its runs are wanted. Out: records. A run that is there is skipped, so a study
that was interrupted, by whatever, is continued by the same command, and several processes may share one.
"""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pluralign.backbones.threads import choose_num_threads, torch_threads
from studies import records
from studies.study import Arm, Settings, Study

PACKAGES = ("pluralign", "torch", "transformers", "numpy")


@dataclass(frozen=True)
class Wanted:
    """Which runs.

    Attributes:
        arms: their names; empty for all.
        seeds: how many; None for as many as each arm has.
        where: values that a setting may have, by its name; compared as words.
    """

    arms: Sequence[str] = ()
    seeds: int | None = None
    where: Mapping[str, Sequence[str]] | None = None

    def of(self, study: Study) -> Iterator[tuple[str, Arm, Settings]]:
        """The runs, seed by seed, so that an interrupted study has whole seeds."""
        chosen = {name: arm for name, arm in study.arms.items() if not self.arms or name in self.arms}
        counts = {name: arm.seeds if self.seeds is None else self.seeds for name, arm in chosen.items()}
        for seed in range(max(counts.values(), default=0)):
            for name, arm in chosen.items():
                for settings in arm.runs(seed) if seed < counts[name] else ():
                    if all(str(settings.get(k)) in values for k, values in (self.where or {}).items()):
                        yield name, arm, settings


def perform(
    study: Study,
    wanted: Wanted,
    *,
    force: bool = False,
    minutes: float = float("inf"),
    report: Callable[[str], None] = print,
) -> int:
    """Does what is wanted and missing, and returns how many runs that were.

    Args:
        study: whose runs.
        wanted: which of them.
        force: do what is there again.
        minutes: begin no run after that.
        report: called with a line for every run that is done, and for those that another process does.
    """
    started, done = time.monotonic(), 0
    for arm, how, settings in wanted.of(study):
        if _there(study, arm, settings) and not force:
            continue
        name = records.name_of(arm, settings)
        if time.monotonic() - started > 60 * minutes:
            report(f"{minutes:g} minutes are over")
            break
        with records.claimed(study.name, name) as mine:
            if not mine:
                report(f"{name}: another process is at it")
                continue
            if _there(study, arm, settings) and not force:
                continue  # another process finished it meanwhile
            record = recorded(arm, how, settings)
            records.add(study.name, record)
        done += 1
        report(f"{name}: {record['seconds']:g} s")
    return done


def _there(study: Study, arm: str, settings: Settings) -> bool:
    name = records.name_of(arm, settings)
    return any(records.name_of(arm, one["settings"]) == name for one in records.read(study.name, arm))


def recorded(arm: str, how: Arm, settings: Settings) -> records.Record:
    """Does one run: its results, the time it took, and with what and on what machine."""
    threads = choose_num_threads() if how.threads is None else how.threads
    started, cpu = time.perf_counter(), time.process_time()
    with torch_threads(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = how.run(**settings)
    return {
        "arm": arm,
        "settings": settings,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "versions": {name: metadata.version(name) for name in (*PACKAGES, *how.packages)},
        "hardware": {**hardware(), "threads": threads},
        "results": results,
    }


def hardware() -> dict[str, Any]:
    """The processor, and how busy it is."""
    model, facts = platform.processor(), Path("/proc/cpuinfo")
    if facts.exists():
        named = (
            line.split(":", 1)[1].strip() for line in facts.read_text().splitlines() if "model name" in line
        )
        model = next(named, model)
    return {
        "cpu": model,
        "cpu_count": os.cpu_count(),
        "machine": platform.machine(),
        "load_average": round(os.getloadavg()[0], 1),
    }
