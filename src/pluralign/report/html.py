"""What every page has in common: the template engine, and being put in its place whole.

In: templates of this folder and the text of a page. Out: a Jinja environment, and a file. It knows nothing of
what pages show.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pluralign.errors import ArtifactError, MissingDependencyError
from pluralign.report import wording

if TYPE_CHECKING:
    import jinja2

__all__ = ["environment", "write_html"]


def environment() -> jinja2.Environment:
    """Templates that escape every text and refuse a name that is not there, with the filters of all pages.

    Raises:
        MissingDependencyError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingDependencyError(
            "a report needs jinja2, which is not installed: pip install 'pluralign[report]'"
        ) from error
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


def write_html(path: Path, render: Callable[[], str]) -> None:
    """Writes what `render` gives under a temporary name and renames it.

    Raises:
        ArtifactError: the path is a folder; nothing was rendered.
    """
    if path.is_dir():
        raise ArtifactError(f"{path} is a folder; name the HTML file to write")
    text = render()
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        work.write_text(text, encoding="utf-8")
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)
