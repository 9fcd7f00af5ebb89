"""The template engine of all pages.

In: templates of this folder. Out: a Jinja environment.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from pluralign.errors import MissingDependencyError
from pluralign.report import wording

if TYPE_CHECKING:
    import jinja2

__all__ = ["environment"]


def environment(page: str) -> jinja2.Environment:
    """Templates that escape every text and raise for undefined names, with the filters of all pages.

    Each page has an environment of its own, to which it may add filters; its templates are compiled once.

    Args:
        page: name of the page.

    Raises:
        MissingDependencyError: jinja2 is not installed.
    """
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "a report needs jinja2, which is not installed: pip install 'pluralign[report]'"
        ) from error
    return _made(page)


@functools.cache
def _made(_page: str) -> jinja2.Environment:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("pluralign.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": wording.number,
        "percent": wording.percent,
        "span": wording.span,
        "ends": wording.ends_of,
        "verdict": wording.verdict,
        "words": lambda name: str(name).replace("_", " "),
    }
    return made
