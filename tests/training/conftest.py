"""Runs of tiny policies."""

from __future__ import annotations

import pytest

import remembered_probes


@pytest.fixture(autouse=True, scope="session")
def probes_are_remembered() -> None:
    remembered_probes.install()
