"""Where the real data lies: beside the project, or in the folder that SHARED_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

from studies.records import ROOT


def shared_data() -> Path:
    """The folder that holds emobank/, summeval/ and others.

    Raises:
        SystemExit: there is none.
    """
    folder = Path(os.environ.get("SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        raise SystemExit(
            f"no data at {folder}: set SHARED_DATA to the folder that holds emobank/, summeval/, ..."
        )
    return folder
