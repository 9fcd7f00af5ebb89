"""OpenRLHF's own client: its file `openrlhf/utils/agent.py` as released, without the package around it.

The package imports vLLM, DeepSpeed and Ray, which its client does not use. Get it with
`pip install --no-deps openrlhf==0.11.2`, or unpack the wheel and name the folder in OPENRLHF_SOURCE.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

__all__ = ["openrlhf_agent", "openrlhf_folder"]


def openrlhf_folder() -> Path:
    """The folder of the package.

    Raises:
        RuntimeError: it is not there.
    """
    named = os.environ.get("OPENRLHF_SOURCE")
    spec = None if named else importlib.util.find_spec("openrlhf")  # does not import it
    folders = [f"{named}/openrlhf"] if named else list((spec and spec.submodule_search_locations) or ())
    if not folders:
        raise RuntimeError(
            "openrlhf is not installed (pip install --no-deps openrlhf==0.11.2), and OPENRLHF_SOURCE does "
            "not name its folder"
        )
    return Path(folders[0])


def openrlhf_agent() -> ModuleType:
    """The module with the client; what it imports of its package is a stand-in, for its import alone.

    Raises:
        RuntimeError: openrlhf is not there.
    """
    file = openrlhf_folder() / "utils/agent.py"
    loggers = ModuleType("openrlhf.utils.logging_utils")
    loggers.init_logger = logging.getLogger  # type: ignore[attr-defined]
    package = {name: ModuleType(name) for name in ("openrlhf", "openrlhf.utils")}
    spec = importlib.util.spec_from_file_location("openrlhf_agent", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, package | {loggers.__name__: loggers}):
        spec.loader.exec_module(module)
    return module
