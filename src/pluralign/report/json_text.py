"""JSON that pages can show: finite numbers, and texts without characters that HTML forbids.

In: bytes of a file, or of one of its lines. Out: parsed values.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pluralign.errors import ArtifactError

__all__ = ["parsed_json"]

# Control characters are not allowed in HTML; lone surrogates cannot be written at all.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def parsed_json(content: bytes, source: str) -> Any:
    """The value, with a replacement character for what no page can show.

    Args:
        content: UTF-8.
        source: the file, for the message.

    Raises:
        ArtifactError: it is not JSON; NaN and infinity are not either.
    """

    def refuse(word: str) -> float:
        raise ValueError(f"{word} is not a JSON number")

    try:
        return _printable(json.loads(content.decode("utf-8"), parse_constant=refuse))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{source} is damaged: {error}") from None


def _printable(value: Any) -> Any:
    """The same value, with a replacement character for what no page can show."""
    if isinstance(value, str):
        return _UNPRINTABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_printable(entry) for entry in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(entry) for key, entry in value.items()}
    return value
