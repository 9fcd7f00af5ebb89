"""What a fit warned of, kept beside its result: who reads the evaluation has not seen the fit.

In: whatever runs inside. Out: the texts of our own warnings, which are shown as ever. It knows no families.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pluralign.errors import PluralignWarning

__all__ = ["remembered_warnings"]


@contextmanager
def remembered_warnings() -> Iterator[list[str]]:
    """A list that fills with the warnings given inside, each text once; those that are ignored stay out."""
    texts: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_and_keep(message: Any, category: type[Warning], *place: Any, **how: Any) -> None:
            if issubclass(category, PluralignWarning) and str(message) not in texts:
                texts.append(str(message))
            show(message, category, *place, **how)

        warnings.showwarning = show_and_keep
        yield texts
