"""Published suites by their own rules: a file or hub set in, the numbers that others publish out.

    file, hub id ──► reading ──► scoring (model, baselines, length) ──► formulas ──► results.json
                     a part at a time          files of scores ─────────────▲

`catalogue.SUITES` is the table of suites: what their rows look like, and which formula scores them.
"""

from __future__ import annotations

from pluralign.evaluation.suites.catalogue import SUITES, Suite
from pluralign.evaluation.suites.run import evaluate_suite, rescore_suite

__all__ = ["SUITES", "Suite", "evaluate_suite", "rescore_suite"]
