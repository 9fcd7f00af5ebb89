"""Messages as exports and other trainers leave them: turned into text, or with other keys.

    '[{"role": "user", "content": "hi"}]'              JSON, once or twice; also Python's and NumPy's spelling
    '{"messages": [{"role": "user", ...}]}'            the list in an object
    {"role": "assistant", "content": "yes"}            one message that stands for a list
    [{"from": "human", "value": "hi"}]                 ShareGPT's keys

In: a cell. Out: a message list where that is what it holds, else the cell. It checks no message.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from pluralign.data.messages import OTHER_ROLES, ROLES, Complain, Note
from pluralign.data.problems import preview

__all__ = ["unfold"]

_WRAPPERS = ("messages", "conversation", "conversations")
_ROLE, _CONTENT = ("role", "from"), ("content", "value", "tool_calls", "function_call")
_NAMES = (*ROLES, *OTHER_ROLES)
# What may hold messages, so that it is worth parsing, and what was surely meant to be a list of them.
_OPENS = re.compile(r"""[\s\ufeff]*["']?(?:array\()?\s*[\[{]""")
_LISTED = re.compile(
    r"""[\s\ufeff]*["']?(?:array\()?\s*\[\s*\{\s*\\?['"](?:content\\?['"]\s*:"""
    rf"""|(?:role|from)\\?['"]\s*:\s*(?:\[|$|\\?['"](?:(?:{"|".join(_NAMES)})\\?['"]|$)))"""
)
_SPELLED = "a list of messages, or one as JSON text; this is such a list, cut off or malformed"
_DEEPEST = 50  # nesting that Python's own parser is trusted with


def unfold(column: str, value: Any, complain: Complain, note: Note) -> Any:
    """The message list that a cell holds; anything else comes back as it is.

    Text that begins like a list of messages and cannot be read is a problem: no user wrote that.

    Args:
        column: its name.
        value: of that column.
        complain: called with (column, found, allowed) for every problem.
        note: called for everything that is not read as it is written.
    """
    found = value
    if isinstance(value, str):
        if _OPENS.match(value) is None or not any(key in value for key in _ROLE):
            return value
        found = _parse(value)
        if found is None and _LISTED.match(value):
            complain(column, preview(value), _SPELLED)
            return None
    elif isinstance(value, list) and all(isinstance(one, Mapping) and one.get("role") for one in value):
        return value
    messages = _list_of(found)
    if messages is None:
        return value
    if isinstance(value, str):
        note("messages that were stored as text were read as messages")
    elif isinstance(value, Mapping):
        note("a message or an object of messages was read as a list of messages")
    if any(not message.get("role") for message in messages):
        note("the keys from and value of messages were read as role and content")
    return [_with_usual_keys(message) for message in messages]


def _list_of(found: Any) -> list[Any] | None:
    """The messages; None where the cell holds something else, such as what a program wrote."""
    if isinstance(found, Mapping):
        inner = [found[key] for key in _WRAPPERS if isinstance(found.get(key), list)]
        found = inner[0] if len(inner) == 1 else [found]
    if not isinstance(found, list) or not all(map(_is_message, found)):
        return None
    return found if any(_role(one) in _NAMES for one in found) else None


def _is_message(one: Any) -> bool:
    return isinstance(one, Mapping) and isinstance(_role(one), str) and any(key in one for key in _CONTENT)


def _role(message: Mapping[str, Any]) -> Any:
    return message.get("role") or message.get("from")


def _with_usual_keys(message: Mapping[str, Any]) -> dict[str, Any]:
    if message.get("role"):
        return dict(message)
    others = {key: value for key, value in message.items() if key not in ("role", "from", "content", "value")}
    return {"role": message["from"], "content": message.get("value"), **others}


def _parse(text: str) -> Any:
    """What JSON or Python's spelling says; None where neither can be read."""
    text = text.strip().lstrip("\ufeff")
    for _ in range(2):  # some exports write JSON into JSON
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return _parse_python(text)
        if not isinstance(found, str):
            return found
        text = found
    return None


def _parse_python(text: str) -> Any:
    depth = deepest = 0
    for mark in re.findall(r"[\[\](){}]", text):
        depth += 1 if mark in "[({" else -1
        deepest = max(deepest, depth)
    if deepest > _DEEPEST:
        return None
    # NumPy's spelling has no commas between the messages.
    text = re.sub(r"\}\s*\n\s*\{", "}, {", text)
    if inner := re.fullmatch(r"array\((\[.*\])(?:,\s*dtype=object)?\)", text, re.DOTALL):
        text = inner[1]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
