"""What sentences of `findings.md`, and of pages that quote the study, say of the records."""

from __future__ import annotations
