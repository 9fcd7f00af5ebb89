"""When two texts count as the same: Unicode form, line endings and surrounding white space are ignored.

In: a text or a prompt. Out: its normal form, or the group of a row that does not name one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence

__all__ = ["normal_text", "prompt_group", "shared_start", "start_to_last_turn"]

# Where an assistant's turn begins in plain text; everything before the last one is the prompt.
_TURN = re.compile(
    r"\n\n(?:Assistant|ASSISTANT):|### Response:|<\|im_start\|>assistant|<\|assistant\|>|\[/INST\]"
    r"|<start_of_turn>model|<\|start_header_id\|>assistant<\|end_header_id\|>"
)


def normal_text(text: str) -> str:
    r"""The text in Unicode's form NFC, with line endings "\n" and without surrounding white space.

    >>> normal_text("cafe\u0301?\r\n") == "caf\u00e9?"
    True
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.strip()


def shared_start(texts: Sequence[str]) -> str:
    """The common beginning of all texts, up to their last common line ending; empty if there is none.

    >>> shared_start(["Why?\\nSo.", "Why?\\nNo."])
    'Why?\\n'
    """
    start = _common_start(texts)
    return start[: start.rfind("\n") + 1]


def start_to_last_turn(texts: Sequence[str]) -> str:
    """The common beginning of all texts, through the last assistant marker in it; empty without one."""
    start = _common_start(texts)
    ends = [match.end() for match in _TURN.finditer(start)]
    return start[: ends[-1]] if ends else ""


def _common_start(texts: Sequence[str]) -> str:
    plain = [text.replace("\r\n", "\n") for text in texts]
    return os.path.commonprefix(plain)  # noqa: RUF071 - by character is what is meant


def prompt_group(prompt: Sequence[Mapping[str, str]], texts: Mapping[str, str]) -> str:
    """The group of a row that does not name one: a hash of its prompt, or of its texts if the prompt is
    empty.

    For two texts without a prompt, their common beginning through an assistant marker is the prompt.
    """
    content: object = [
        {"role": message["role"], "content": normal_text(message["content"])} for message in prompt
    ]
    kind = "prompt"
    if not prompt:
        start = normal_text(start_to_last_turn(list(texts.values()))) if len(texts) > 1 else ""
        content = start or sorted(normal_text(text) for text in texts.values())
        kind = "prompt" if start else "text"
    return f"{kind}:{hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()}"
