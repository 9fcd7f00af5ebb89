"""`POST /v1/votes` and `GET /v1/posterior`: who may vote, on what, and the posterior.

A voter's token identifies the voter. The server's own token, or no token where none is required, belongs to a
program that votes on behalf of others and names them.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pluralign.conversations import check
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.server.limits import same_token, token_of, unauthorized
from pluralign.server.refusals import Refusal, json_response
from pluralign.server.routes import Route, parsed
from pluralign.server.schemas import PosteriorResponse, VoteRow, VotesRequest, VotesResponse
from pluralign.server.scoring import Predictor, estimated_tokens
from pluralign.server.service import Service
from pluralign.server.votes import FullDiskError, Item, Vote, VoteConflictError, VoteStore, item_id

__all__ = ["VoteDesk", "vote_routes"]

_AHEAD = 300.0  # seconds that a voter's clock may be fast
_AT_ONCE = 32  # conversations that votes are on, and that the model reads at once
_NO_VOTES = "this server takes no votes; start it with --votes FILE"


class VoteDesk:
    """A store, the thread that uses it, and the tokens of voters.

    Args:
        store: of votes.
        token: the server's own; None for none.
        voters: token of each voter, by name; None where voters have none.
    """

    def __init__(self, store: VoteStore, token: str | None, voters: Mapping[str, str] | None) -> None:
        self.store = store
        self._token = token
        self._voters = voters
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pluralign-votes")

    def close(self) -> None:
        """Ends after what is under way."""
        self._thread.submit(self.store.close).result()
        self._thread.shutdown()

    async def run(self, function: Any, *arguments: Any) -> Any:
        """Calls a method of the store in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def voter(self, scope: Any) -> str | None:
        """Who may vote here by the request's token; None for whoever the request names.

        Raises:
            Refusal: nobody.
        """
        given = token_of(scope)
        if self._token is not None and same_token(given, self._token):
            return None
        if self._voters is None and self._token is None:
            return None
        if given is not None:
            who = [
                name
                for name, token in (self._voters or {}).items()
                if hmac.compare_digest(given, token.encode())
            ]
            if who:
                return who[0]
        raise unauthorized()


def vote_routes(service: Service, desk: VoteDesk | None) -> list[Route]:
    """The routes over a service and a desk; without a desk they answer that votes are not taken."""

    def at_the_desk() -> VoteDesk:
        if desk is None:
            raise Refusal(404, _NO_VOTES)
        return desk

    async def votes(request: Request) -> Response:
        """Stores votes for categories, and updates the posterior of their items.

        Either all votes of a request are stored or none; the answer is sent once they are on disk. A vote
        that is sent again with the same id counts once. Of each person the latest vote on an item counts.
        """
        at = at_the_desk()
        known = at.voter(request.scope)
        body = await parsed(request, VotesRequest, service.config)
        predictor = await service.predictor()
        cast, voted_on = [], {}
        for place, row in enumerate(body.votes):
            try:
                vote, attribute, conversation = _read(row, predictor, known, time.time())
            except ArgumentError as error:
                raise Refusal(422, f"votes[{place}]: {error}", allowed=error.allowed) from None
            cast.append(vote)
            voted_on[vote.item] = (attribute, conversation)
        there = await at.run(at.store.known, list(voted_on))
        for item, names in there.items():
            if names != tuple(predictor.categories[voted_on[item][0]]):
                raise Refusal(
                    409, "the votes before these were for other categories; start a new file for this model"
                )
        new_items = {item: one for item, one in voted_on.items() if item not in there}
        items = await _predicted(service, predictor, new_items)
        try:
            new = await at.run(at.store.add, cast, items)
        except VoteConflictError as error:
            raise Refusal(409, str(error)) from None
        except FullDiskError as error:
            raise Refusal(507, str(error), retry_after=60) from None
        except ArtifactError as error:  # the file is not what it was
            raise Refusal(503, str(error), retry_after=60) from None
        answer = {"accepted": new, "duplicates": len(cast) - new, "items": [vote.item for vote in cast]}
        return json_response(answer)

    async def posterior(request: Request) -> Response:
        """What people think of an item, by its id; without one, which items there are."""
        at = at_the_desk()
        query = request.query_params
        if "item" not in query:
            limit = query.get("limit", "100")
            if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:9]) <= 1000):
                raise Refusal(422, f"limit = {limit[:20]!r}; allowed: 1 to 1000")
            return json_response({"items": await at.run(at.store.items, int(limit), query.get("after", ""))})
        found = await at.run(at.store.posterior, query["item"], time.time())
        if found is None:
            raise Refusal(404, "nobody voted on this item; its id is in the answer to /v1/votes")
        return json_response(found)

    text = {"type": "string"}
    query = (
        {"name": "item", "in": "query", "required": False, "schema": text},
        {"name": "after", "in": "query", "required": False, "schema": text},
        {
            "name": "limit",
            "in": "query",
            "required": False,
            "schema": {"type": "integer", "minimum": 1, "maximum": 1000},
        },
    )
    taken = (400, 401, 404, 408, 409, 413, 422, 429, 503, 507)
    return [
        Route("POST", "/v1/votes", votes, VotesRequest, VotesResponse, taken),
        Route("GET", "/v1/posterior", posterior, None, PosteriorResponse, (401, 404, 422, 503), query),
    ]


