"""The routes of the page: the page itself and its files, the form, scoring, ranking, exports.

    GET  /                   the page without anything about the model; needs no token, nor do its files
    GET  /explorer/form      the form of this model, or that it is still loading (202)
    POST /explorer/read      embeds texts, keeps the embeddings, answers with all sections
    POST /explorer/rank      other measures or weights for kept embeddings; 410 if they have expired
    POST /explorer/export    what is shown, as a file: ?what=everything (JSON), rows or python

In: forms. Out: parts of the page, errors among them, which htmx puts in its place. Everything goes through
the `Service`, with its limits and its batches.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from pluralign import risk
from pluralign.server.explorer import form, repeat, words
from pluralign.server.explorer.charts import charts
from pluralign.server.explorer.choices import CHOICES, choice_of
from pluralign.server.explorer.facts import Facts, facts_of
from pluralign.server.explorer.pages import ASSETS, asset, html
from pluralign.server.explorer.seen import seen
from pluralign.server.explorer.shelf import Shelf
from pluralign.server.kept import Kept, predicted
from pluralign.server.limits import body
from pluralign.server.refusals import Refusal, of_exception, where
from pluralign.server.scoring import Predictor
from pluralign.server.service import Service

__all__ = ["Page", "explorer_routes"]

_log = logging.getLogger(__name__)
_EXPORTS = ("everything", "rows", "python")


class Page(NamedTuple):
    """One path.

    Attributes:
        method: of HTTP.
        path: of the URL.
        answer: the endpoint.
        is_open: whether it needs no token.
    """

    method: str
    path: str
    answer: Callable[[Request], Awaitable[Response]]
    is_open: bool = False


def explorer_routes(service: Service, folder: str | None, *, needs_token: bool) -> list[Page]:
    """The routes over a service.

    Args:
        service: what scores.
        folder: the model's, as it was given; None where there is none.
        needs_token: whether the page has to ask for the server's token.
    """
    config = service.config
    shelf = Shelf(int(config.kept_mb * 2**20), 60 * config.kept_minutes)

    async def page(request: Request) -> Response:
        del request
        return html("page.html.jinja", {"needs_token": needs_token, "max_bytes": config.max_body})

    def file(name: str) -> Page:
        async def answer(request: Request) -> Response:
            del request
            return asset(name)

        return Page("GET", f"/explorer/{name}", answer, is_open=True)

    async def fields(request: Request) -> Response:
        del request
        if not service.ready:
            return html("loading.html.jinja", {"failed": service.failure is not None}, 202)
        facts = known(await service.predictor())
        chosen, _, parameter = facts.risk.partition(":")
        context = {
            "facts": facts,
            "choices": CHOICES,
            "chosen": choice_of(chosen),
            "parameter": parameter,
            "roles": form.ROLES,
            "most": min(form.MOST_RESPONSES, config.max_items),
        }
        return html("form.html.jinja", context)

    async def read(request: Request) -> Response:
        filled, predictor, facts = await form_of(request)
        rows = await reading(filled, predictor)
        found = await looked_at(rows, filled.settings, predictor, facts)
        return answered(found, filled.settings, facts, shelf.put(rows))

    async def rank(request: Request) -> Response:
        predictor = await service.predictor()
        facts = known(predictor)
        given = await body(request, config)
        settings, key = await asyncio.to_thread(form.settings_of, given, predictor.attributes)
        rows = shelf.get(key)
        if rows is None:
            raise Refusal(410, "The embeddings of these texts have expired. The texts are sent again.")
        found = await looked_at(rows, settings, predictor, facts)
        return answered(found, settings, facts, key)

    async def export(request: Request) -> Response:
        what = request.query_params.get("what", "everything")
        if what not in _EXPORTS:
            raise Refusal(
                422, f"what = {what[:20]!r}: there is nothing of this name to export", allowed=_EXPORTS
            )
        filled, predictor, facts = await form_of(request)
        if what == "rows":
            return _file(repeat.rows(filled.prompt, filled.responses), repeat.ROWS, "application/jsonl")
        if what == "python":
            content = repeat.python(facts, filled.settings, filled.prompt, filled.responses)
            return _file(content, "score_responses.py", "text/x-python")
        rows = await reading(filled, predictor)
        found = await looked_at(rows, filled.settings, predictor, facts)
        content = repeat.everything(facts, filled.settings, filled.prompt, filled.responses, found)
        return _file(content, "explorer.json", "application/json")

    async def form_of(request: Request) -> tuple[form.Filled, Predictor, Facts]:
        predictor = await service.predictor()
        given = await body(request, config)
        filled = await asyncio.to_thread(form.filled_in, given, predictor.attributes)
        return filled, predictor, known(predictor)

    @functools.cache
    def known(predictor: Predictor) -> Facts:
        return facts_of(predictor, folder)

    async def reading(filled: form.Filled, predictor: Predictor) -> Sequence[Kept]:
        found = await service.ask(filled.conversations, predictor.question("mean", keeps=True))
        return [one.kept for one in found if one.kept is not None]

    async def looked_at(
        rows: Sequence[Kept], settings: form.Settings, predictor: Predictor, facts: Facts
    ) -> dict[str, Any]:
        measure = risk.parse(settings.risk or predictor.default_risk)
        question = predictor.question(settings.risk, settings.weights, settings.steer)

        def look() -> dict[str, Any]:
            prediction = predicted(predictor.scorer, predictor.personas, rows, question.steering)
            return seen(prediction, measure, facts)

        return await service.in_turn(look, len(rows))

    def answered(found: dict[str, Any], settings: form.Settings, facts: Facts, key: str) -> Response:
        context = {
            "found": found,
            "facts": facts,
            "settings": settings,
            "key": key,
            "charts": charts(found),
            "told": words.ranking_words(found),
            "spread": words.spread_words(found),
            "cut": words.truncation_words(found),
            "objections": words.persona_lines(found),
            "absent_personas": words.absent_personas(found, facts),
            "command": repeat.command(facts, settings),
            "rows_file": repeat.ROWS,
            "choice": choice_of(found["risk"].partition(":")[0]),
        }
        return html("seen.html.jinja", context)

    def guarded(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                return await answer(request)
            except Exception as error:
                refusal = of_exception(error)
                if refusal is None:
                    _log.error("%s: unexpected %s", request.url.path, where(error))
                    refusal = Refusal(500, f"{type(error).__name__} in the server; its log says where")
                context = {"problem": words.refusal_words(refusal, config), "allowed": refusal.allowed}
                headers = refusal.headers | {"HX-Retarget": "#problem", "HX-Reswap": "innerHTML"}
                return html("problem.html.jinja", context, refusal.status, headers)

        return endpoint

    return [
        Page("GET", "/", page, is_open=True),
        *map(file, ASSETS),
        Page("GET", "/explorer/form", guarded(fields)),
        Page("POST", "/explorer/read", guarded(read)),
        Page("POST", "/explorer/rank", guarded(rank)),
        Page("POST", "/explorer/export", guarded(export)),
    ]


def _file(text: str, name: str, kind: str) -> Response:
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(text.encode(), 200, headers, media_type=kind)
