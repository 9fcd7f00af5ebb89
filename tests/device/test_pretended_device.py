"""Runs the files `cases_*.py` in a process whose torch has one device more; see `pretended`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch.utils.backend_registration

HERE = Path(__file__).parent
CASES = sorted(str(file) for file in HERE.glob("cases_*.py"))


@pytest.mark.skipif(
    not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch has no way to register a device from Python",
)
def test_all_cases_on_the_pretended_device():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *CASES]
    environment = os.environ | {"PLURALIGN_PRETENDED_DEVICE": "1"}
    done = subprocess.run(command, env=environment, cwd=HERE.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) > 200
    assert "skipped" not in done.stdout