def _read(
    row: VoteRow, predictor: Predictor, known: str | None, now: float
) -> tuple[Vote, str, Sequence[Mapping[str, Any]]]:
    """One vote, its attribute and its conversation.

    Raises:
        ArgumentError: it is not clear who votes for what.
    """
    if known is not None and row.voter not in (None, known):
        raise ArgumentError("the token is that of another voter", allowed=[known])
    voter = known or row.voter
    if voter is None:
        raise ArgumentError(
            "voter is missing: each vote needs to say whose it is, since a person counts once"
        )
    names = predictor.categories
    if not names:
        raise ArgumentError("this model predicts no categories, so there is nothing to vote for")
    if row.attribute is None and len(names) > 1:
        raise ArgumentError("attribute is missing, and the model has several", allowed=names)
    attribute = row.attribute or next(iter(names))
    if attribute not in names:
        raise ArgumentError("the model has no such attribute", allowed=names)
    allowed = names[attribute]
    if isinstance(row.category, str):
        category = allowed.index(row.category) if row.category in allowed else -1
    else:
        category = row.category
    if not 0 <= category < len(allowed):
        raise ArgumentError("there is no such category", allowed=allowed)
    when = now if row.time is None else row.time
    if not (math.isfinite(when) and 0 <= when <= now + _AHEAD):
        raise ArgumentError("time is not in the past; needed: Unix seconds")
    conversation = check(row.conversation, 0)
    vote = Vote(row.id, item_id(conversation, attribute), voter, category, when)
    return vote, attribute, conversation


async def _predicted(
    service: Service, predictor: Predictor, items: Mapping[str, tuple[str, Sequence[Mapping[str, Any]]]]
) -> list[Item]:
    """What the model predicts for items that are new."""
    if not items:
        return []
    await service.check_size([conversation for _, conversation in items.values()])
    found = []
    waiting = list(items.items())
    while waiting:  # in turns of some, so that a bulk of votes holds nobody up
        some, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
        conversations = [conversation for _, (_, conversation) in some]
        probs = await service.in_turn(
            lambda these=conversations: predictor.category_probs(these),  # type: ignore[misc]
            sum(estimated_tokens(one, service.config.batch_tokens) for one in conversations),
        )
        found += [
            Item(item, attribute, tuple(predictor.categories[attribute]), tuple(probs[attribute][place]))
            for place, (item, (attribute, _)) in enumerate(some)
        ]
    return found
