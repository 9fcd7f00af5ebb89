"""Validates the rows of each shape, and converts raw rows to canonical ones.

In: one raw row (a dict whose columns already carry their canonical names).
Out: the canonical row, and every problem of the row.
Checks across rows (ids, scales) are in `tables`.

The canonical rows:

    pairs        {id, prompt, chosen, rejected, subset, group}
    comparisons  {id, prompt, response_a, response_b, votes, rater_ids | null, subset, group}
    ratings      {id, prompt, response, attribute, ratings, rater_ids | null, scale, subset, group}
    responses    {id, prompt, response, subset, group}: not rated yet

`votes`: one per rater, +1 = a is better, 0 = tie, -1 = b is better. `ratings`: one number per rater on
`scale` = [lowest, highest]. Other columns are passed through; `split`, `system`, `true_mean` and
`true_quantiles` have fixed types.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pluralign.data.messages import is_unicode
from pluralign.data.numbers import is_finite_number
from pluralign.data.problems import Problem, preview
from pluralign.data.same_text import prompt_group
from pluralign.data.sides import read_prompt_and_sides

__all__ = ["LONGEST_NAME", "OPTIONAL", "REQUIRED", "SHAPES", "SIDES", "Defaults", "RowReader", "Shape"]

Shape = Literal["ratings", "pairs", "comparisons", "responses"]
SHAPES: tuple[Shape, ...] = get_args(Shape)

SIDES: Mapping[Shape, tuple[str, ...]] = {
    "ratings": ("response",),
    "pairs": ("chosen", "rejected"),
    "comparisons": ("response_a", "response_b"),
    "responses": ("response",),
}
# The required columns of each shape; TRL's preference shape may omit the prompt.
REQUIRED: Mapping[Shape, tuple[str, ...]] = {
    "ratings": ("prompt", "response", "attribute", "ratings", "scale"),
    "pairs": ("chosen", "rejected"),
    "comparisons": ("prompt", "response_a", "response_b", "votes"),
    "responses": ("response",),
}
OPTIONAL = ("split", "system", "true_mean", "true_quantiles")  # known to the package, typed, may be null

LONGEST_NAME = 60  # characters; no system has a longer name
_NUMBERS = "a number, or a list with one number per rater; decimals have a point"


@dataclass(frozen=True)
class Defaults:
    """The caller's values for columns that the file lacks."""

    scale: tuple[float, float] | None = None
    attribute: str | None = None


