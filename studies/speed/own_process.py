"""One case of a speed study in a process of its own, on one thread, without the hub.

The study's module is run with the case as flags, and the last line that it prints is the result. Only the
standard library is used, since the Python may be that of another environment.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from studies.records import ROOT

__all__ = ["print_case", "run_case"]


def run_case(
    module: str, case: Mapping[str, Any], python: str = sys.executable, **environment: str
) -> dict[str, Any]:
    """What `module` prints for a case.

    Args:
        module: as `studies.speed.policy`.
        case: the flags and their values.
        python: the interpreter.
        environment: variables in addition to those of this process.

    Raises:
        RuntimeError: the process failed; with the end of its stderr.
    """
    flags = [part for name, value in case.items() for part in (f"--{name}", str(value))]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | environment
    done = subprocess.run(
        [python, "-m", module, *flags], env=variables, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(flags)}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def print_case(measure: Callable[..., dict[str, Any]], **choices: Sequence[str]) -> None:
    """The other side of `run_case`: measures the case of the command line and prints the result.

    Args:
        measure: takes the flags and `seed`.
        choices: the flags, and what each may be.
    """
    parser = argparse.ArgumentParser()
    for name, allowed in choices.items():
        parser.add_argument(f"--{name}", choices=allowed, required=True)
    parser.add_argument("--seed", type=int, required=True)
    print(json.dumps(measure(**vars(parser.parse_args()))))
