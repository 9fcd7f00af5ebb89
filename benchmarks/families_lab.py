"""All families in the lab, where the true law is known; docs/results.md shows the numbers.

    OMP_NUM_THREADS=1 python benchmarks/families_lab.py [--studies tables ...] [--where features=traits]

Studies: `recovery` of the true law of ratings as rated responses grow; `bounds`, what is left of W1 when
nothing is left to learn; `categories`, how many of them; `tables` of rewards, and costs of transport;
`personas`, other people than those who judge. One JSON per run; what is there already is skipped unless
--force is given. Runs go seed by seed, so that an interrupted study has whole seeds, and the same command
continues it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import families_lab_categories
import families_lab_personas
import families_lab_recovery
import families_lab_tables
from study_runs import name_of, record
from tables import write

RESULTS = Path(__file__).parent / "results" / "families_lab"

# name -> the runs of a seed, and what one run does
STUDIES: dict[str, tuple[Callable[[int], list[dict[str, Any]]], Callable[..., dict[str, Any]]]] = {
    "recovery": (families_lab_recovery.grid, families_lab_recovery.run),
    "bounds": (lambda seed: [{"seed": 0}] if seed == 0 else [], families_lab_recovery.bounds),
    "categories": (families_lab_categories.grid, families_lab_categories.run),
    "tables": (families_lab_tables.grid, families_lab_tables.run),
    "personas": (families_lab_personas.grid, families_lab_personas.run),
}


def main() -> None:
    """Runs what was asked for and is not there yet."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--studies", nargs="*", default=list(STUDIES), choices=list(STUDIES), metavar="STUDY")
    parser.add_argument("--where", nargs="*", default=[], metavar="KEY=VALUE,...", help="only these runs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--force", action="store_true", help="run again what is there already")
    options = parser.parse_args()
    wanted = [(key, values.split(",")) for key, values in (one.split("=") for one in options.where)]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        for study in options.studies:
            runs, run = STUDIES[study]
            for settings in runs(seed):
                target = RESULTS / name_of(study, settings)
                exists = target.exists() and not options.force
                if exists or not all(str(settings.get(key)) in values for key, values in wanted):
                    continue
                result = record(study, settings, run)
                write(target, result)
                print(f"{target.stem}: {result['cpu_seconds']} s", flush=True)


if __name__ == "__main__":
    main()
