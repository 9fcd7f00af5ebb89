"""The files `cases_*.py` run in a process of their own, where the pretended device is registered with torch."""

from __future__ import annotations

import os

import pretended

if os.environ.get("PLURALIGN_PRETENDED_DEVICE"):
    pretended.install()
