"""The explorer: a page at `/` on which people try the model, before they trust it.

    form ──► Service (limits, batches) ──► Kept, on a shelf ──► Prediction ──► seen ──► charts, words,
    templates
                                             ▲                                   │
    measure, weights ────────────────────────┘                                   └──► exports

`seen` computes everything that the page shows, as plain numbers; `charts`, `words`, `repeat` and the
templates turn it into the page. Scripts, styles and licences of other projects are in `assets`.
"""

from __future__ import annotations

from pluralign.server.explorer.routes import explorer_routes

__all__ = ["explorer_routes"]
