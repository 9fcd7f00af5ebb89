"""The results of an evaluation together with the scores per row that they were computed from.

In: the content of `results.json` and tables of columns. Out: a dictionary that equals the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from pluralign.evaluation.texts import Columns

__all__ = ["SCHEMA", "Results"]

SCHEMA = 1


@final
class Results(dict[str, Any]):
    """The content of `results.json`; it is an ordinary dictionary in every other way.

    Attributes:
        tables: the columns of each table, one entry per row, so that `compare` can pair them. A copy of the
            results has none.
    """

    def __init__(self, content: Mapping[str, Any], tables: Mapping[str, Columns]) -> None:
        super().__init__(content)
        self.tables = tables
