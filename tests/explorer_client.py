"""What the page of the explorer sends, and how a test reads what comes back."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import urlencode

from http_server import Answer, Server

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
RESPONSES = ("-1.5 0.3 first", "0.5 1.2 second", "2.0 0.3 third")


def fields(
    responses: Any = RESPONSES, prompt: Any = (("user", "hello"),), **more: Any
) -> list[tuple[str, str]]:
    turns = [pair for role, text in prompt for pair in (("role", role), ("turn", text))]
    return [*turns, *(("response", text) for text in responses), *((k, str(v)) for k, v in more.items())]


def post(server: Server, path: str, form: Any, **headers: str) -> Answer:
    return server.send("POST", f"/explorer/{path}", urlencode(form).encode(), FORM | headers)


def said(answer: Answer) -> str:
    """The text of a page, without tags."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.body.decode())).split())


def exported(server: Server, form: Any) -> Any:
    answer = post(server, "export?what=everything", form)
    assert answer.status == 200, answer.body
    return answer.json


def key_of(answer: Answer) -> str:
    found = re.search(r'name="key" value="([^"]+)"', answer.body.decode())
    assert found, answer.body
    return found[1]
