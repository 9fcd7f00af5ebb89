"""The files `cases_*.py` run in a process of their own, whose torch knows the pretended device."""

from __future__ import annotations

import os

import pretended

if os.environ.get("PLURALIGN_PRETENDED_DEVICE"):
    pretended.install()
