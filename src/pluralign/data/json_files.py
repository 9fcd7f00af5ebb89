"""Reads JSON files into numbered rows: an object per line, one list of objects, or objects over several
lines.

In: a stream of bytes. Out: `(row number, dict)` or `(row number, BadRow)`. JSON Lines are read line by line,
and a broken line does not affect the others; a list is read through a window of a few rows, and reading stops
where it is broken. The first line decides which of them a file is.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NoReturn

from pluralign.data.batches import Batch, in_batches
from pluralign.data.json_lines import line_batches
from pluralign.data.problems import BadRow, NumberedRow, Problem, not_utf8, preview, raise_problems

__all__ = ["json_batches", "read_json"]

_MARK = b"\xef\xbb\xbf"
_WINDOW = 1 << 20  # bytes that are read at a time
_ROW = "one JSON object per line, or one list of objects"
_BLANK = re.compile(r"[\s,]*")


class _Repeated(dict[str, Any]):
    """An object with a repeated key."""

    key: str = ""


class _Decoder:
    """Reads JSON values.

    Attributes:
        repeated: whether an object had a key twice, since this was last set to False.
    """

    def __init__(self) -> None:
        self.repeated = False
        self._json = json.JSONDecoder(object_pairs_hook=self._object)
        self.value = self._json.raw_decode
        self._scan: Any = self._json.scan_once  # type: ignore[attr-defined]

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        names = [key for key, _ in pairs]
        repeated = _Repeated(found)
        repeated.key = next(key for i, key in enumerate(names) if key in names[:i])
        self.repeated = True
        return repeated

    def whole(self, text: str) -> Any:
        """The one value that a text is."""
        try:
            value, end = self._scan(text, 0)
        except (StopIteration, ValueError, RecursionError):
            return self._json.decode(text)  # with blanks before it; or with an error that says where
        return value if text[end:] in ("\n", "", "\r\n") else self._json.decode(text)


def read_json(stream: IO[bytes], name: str, note: Callable[[str], None]) -> Iterator[NumberedRow]:
    """The rows of a JSON file.

    Args:
        stream: at its beginning; must be seekable.
        name: the name of the file in messages.
        note: called with how the file was read, if it does not have a row per line.

    Yields:
        The row with its line number, or, if rows are not lines, with its number counted from 1.

    Raises:
        DataError: a list is cut off, or followed by more data.
    """
    kind = _kind(stream)
    if kind is not None:
        note(kind)
        return _read_values(stream, name)
    lines = ((i, line.removeprefix(_MARK) if i == 1 else line) for i, line in enumerate(stream, start=1))
    return _read_lines(((i, line) for i, line in lines if line.strip()), name)


def json_batches(
    stream: IO[bytes],
    name: str,
    note: Callable[[str], None],
    bad: Callable[[int, BadRow], None],
) -> Iterator[Batch]:
    """The same rows in batches, as columns where all lines of one are sound.

    Args:
        stream: as in `read_json`, and so are the other arguments.
        name: the name of the file in messages.
        note: called with how the file was read.
        bad: called with the number of each row that is not a record, and what is wrong with it.
    """
    kind = _kind(stream)
    if kind is not None:
        note(kind)
        return in_batches(_read_values(stream, name), bad)
    return line_batches(stream, lambda lines: _read_lines(lines, name), bad)


def _kind(stream: IO[bytes]) -> str | None:
    """What a file is that does not have a row per line, by its first line."""
    first = stream.readline(_WINDOW).removeprefix(_MARK).strip()
    while not first and (line := stream.readline(_WINDOW)):
        first = line.strip()
    stream.seek(0)
    if first[:1] == b"[":
        return "a JSON list"
    # In a pretty-printed object lines end after a brace, bracket or comma; a cut-off line seldom does.
    if first[:1] == b"{" and first[-1:] in (b"{", b"[", b","):
        return "JSON objects over several lines"
    return None


def _read_lines(lines: Iterable[tuple[int, bytes]], name: str) -> Iterator[NumberedRow]:
    decoder = _Decoder()
    for number, data in lines:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            yield number, BadRow(not_utf8(name, number, error), data.decode("utf-8", "backslashreplace"))
            continue
        try:
            row = decoder.whole(text)
        except (ValueError, RecursionError) as error:
            problem = Problem(name, number, None, f"{preview(text)} ({error})", "one JSON object per line")
            yield number, BadRow(problem, text)
            continue
        if type(row) is dict and not decoder.repeated:
            yield number, row
        else:
            decoder.repeated = False
            yield number, _checked(row, name, number, text)


def _read_values(stream: IO[bytes], name: str) -> Iterator[NumberedRow]:
    """The objects of one list, or a sequence of objects, read through a moving window."""
    window = _Window(stream, name)
    in_list = window.take("[")
    number = 0
    while True:
        if in_list and window.take("]"):
            if rest := window.rest():
                _broken(name, number, f"{preview(rest)} after the end of the list")
            return
        if not window.rest():
            if in_list:
                _broken(name, number, "no end of the list")
            return
        try:
            value, text = window.value()
        except (ValueError, RecursionError) as error:
            _broken(name, number, f"{preview(window.rest())} ({error})")
        number += 1
        yield number, _checked(value, name, number, text)


class _Window:
    """The part of a stream that has been read but not yet consumed."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name
        self._json = _Decoder()
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0  # everything before has been consumed
        self._ended = False

    def rest(self) -> str:
        """The beginning of the unread part, without white space and commas; empty at the end."""
        while True:
            self._at = _BLANK.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._more(_WINDOW):
                return self._text[self._at : self._at + 200]

    def take(self, mark: str) -> bool:
        """Consumes the mark if it comes next."""
        found = self.rest().startswith(mark)
        self._at += len(mark) if found else 0
        return found

    def value(self) -> tuple[Any, str]:
        """Consumes the next value; returns it with its text."""
        size = _WINDOW
        while True:
            try:
                value, end = self._json.value(self._text, self._at)
            except ValueError:
                if self._ended:
                    raise
            else:
                # A number at the end of the window may continue after it.
                if end < len(self._text) or self._ended:
                    text, self._at = self._text[self._at : end], end
                    return value, text
            self._more(size)
            size *= 2  # so that a row of any size is parsed only a few times

    def _more(self, size: int) -> bool:
        """Reads more; False at the end of the stream."""
        data = self._stream.read(size)
        self._ended = not data
        try:
            new = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise_problems(self._name, [not_utf8(self._name, None, error)])
        self._text, self._at = self._text[self._at :] + new, 0
        return not self._ended


def _checked(row: Any, name: str, number: int, text: str) -> dict[str, Any] | BadRow:
    """The row, if it is an object without repeated keys, including in its messages."""
    if not isinstance(row, dict):
        found = f"a JSON {type(row).__name__}: {preview(text)}"
        return BadRow(Problem(name, number, None, found, _ROW), text)
    for part in (row, *(item for value in row.values() if isinstance(value, list) for item in value)):
        if isinstance(part, _Repeated):
            found = f"the key {preview(part.key)} twice in one object"
            return BadRow(Problem(name, number, None, found, "each key once"), text)
    return row


def _broken(name: str, rows: int, found: str) -> NoReturn:
    raise_problems(name, [Problem(name, None, None, f"{found} after {rows} readable rows", _ROW)])
