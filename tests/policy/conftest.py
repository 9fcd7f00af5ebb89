"""Tests of policies need no network."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

import remembered_probes


@pytest.fixture(autouse=True, scope="session")
def probes_are_remembered() -> None:
    remembered_probes.install()
