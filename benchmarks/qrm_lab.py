"""QRM in the lab, where the truth is known: the numbers of docs/results.md, section "QRM in the lab".

Studies: `recovery` of the true quantiles as data grows; `levels`, the number K of quantiles; `penalties`, l1
against crossing; `gate`, whether it finds the crowd's weights; `length`, debiasing. One JSON per run; what is
there already is skipped unless --force is given, so an interrupted study is continued by the same command.

    PLURALIGN_CACHE=... python benchmarks/qrm_lab.py --studies recovery levels
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qrm_gate
import qrm_length
import qrm_recovery
from study_runs import name_of, record
from tables import write

RESULTS = Path(__file__).parent / "results" / "qrm_lab"

# name -> its runs, and what one run does
STUDIES: dict[str, tuple[list[dict[str, Any]], Callable[..., dict[str, Any]]]] = {
    "recovery": (qrm_recovery.grid("recovery"), qrm_recovery.recovery),
    "levels": (qrm_recovery.grid("levels"), qrm_recovery.levels),
    "penalties": (qrm_recovery.grid("penalties"), qrm_recovery.penalties),
    "gate": (qrm_gate.grid(), qrm_gate.run),
    "length": (qrm_length.grid(), qrm_length.run),
}


def main() -> None:
    """Runs what was asked for and is not there yet."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--studies", nargs="*", default=list(STUDIES), choices=list(STUDIES), metavar="STUDY")
    parser.add_argument("--force", action="store_true", help="run again what is there already")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for study in options.studies:
        runs, run = STUDIES[study]
        for settings in runs:
            target = RESULTS / name_of(study, settings)
            if target.exists() and not options.force:
                continue
            result = record(study, settings, run)
            write(target, result)
            print(f"{target.name}: {result['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