class RowReader:
    """Reads the rows of one file; one call per row.

    Args:
        shape: the shape of the rows.
        file: the name of the file in messages.
        absent: required columns that the whole file lacks; they are not reported again for each row.
        defaults: the caller's values.
        notes: counts oddities of rows that are kept.
    """

    def __init__(
        self, shape: Shape, file: str, absent: frozenset[str], defaults: Defaults, notes: Counter[str]
    ) -> None:
        self.shape: Shape = shape
        self.file = file
        self.absent = absent
        self.defaults = defaults
        self.notes = notes
        self._row = 0
        self._problems: list[Problem] = []

    def read(self, number: int, raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """The canonical row, complete only if the list of problems is empty."""
        self._row, self._problems = number, []
        sides = {column: raw.get(column) for column in SIDES[self.shape]}
        row: dict[str, Any] = {}
        for column, side in sides.items():
            if side is None:
                self._nothing(column, "text")
        given = {column: side for column, side in sides.items() if side is not None}
        row["prompt"], texts = read_prompt_and_sides(raw.get("prompt"), given, self._complain, self._note)
        row.update(texts)
        self._check_texts(texts)
        row["id"] = self._name(raw, "id", f"{self.file}:{number}")
        row["subset"] = self._name(raw, "subset", "")
        row["group"] = self._name(raw, "group", "")
        if not row["group"] and not self._problems:
            row["group"] = prompt_group(row["prompt"], texts)
        if self.shape == "ratings":
            self._read_ratings(raw, row)
        elif self.shape == "comparisons":
            row["votes"] = self._votes(raw.get("votes"))
            row["rater_ids"] = self._rater_ids(raw.get("rater_ids"), raw.get("votes"), "votes")
        self._read_optional(raw, row)
        return row, self._problems

    def _complain(self, column: str, found: str, allowed: str) -> None:
        self._problems.append(Problem(self.file, self._row, column, found, allowed))

    def _note(self, text: str) -> None:
        self.notes[text] += 1

    def _nothing(self, column: str, allowed: str) -> None:
        if column not in self.absent:
            self._complain(column, "nothing", allowed)

    def _check_texts(self, texts: Mapping[str, str]) -> None:
        """Empty texts and identical sides.

        In ratings and pairs both are export errors. In comparisons raters saw and compared them, and in
        responses a model generated them, so they are kept and counted.
        """
        observed = self.shape in ("comparisons", "responses")
        for column, text in texts.items():
            if not text.strip():
                if observed:
                    self._note("empty response")
                else:
                    self._complain(column, "an empty text", "the response's text")
        if len(texts) == 2 and len(set(texts.values())) == 1:
            if observed:
                self._note("identical sides")
            else:
                self._complain("/".join(texts), "the same text on both sides", "two different texts")

    def _name(self, raw: Mapping[str, Any], column: str, default: str) -> str:
        value = raw.get(column)
        if isinstance(value, str):
            return value if value and is_unicode(column, value, self._complain) else default
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        self._complain(column, f"{type(value).__name__} {preview(value)}", "text or a whole number")
        return default

    def _read_ratings(self, raw: Mapping[str, Any], row: dict[str, Any]) -> None:
        row["attribute"] = self._attribute(raw.get("attribute"))
        row["scale"] = scale = self._scale(raw.get("scale"))
        row["ratings"] = ratings = self._ratings(raw.get("ratings"))
        row["rater_ids"] = self._rater_ids(raw.get("rater_ids"), raw.get("ratings"), "ratings")
        if scale is not None:
            low, high = scale
            for rating in ratings:
                if not low <= rating <= high:
                    self._complain("ratings", f"{rating:g}", f"numbers on the scale [{low:g}, {high:g}]")

    def _attribute(self, value: Any) -> str | None:
        given = self.defaults.attribute
        if value is None or value == "":
            if given is None:
                self._nothing("attribute", "a name, or attribute=... for the whole file")
            return given
        if not isinstance(value, str):
            self._complain("attribute", f"{type(value).__name__} {preview(value)}", "a name")
            return None
        is_unicode("attribute", value, self._complain)
        if given is not None and value != given:
            allowed = f"{given!r}, as attribute= says; to select rows use where={{'attribute': {given!r}}}"
            self._complain("attribute", preview(value), allowed)
        return value

    def _scale(self, value: Any) -> list[float] | None:
        given = self.defaults.scale
        if value is None:
            if given is None:
                self._nothing("scale", "[lowest, highest], or scale=(lowest, highest) for the whole file")
            return None if given is None else [float(given[0]), float(given[1])]
        numbers = _finite_numbers(value)
        if numbers is None or len(numbers) != 2 or not numbers[0] < numbers[1]:
            self._complain("scale", preview(value), "[lowest, highest] with lowest < highest")
            return None
        if given is not None and tuple(numbers) != given:
            self._complain("scale", preview(value), f"{list(given)}, as scale= says")
        return numbers

    def _ratings(self, value: Any) -> list[float]:
        """The valid ratings; every other one is a problem."""
        ratings = []
        for rating in self._entries("ratings", value, _NUMBERS):
            if isinstance(rating, bool) or not isinstance(rating, int | float):
                self._complain("ratings", f"{type(rating).__name__} {preview(rating)}", _NUMBERS)
            elif not is_finite_number(rating):
                self._complain("ratings", preview(rating), "finite numbers; leave out a rater who gave none")
            else:
                ratings.append(float(rating))
        return ratings

    def _votes(self, value: Any) -> list[int]:
        """The valid votes; every other one is a problem."""
        allowed = "one of -1 (b is better), 0 (tie), 1 (a is better) per rater, or of A, tie, B"
        votes = []
        for vote in self._entries("votes", value, allowed):
            if isinstance(vote, bool) or not isinstance(vote, int | float) or vote not in (-1, 0, 1):
                self._complain("votes", f"{type(vote).__name__} {preview(vote)}", allowed)
            else:
                votes.append(int(vote))
        return votes

    def _entries(self, column: str, value: Any, allowed: str) -> list[Any]:
        """The entries of a list, or a single value; none at all is a problem."""
        if value is None:
            self._nothing(column, allowed)
            return []
        entries = value if isinstance(value, list) else [value]
        if not entries:
            self._complain(column, "an empty list", allowed)
        return entries

    def _rater_ids(self, value: Any, judgements: Any, column: str) -> list[str] | None:
        if value is None or column in self.absent:
            return None
        allowed = f"one name per entry of {column}, or null"
        if not isinstance(value, list):
            self._complain("rater_ids", f"{type(value).__name__} {preview(value)}", allowed)
            return None
        count = len(judgements) if isinstance(judgements, list) else 1
        if len(value) != count:
            self._complain("rater_ids", f"{len(value)} names for {count} {column}", allowed)
        if any(isinstance(rater, bool) or not isinstance(rater, str | int) for rater in value):
            self._complain("rater_ids", preview(value), allowed)
            return None
        raters = [str(rater) for rater in value]
        return raters if all(is_unicode("rater_ids", rater, self._complain) for rater in raters) else None

    def _read_optional(self, raw: Mapping[str, Any], row: dict[str, Any]) -> None:
        for column in ("split", "system"):
            if raw.get(column) is not None:
                row[column] = self._name(raw, column, "")
        if len(row.get("system", "")) > LONGEST_NAME and " " in row["system"]:
            self._note(
                "column 'system' names what wrote the responses; such long texts look like system prompts, "
                "which are read as the first message of the prompt only"
            )
        for column, many in (("true_mean", False), ("true_quantiles", True)):
            value = raw.get(column)
            if value is not None:
                numbers = _finite_numbers(value if many else [value])
                if numbers is None:
                    self._complain(column, preview(value), "finite numbers" if many else "a finite number")
                else:
                    row[column] = numbers if many else numbers[0]


def _finite_numbers(value: Any) -> list[float] | None:
    """The value as a list of floats if it is a list of finite numbers, else None."""
    if not isinstance(value, list | tuple):
        return None
    if not all(map(is_finite_number, value)):
        return None
    return [float(number) for number in value]
