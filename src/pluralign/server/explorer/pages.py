"""HTML responses from templates, with the security headers of the page, and the files that it loads.

In: names of templates and their values. Out: responses. Every text is escaped; scripts and styles come only
from this server, none is inline, and nothing is evaluated (`Content-Security-Policy`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from pluralign._version import __version__
from pluralign.server.explorer.words import number

if TYPE_CHECKING:
    import jinja2

__all__ = ["ASSETS", "asset", "html"]

ASSETS: dict[str, str] = {  # name -> media type
    "explorer.css": "text/css; charset=utf-8",
    "explorer.js": "text/javascript; charset=utf-8",
    "charts.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "vega.min.js": "text/javascript; charset=utf-8",
    "vega-lite.min.js": "text/javascript; charset=utf-8",
    "vega-interpreter.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@functools.cache
def _engine() -> jinja2.Environment:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("pluralign.server.explorer"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["version"] = __version__
    made.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    made.filters |= {
        "number": number,
        "percent": lambda value: f"{value:.0%}",
        "short": lambda value: f"{value:.4g}".replace("-", "\N{MINUS SIGN}"),
    }
    return made


def html(
    template: str, context: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A template as a response that is not cached."""
    text = _engine().get_template(template).render(**context)
    return Response(
        text,
        status,
        _HEADERS | {"Cache-Control": "no-store"} | dict(headers or {}),
        media_type="text/html",
    )


@functools.cache
def asset(name: str) -> Response:
    """A file of the page; its address holds the version, so that it may be stored.

    Args:
        name: a key of `ASSETS`.
    """
    body = (resources.files("pluralign.server.explorer") / "assets" / name).read_bytes()
    headers = _HEADERS | {"Cache-Control": "public, max-age=3600"}
    return Response(body, 200, headers, media_type=ASSETS[name])
