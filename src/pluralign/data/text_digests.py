"""64-bit digests of many texts at once, the same where `same_text.normal_text` is the same.

In: Arrow arrays of texts, or of prompts. Out: BLAKE2b of each, 0 for an empty one. Most texts are their own
normal form (ASCII without carriage returns or outer white space): hashing these from Arrow's bytes takes a
quarter of the time. A prompt of many rows is hashed once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pluralign.data.same_text import normal_text
from pluralign.data.table_columns import has_plain_prompts, prompt_codes

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Digests", "digests_of", "is_long", "prompt_digests", "text_digests"]

Digests = NDArray[np.uint64]

_LONG = 40  # bytes of UTF-8 from which an equal text shows that two rows have the same source
_SPACE = np.isin(np.arange(256), [ord(c) for c in map(chr, range(128)) if c.isspace()])
_CARRIAGE_RETURN = 13


def text_digests(texts: pa.Array | pa.ChunkedArray) -> tuple[Digests, NDArray[np.bool_]]:
    """The digest of each normal form, and which normal forms are long (`is_long`).

    Args:
        texts: [N]; null counts as an empty text.
    """
    import pyarrow as pa

    texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    texts = texts.cast(pa.string()).fill_null("")
    count = len(texts)
    digests, long = np.zeros(count, np.uint64), np.zeros(count, bool)
    _, ends, data = texts.buffers()
    if not count or data is None:
        return digests, long
    ends = np.frombuffer(ends, np.int32, count + 1, 4 * texts.offset)
    data = memoryview(data)[int(ends[0]) : int(ends[-1])]  # an array may be a small part of its buffers
    ends = ends - ends[0]
    starts, sizes = ends[:-1], np.diff(ends)
    filled = np.flatnonzero(sizes)
    if not len(filled):
        return digests, long
    letters = np.frombuffer(data, np.uint8)
    odd = letters >= 128
    odd |= letters == _CARRIAGE_RETURN
    plain = ~np.logical_or.reduceat(odd, starts[filled])
    plain &= ~(_SPACE[letters[starts[filled]]] | _SPACE[letters[ends[1:][filled] - 1]])
    own, other = filled[plain], filled[~plain]
    places = zip(starts[own].tolist(), ends[1:][own].tolist(), strict=True)
    digests[own] = _numbers([hashlib.blake2b(data[a:b], digest_size=8).digest() for a, b in places])
    long[own] = sizes[own] >= _LONG
    if len(other):
        normal = [normal_text(text) for text in texts.take(pa.array(other)).to_pylist()]
        digests[other], long[other] = digests_of(normal), [is_long(text) for text in normal]
    return digests, long


def prompt_digests(prompts: pa.ChunkedArray) -> Digests:
    """The digest of each prompt, 0 for one without messages.

    Args:
        prompts: [N]; lists of messages, or texts.
    """
    import pyarrow as pa

    if not pa.types.is_list(prompts.type):
        return text_digests(prompts)[0]
    if not has_plain_prompts(prompts):
        return digests_of(_prompt_texts(prompts))
    numbers, rows = prompt_codes(prompts)
    return digests_of(_prompt_texts(prompts.take(pa.array(rows))))[numbers]


def digests_of(texts: Sequence[str]) -> Digests:
    """BLAKE2b of each text as it is, 64 bits; 0 for an empty one."""
    found = np.zeros(len(texts), np.uint64)
    filled = [place for place, text in enumerate(texts) if text]
    data = (texts[place].encode("utf-8", "surrogatepass") for place in filled)
    found[filled] = _numbers([hashlib.blake2b(one, digest_size=8).digest() for one in data])
    return found


def is_long(text: str) -> bool:
    """Whether an equal text elsewhere shows that both have the same source."""
    return len(text) >= _LONG or len(text.encode("utf-8", "surrogatepass")) >= _LONG


def _numbers(digests: Sequence[bytes]) -> Digests:
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def _prompt_texts(column: Any) -> list[str]:
    """Each prompt as one text; an empty one for a prompt without messages."""
    import pyarrow as pa

    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    messages = column.flatten()
    roles = messages.field("role").to_pylist()
    said = [normal_text(content or "") for content in messages.field("content").to_pylist()]
    lines = iter([f"{role}\x1f{content}" for role, content in zip(roles, said, strict=True)])
    return ["\x1e".join(next(lines) for _ in range(n or 0)) for n in column.value_lengths().to_pylist()]
