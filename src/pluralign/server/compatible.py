"""Endpoints for other software: OpenRLHF's /get_reward, vLLM's /classify, LLaMA-Factory's /llama_factory.

Their clients send prompt and response as one text, rendered by the policy's chat template. It is split back
into messages (`conversations.TemplateInverse`), or refused with 422 and the reason: a guess would be a wrong
reward.

These clients give up after a few refusals, or never retry. So a request is held while the model loads or the
queue is full, and answered 503 only after `hold` seconds. A measure other than the server's own can be named
in the URL, /get_reward?risk=cvar:0.1.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pluralign.conversations import TemplateInverse
from pluralign.data.messages import Message, conversation
from pluralign.errors import ArgumentError
from pluralign.server.refusals import Refusal, json_response
from pluralign.server.routes import Route, parsed
from pluralign.server.schemas import (
    LONGEST_MEASURE,
    ClassifyRequest,
    ClassifyResponse,
    GetRewardRequest,
    GetRewardResponse,
    LlamaFactoryRequest,
    LlamaFactoryResponse,
)
from pluralign.server.scoring import Scored
from pluralign.server.service import Service, busy

__all__ = ["TextReader", "compatible_routes"]

_REFUSALS = (400, 401, 408, 413, 422, 503)
_RISK = {
    "name": "risk",
    "in": "query",
    "required": False,
    "schema": {"type": "string"},
    "description": "a risk measure instead of the server's own",
    "example": "cvar:0.1",
}
_NO_TOKENIZER = (
    "this server was not told how the policy writes its prompts, so it cannot tell prompt and response "
    "apart; start it with --policy_tokenizer NAME_OR_FOLDER, or none for prompts in plain text"
)


class TextReader:
    """Splits the texts of other software back into conversations.

    Args:
        tokenizer: of the policy; None where prompts are plain text.
    """

    def __init__(self, tokenizer: Any | None) -> None:
        self._inverse = None if tokenizer is None else TemplateInverse(tokenizer)

    def read(self, text: str, prompt: str | None) -> list[Message]:
        """One conversation.

        Raises:
            ArgumentError: it is not certain where the response begins.
        """
        if self._inverse is not None:
            return self._inverse.conversation(text, prompt)
        if prompt is None:
            raise ArgumentError(
                "prompts are plain text here, so a text alone does not say where its response begins"
            )
        if not text.startswith(prompt):
            raise ArgumentError("the text does not begin with its prompt")
        return conversation(prompt, text.removeprefix(prompt))


def compatible_routes(service: Service, reader: Callable[[], TextReader | None]) -> list[Route]:
    """The routes over a service.

    Args:
        service: what scores.
        reader: the reader of texts, which is there once the service is ready; None where none was configured.
    """

    held = 0  # texts of requests that are not answered yet

    async def score(request: Request, texts: Sequence[str], prompts: Sequence[str] | None) -> list[Scored]:
        nonlocal held
        if held and held + len(texts) > service.config.max_held:
            raise busy()
        held += len(texts)
        try:
            async with asyncio.timeout(service.config.hold):
                return await answered(request, texts, prompts)
        except TimeoutError:
            raise busy() from None
        finally:
            held -= len(texts)

    async def answered(request: Request, texts: Sequence[str], prompts: Sequence[str] | None) -> list[Scored]:
        predictor = await service.predictor(patient=True)
        measure = request.query_params.get("risk")
        if measure is not None and len(measure) > LONGEST_MEASURE:
            raise Refusal(422, f"risk: {len(measure)} characters; allowed: at most {LONGEST_MEASURE}")
        question = predictor.question(measure)
        reads = reader()
        if reads is None:
            raise Refusal(422, _NO_TOKENIZER)
        if len(texts) > service.config.max_items:
            raise Refusal(422, f"received {len(texts)} texts; allowed: {service.config.max_items} a request")
        if prompts is not None and len(prompts) != len(texts):
            raise Refusal(
                422, f"received {len(texts)} texts and {len(prompts)} prompts; needed: equally many"
            )
        conversations = []
        for place, text in enumerate(texts):
            try:
                conversations.append(reads.read(text, None if prompts is None else prompts[place]))
            except ArgumentError as error:
                raise Refusal(422, f"text {place}: {error}") from None
        return await service.ask(conversations, question, patient=True)

    async def get_reward(request: Request) -> Response:
        """Rewards for OpenRLHF (`reward.remote_url`).

        The text is split by the policy's chat template, and refused if it is not certain which part of it is
        the response. While the queue is full, requests are held for up to 150 s instead of being refused.
        """
        body = await parsed(request, GetRewardRequest, service.config)
        found = await score(request, body.query, body.prompts)
        utilities = [one.utility for one in found]
        logs = {"reward_mean": [one.mean for one in found], "reward_std": [one.std for one in found]}
        if any(one.truncated is not None for one in found):
            logs["truncated"] = [float(one.truncated or False) for one in found]
        return json_response({"rewards": utilities, "scores": utilities, "extra_logs": logs})

    async def classify(request: Request) -> Response:
        """Scores in the shape of vLLM's /classify, with one class whose value is the score."""
        body = await parsed(request, ClassifyRequest, service.config)
        texts = [body.input] if isinstance(body.input, str) else body.input
        found = await score(request, texts, None)
        data = [
            {"index": place, "label": "LABEL_0", "probs": [one.utility], "num_classes": 1}
            for place, one in enumerate(found)
        ]
        return json_response(
            {
                "id": f"classify-{uuid.uuid4().hex}",
                "object": "list",
                "created": int(time.time()),
                "model": body.model or "pluralign",
                "data": data,
                "usage": {"prompt_tokens": 0, "total_tokens": 0, "completion_tokens": 0},
            }
        )

    async def llama_factory(request: Request) -> Response:
        """Scores for LLaMA-Factory (`reward_model_type: api`, `reward_model: http://host:port/llama_factory`)."""
        body = await parsed(request, LlamaFactoryRequest, service.config)
        found = await score(request, body.messages, None)
        return json_response({"scores": [one.utility for one in found]})

    return [
        Route("POST", "/get_reward", get_reward, GetRewardRequest, GetRewardResponse, _REFUSALS, (_RISK,)),
        Route("POST", "/classify", classify, ClassifyRequest, ClassifyResponse, _REFUSALS, (_RISK,)),
        Route(
            "POST",
            "/llama_factory",
            llama_factory,
            LlamaFactoryRequest,
            LlamaFactoryResponse,
            _REFUSALS,
            (_RISK,),
        ),
    ]
