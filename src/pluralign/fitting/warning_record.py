"""Records the warnings of a fit for its result, since readers of the evaluation have not seen the fit.

In: the code that runs inside. Out: the texts of our own warnings, which are still shown as usual.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pluralign.errors import PluralignWarning

__all__ = ["recorded_warnings"]


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """A list that collects the warnings given inside, each text once, except ignored ones."""
    texts: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_and_record(message: Any, category: type[Warning], *place: Any, **how: Any) -> None:
            if issubclass(category, PluralignWarning) and str(message) not in texts:
                texts.append(str(message))
            show(message, category, *place, **how)

        warnings.showwarning = show_and_record
        yield texts
