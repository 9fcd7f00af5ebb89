"""The shapes of result files, and the check that a file has its shape.

In: parsed JSON. Out: nothing, or an `ArtifactError` that names the file and the place in it. A checked file
can be read without further checks. Other keys than those named here are allowed; they are not read.

Notation of a shape: `NUMBER`, `TEXT`; `Maybe(shape)` also allows null; `[shape]` is a list;
`{"key": shape}` an object, where a key that ends in `?` is optional; `Each(shape)` an object with any keys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pluralign.checks import as_finite
from pluralign.errors import ArtifactError

__all__ = ["EXAMPLE", "RESULTS", "RUN", "SCHEMA", "check"]

SCHEMA = 1  # of results.json


@dataclass(frozen=True)
class Maybe:
    """A value of this shape, or null."""

    shape: Any


@dataclass(frozen=True)
class Each:
    """An object whose values all have this shape."""

    shape: Any


NUMBER, TEXT = "a finite number", "a text"

_INTERVAL = {"estimate": NUMBER, "low": Maybe(NUMBER), "high": Maybe(NUMBER), "reason": TEXT}
_MEASURE = {
    "model": _INTERVAL,
    "constant?": _INTERVAL,
    "difference?": _INTERVAL,
    "others?": Each({"value": _INTERVAL, "difference?": _INTERVAL}),
}
_WITHIN = {
    "verdict": TEXT,
    "rows?": NUMBER,
    "groups?": NUMBER,
    "model?": _INTERVAL,
    "chance?": NUMBER,
    "length?": _INTERVAL,
    "difference?": _INTERVAL,
}
_RATINGS = {
    "rows": NUMBER,
    "groups": NUMBER,
    "unit": TEXT,
    "pinball": _MEASURE,
    "crps": _MEASURE,
    "pinball_on_grid?": _MEASURE,
    "crps_on_grid?": _MEASURE,
    "quantile_error?": _MEASURE,
    "coverage": _MEASURE | {"nominal": NUMBER},
    "closed_coverage": _MEASURE,
    "peaked": _MEASURE,
    "crossing": _MEASURE,
    "levels": {"levels": [NUMBER], "below": [NUMBER]},
    "levels_uncalibrated?": {"levels": [NUMBER], "below": [NUMBER]},
    "pit": {"edges": [NUMBER], "share": [NUMBER]},
    "spearman_mean": Maybe(NUMBER),
    "spearman_std_error": Maybe(NUMBER),
    "within_prompt?": _WITHIN,
}
_PAIRS = {
    "rows": NUMBER,
    "groups": NUMBER,
    "accuracy": Each(_INTERVAL),
    "ties": Each(NUMBER),
    "difference": Each(_INTERVAL),
    "subsets": Each(Each(NUMBER)),
    "attributes?": Each({"rows": NUMBER, "accuracy": Each(_INTERVAL)}),
    "tied_rules?": [TEXT],
    "brier": _INTERVAL,
    "brier_of_half?": NUMBER,
    "expected_calibration_error": Maybe(NUMBER),
    "reliability": {"predicted": [Maybe(NUMBER)], "observed": [Maybe(NUMBER)], "count": [NUMBER]},
    "tied_in_data": NUMBER,
}
_VOTE_LOSS = {"value": Each(_INTERVAL), "difference": Each(_INTERVAL)}
_VOTES = {
    "rows": NUMBER,
    "groups": NUMBER,
    "log_loss": _VOTE_LOSS,
    "brier": _VOTE_LOSS,
    "mean": {"predicted": Each(NUMBER), "observed": Each(NUMBER)},
}
_PAIR_TABLES = ("pairs_from_ratings", "pairs", "votes")
_GATE = {
    "weights": Each(NUMBER),
    "subsets": Each(Each(NUMBER)),
    "entropy_share": NUMBER,
    "rows?": NUMBER,
    "subset_rows?": Each(NUMBER),
}
_HEADS = {
    "heads?": NUMBER,
    "correlation?": NUMBER,
    "disagreement?": NUMBER,
    "within_std?": NUMBER,
    "between_std?": NUMBER,
    "split?": NUMBER,
    "spearman_between_error?": Maybe(NUMBER),
    "spearman_within_error?": Maybe(NUMBER),
    "intervals?": Each(_INTERVAL),
}
_OF_CROWD = {
    "rows": NUMBER,
    "w1": {"model": _INTERVAL, "constant?": _INTERVAL},
    "energy": Each(_INTERVAL),
    "floor": Maybe(NUMBER),
    "split_half": Maybe(NUMBER),
}
_PAIRWISE = {
    "rows": NUMBER,
    "groups": NUMBER,
    "of_half": NUMBER,
    "by": Each(
        {
            "curve": {"predicted": [Maybe(NUMBER)], "observed": [Maybe(NUMBER)], "count": [NUMBER]},
            "error": NUMBER,
            "brier": _INTERVAL,
        }
    ),
}
_SUITE = {
    "title": TEXT,
    "rule": TEXT,
    "risks": [TEXT],
    "rows": NUMBER,
    "groups": NUMBER,
    "scores": Each({"interval": Each(_INTERVAL), "sections": Each(Maybe(NUMBER)), "missing": [TEXT]}),
    "difference": Each(_INTERVAL),
    "notes": [TEXT],
}
RESULTS = {
    "schema": NUMBER,
    "pluralign": TEXT,
    "family": TEXT,
    "backbone": {"name_or_path": TEXT, "fingerprint?": Maybe(TEXT)},
    "fitted": {
        "rows?": Each(NUMBER),
        "split?": Maybe({"test_share": NUMBER}),
        "std_means?": TEXT,
        "warnings?": [TEXT],
    },
    "risk": TEXT,
    "seed": NUMBER,
    "ratings": Each(_RATINGS),
    "pairs": Each(_PAIRS),
    "votes?": _VOTES,
    "gate?": Each(_GATE),
    "row_digests?": Each(TEXT),
    "ensemble?": {"ratings?": Each(_HEADS), **{f"{table}?": _HEADS for table in _PAIR_TABLES}},
    "part?": TEXT,
    "evaluated_on?": TEXT,
    "judged?": TEXT,  # its name in older files
    "folds?": NUMBER,
    "suite?": _SUITE,
    "crowd?": Each(Each(_OF_CROWD)),
    "pairwise?": Each(_PAIRWISE),
}
RUN = {"verb": TEXT, "config": {}, "inputs": Each(TEXT), "versions": Each(TEXT), "started": TEXT}
EXAMPLE = {
    "prompt": [{"role": TEXT, "content": TEXT}],
    "response": TEXT,
    "levels": [NUMBER],
    "reward": [NUMBER],
    "attributes": Each([NUMBER]),
    "grid?": Each({"ratings": [NUMBER], "shares": [NUMBER]}),
    "gate": [NUMBER],
    "subset?": TEXT,
    "scales?": Each([NUMBER]),
    "ratings?": Each([NUMBER]),
    "true_quantiles?": Each([NUMBER]),
}


def check(value: Any, shape: Any, source: str, place: str = "") -> None:
    """Checks one value.

    Args:
        value: the parsed JSON.
        shape: the shape it should have, in the notation above.
        source: the file, for the message.
        place: where in the file, for the message.

    Raises:
        ArtifactError: it has another shape.
    """
    if isinstance(shape, Maybe):
        if value is not None:
            check(value, shape.shape, source, place)
    elif isinstance(shape, list):
        for i, entry in enumerate(_of_type(value, list, "a list", source, place)):
            check(entry, shape[0], source, f"{place}[{i}]")
    elif isinstance(shape, Each):
        for key, entry in _of_type(value, dict, "an object", source, place).items():
            check(entry, shape.shape, source, _join(place, key))
    elif isinstance(shape, dict):
        given = _of_type(value, dict, "an object", source, place)
        for key, inner in shape.items():
            name = key.removesuffix("?")
            if name in given:
                check(given[name], inner, source, _join(place, name))
            elif name == key:
                raise ArtifactError(
                    f"{source}: {_join(place, name)} is missing; the file is damaged, or not from pluralign"
                )
    elif shape is NUMBER:
        if not isinstance(value, int | float) or math.isnan(as_finite(value)):
            raise _wrong(value, NUMBER, source, place)
    elif shape is TEXT:
        _of_type(value, str, TEXT, source, place)


def _of_type(value: Any, kind: type, name: str, source: str, place: str) -> Any:
    if not isinstance(value, kind):
        raise _wrong(value, name, source, place)
    return value


def _wrong(value: Any, allowed: str, source: str, place: str) -> ArtifactError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return ArtifactError(f"{source}: {place or 'the file'} is {shown}; allowed: {allowed}")


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key
