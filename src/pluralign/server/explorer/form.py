"""The form that a person filled in: turns, responses, measure, weights. Errors use the words of the page.

In: the body of a form. Out: a `Filled`, or a `Refusal` with status 422 that says which field is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from pluralign.data.messages import Message, conversation
from pluralign.server.refusals import Refusal
from pluralign.server.schemas import LONGEST_MEASURE

__all__ = ["MOST_RESPONSES", "ROLES", "Filled", "Settings", "filled_in", "settings_of"]

MOST_RESPONSES = 100
_MOST_TURNS = 50
_MOST_FIELDS = 2_000
ROLES = ("user", "assistant", "system")


@dataclass(frozen=True)
class Settings:
    """How responses are ranked.

    Attributes:
        risk: a measure by its specification; None for the server's own.
        weights: of the attributes by name, instead of the gate's; None for the gate's.
        steer: measures of attributes by name.
    """

    risk: str | None = None
    weights: dict[str, float] | None = None
    steer: dict[str, str] | None = None


@dataclass(frozen=True)
class Filled:
    """The whole form.

    Attributes:
        prompt: the turns before the response, those with text.
        responses: at least one.
        settings: as `Settings`.
        key: of the embeddings that the page shows; empty for none.
    """

    prompt: list[Message]
    responses: list[str]
    settings: Settings
    key: str

    @property
    def conversations(self) -> list[list[Message]]:
        """The prompt with each response."""
        return [conversation(self.prompt, response) for response in self.responses]


def filled_in(body: bytes, attributes: Sequence[str]) -> Filled:
    """The form from the body of a request, as browsers send it (`application/x-www-form-urlencoded`).

    Args:
        body: names and values.
        attributes: of the model; `weight-0` and `steer-0` belong to the first.

    Raises:
        Refusal: the prompt or a response is empty, there are too many, or a setting is not a number.
    """
    pairs = _pairs(body)
    texts = [text for name, text in pairs if name == "turn"]
    roles = [text for name, text in pairs if name == "role"]
    responses = [text for name, text in pairs if name == "response"]
    if len(roles) != len(texts) or not set(roles) <= set(ROLES):
        raise Refusal(422, "The form is not complete: each turn needs a role. Reload the page.")
    if not responses:
        raise Refusal(422, "There is no response. Add at least one.")
    if len(responses) > MOST_RESPONSES:
        raise Refusal(
            422,
            f"There are {len(responses)} responses; this page takes at most {MOST_RESPONSES}. Remove "
            "some, or score a file of them with pluralign score.",
        )
    if len(texts) > _MOST_TURNS:
        raise Refusal(422, f"The prompt has {len(texts)} turns; this page takes at most {_MOST_TURNS}.")
    empty = [str(place) for place, text in enumerate(responses, 1) if not text.strip()]
    if empty:
        one = len(empty) == 1
        named = f"Response {empty[0]} is" if one else f"Responses {', '.join(empty)} are"
        raise Refusal(422, f"{named} empty. Write something there, or remove {'it' if one else 'them'}.")
    prompt = [{"role": r, "content": t} for r, t in zip(roles, texts, strict=True) if t.strip()]
    if not prompt:
        raise Refusal(422, "The prompt is empty. Write what the responses answer.")
    key = next((text for name, text in pairs if name == "key"), "")
    return Filled(prompt, responses, _settings(pairs, attributes), key)


def settings_of(body: bytes, attributes: Sequence[str]) -> tuple[Settings, str]:
    """The settings alone, and the key of the embeddings that they are for; arguments and errors as above."""
    pairs = _pairs(body)
    return _settings(pairs, attributes), next((text for name, text in pairs if name == "key"), "")


def _pairs(body: bytes) -> list[tuple[str, str]]:
    try:
        found = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError as error:  # also what is not UTF-8
        raise Refusal(
            400, "This is not what the page sends, or it has too many fields. Reload the page."
        ) from error
    return [(name, text.replace("\r\n", "\n")) for name, text in found]


def _settings(pairs: Sequence[tuple[str, str]], attributes: Sequence[str]) -> Settings:
    given: dict[str, str] = dict(pairs)
    risk = given.get("risk", "").strip()
    if len(risk) > LONGEST_MEASURE:
        raise Refusal(422, "The risk measure is too long to be one. Write it like cvar:0.1.")
    weights: dict[str, float] | None = None
    if "weigh" in given and attributes:
        weights = {
            name: _number(given.get(f"weight-{place}", "0"), name) for place, name in enumerate(attributes)
        }
        if not any(weights.values()):
            raise Refusal(422, "All weights are 0. Give at least one attribute some weight.")
    steer = {
        name: measure
        for place, name in enumerate(attributes)
        if (measure := given.get(f"steer-{place}", "").strip()[:LONGEST_MEASURE])
    }
    return Settings(risk or None, weights, steer or None)


def _number(text: str, name: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not (math.isfinite(found) and found >= 0):
        raise Refusal(422, f"The weight of {name} is not a number of at least 0.")
    return found
