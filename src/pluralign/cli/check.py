"""`pluralign check FILE`: what a data file contains, and what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pluralign.cli.console import Console, cut
from pluralign.cli.objects import counts, quiet_datasets
from pluralign.cli.parsing import parse

__all__ = ["run"]

_BARS = " ▁▂▃▄▅▆▇█"
_MOST_SUBSETS = 5
_WIDEST_NAME = 22


@dataclass(frozen=True)
class CheckFlags:
    """Check a data file before anything is fitted.

    Attributes:
        file: File, folder or hub id with ratings, pairs, comparisons or plain responses.
        shape: ratings, pairs, comparisons or responses; null to infer it from the columns.
        where: Only rows with these values, e.g. --where.subset expert.
        columns: Mapping from our column names to the file's, e.g. --columns.response answer.
        scale: Lowest and highest rating, if the file has no scale column.
        attribute: Name of what is rated, if the file has no attribute column.
        attribute_columns: Columns with the ratings of one attribute each, e.g. '[clarity,tone]'.
        rater_columns: Columns with the ratings of one rater each, e.g. '[ann,bob]'.
        hub_split: Split of a hub data set.
        json: Print the summary as JSON.
    """

    file: str
    shape: Literal["ratings", "pairs", "comparisons", "responses"] | None = None
    where: dict[str, str] | None = None
    columns: dict[str, str] | None = None
    scale: tuple[float, float] | None = None
    attribute: str | None = None
    attribute_columns: list[str] | None = None
    rater_columns: list[str] | None = None
    hub_split: str | None = None
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments, reads the file and prints the summary."""
    (flags,) = parse("check", CheckFlags.__doc__ or "", arguments, CheckFlags, positional="file")
    from pluralign import data

    quiet_datasets()
    options: dict[str, Any] = {"columns": flags.columns, "split": flags.hub_split}
    wide = flags.attribute_columns or flags.rater_columns
    shape = flags.shape or ("ratings" if wide else data.detect_shape(flags.file, **options))
    options["where"] = flags.where
    if shape == "ratings":
        names = ("scale", "attribute", "attribute_columns", "rater_columns")
        options |= {name: getattr(flags, name) for name in names}
    table, report = data.read_table(flags.file, shape, **options)
    found = data.summarise(table)
    summary = asdict(found)
    console = Console(flags.json)
    console.table(f"{flags.file}: {shape}", ("", ""), _whole(summary))
    if summary["votes"]:
        console.table("votes", ("", ""), _listed(summary["votes"]))
    if summary["length"]:
        console.table("length as a rule", ("", ""), _listed(summary["length"]))
    if summary["attributes"]:
        console.table("attributes", _HEAD, [_attribute(a) for a in summary["attributes"]])
        console.table("use of the scale", ("", "", ""), [_histogram(a) for a in summary["attributes"]])
    shared = f"; {found.shared}" if found.shared and found.shared.found else ""
    unread = data.unread_judgements(table, shape)
    verdict = _doubt(summary["votes"]) or _verdict(unread, shape, data.flags_for(unread, shape))
    if unread:
        console.table("not read", ("", ""), [(column.name, column.holds) for column in unread])
    more = {"notes": dict(report.notes), "reading": report.read_as, "unread": [asdict(c) for c in unread]}
    console.result(summary | more, f"{flags.file}: {counts(report)}, {verdict}{shared}")


def _doubt(votes: Mapping[str, Any] | None) -> str:
    """Where votes are 0 and 1 alone, they probably number the sides; empty otherwise."""
    if votes is None or votes["share_b"] > 0 or not 0 < votes["share_tie"] < 1:
        return ""
    return (
        "but every vote is 0 or 1, which were read as a tie and as a vote for a: if they number the "
        "sides, write 1 where a is better and -1 where b is"
    )


def _verdict(unread: Sequence[Any], shape: str, flags: str) -> str:
    """Reports no problems, unless unread columns look like ratings or votes."""
    if not unread:
        return "no problems"
    names = ", ".join(column.name for column in unread)
    if shape != "responses":
        return f"no problems in the columns that were read; not read: {names}"
    advice = f"; to read: {flags}" if flags else ""
    return f"read as responses without ratings, although there are columns {names}{advice}"


_HEAD = (
    "",
    *("rows", "raters", "scale", "step", "mean", "std", "lowest", "highest", "unanimous", "alpha"),
)


_SHARED = {
    "prompts": "prompts in several groups",
    "texts": "texts in several groups",
    "responses": "responses in several groups",
    "apart": "on both sides of a split",
}


def _whole(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Counts for the whole table, and its largest subsets."""
    rows = [(k.replace("_", " "), _plain(summary[k])) for k in ("rows", "distinct_texts", "groups")]
    shared = summary["shared"]
    rows += [(name, _plain(shared[key])) for key, name in _SHARED.items() if shared[key]]
    subsets = list(summary["subsets"].items())
    if len(subsets) > 1:
        rows += [(f"subset {name or '(none)'}", _plain(count)) for name, count in subsets[:_MOST_SUBSETS]]
        if len(subsets) > _MOST_SUBSETS:
            rest = subsets[_MOST_SUBSETS:]
            rows.append((f"and {len(rest):,} more subsets", _plain(sum(count for _, count in rest))))
    return rows


def _listed(part: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name.replace("_", " "), _spread(value) if name == "raters" else _plain(value))
        for name, value in part.items()
    ]


def _attribute(a: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = a["scale"]
    shares = [f"{100 * a[k]:.0f} %" for k in ("share_lowest", "share_highest")]
    unanimous = "-" if a["share_unanimous"] is None else f"{100 * a['share_unanimous']:.0f} %"
    return (
        cut(a["name"], _WIDEST_NAME),
        _plain(a["rows"]),
        _spread(a["raters"]),
        f"{low:g}..{high:g}",
        _plain(a["grid_step"]),
        f"{a['mean']:.2f}",
        f"{a['std']:.2f}",
        *shares,
        unanimous,
        "-" if a["alpha_ordinal"] is None else f"{a['alpha_ordinal']:.2f}",
    )


def _histogram(a: Mapping[str, Any]) -> tuple[str, str, str]:
    """A bar per bin, its height relative to the largest bin, with a note where nothing can be learned."""
    most = max(a["bin_counts"])
    # Rounded up, so that only an unused rating has no bar.
    bars = "".join(_BARS[math.ceil(count / most * (len(_BARS) - 1))] for count in a["bin_counts"])
    low, high = a["scale"]
    note = "constant: nothing to learn" if a["constant"] else ""
    return cut(a["name"], _WIDEST_NAME), f"{low:g} {bars} {high:g}", note


def _spread(value: Mapping[str, Any]) -> str:
    """Smallest, median and largest."""
    return f"{value['min']}/{value['median']:g}/{value['max']}"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value != int(value) else f"{value:g}"
    return "-" if value is None else f"{value:,}"
