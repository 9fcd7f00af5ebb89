"""All families against held-out raters: the part of docs/results.md.

Every sentence that names a method is made from intervals of paired differences, so that it follows the runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pluralign.evaluation import difference_interval, mean_interval
from pluralign.evaluation.within import summarise_within
from studies import findings
from studies.families import picture
from studies.families.compared import (
    ALL,
    CONSTANT,
    HELD_OUT,
    METHODS,
    NORMAL,
    NORMAL_ENTROPY,
    RATERS,
    SETS,
    SHORT,
    TENTH,
    THINNINGS,
    Records,
    Thinning,
    below,
    column,
    difference,
    in_words,
    nearest_method,
    records_of_runs,
)
from studies.records import read
from studies.tables import Headline, Rows, interval, table

INTRO = (
    "## All families against held-out raters\n\nFrozen MiniLM with length and surface columns, 5-fold cross-fitting over "
    "groups (`python -m studies families`); penalties are chosen inside the training part. Every distribution is read on the "
    "raters' categories and compared with all held-out raters of a response, in units of the rating scale; a point stays "
    "the number it is. W1 is the Wasserstein distance; the floor is what the true distribution would score against so few raters. "
    "The squared distance is the integral of the squared difference of distribution functions, unbiased for the number of "
    "independent raters: 0 is perfect. {proper} Each group counts alike; differences are paired "
    "over groups. The average distribution is the same for every response. Intervals are for the models as fitted, with one seed: they do not include the variation between draws of the training data, and with so many of them a few exclude 0 by chance."
)
ABOUT = {
    "emobank": "1,260 sentences of 75 documents, valence and arousal, 5 to 7 readers",
    "summeval-crowd": "794 summaries of 67 articles, four attributes, 5 ratings of the crowd; the text seen is the summary "
    "alone. In 355 summaries the five ratings are five times the same in all four attributes, in 347 no two "
    "profiles are alike, and only 92 lie between: many of the five are not five people, so that "
    "squared distances are too large here, by as much for every method",
    "ukpconvarg": "691 arguments of 21 topics, about 165 votes each",
}


def section() -> str | None:
    """Distances with everything, with less to learn from, as Gaussians, and on other topics."""
    records = records_of_runs()
    if not records:
        return None
    parts = [
        INTRO.format(proper=findings.section("families", "Proper scores")),
        *(_everything(records, name) for name in SETS),
    ]
    parts.insert(1, _within_prompts())
    return "\n\n".join([*parts, *_less(records), _shape(records), _other_topics(records)])


def _within_prompts() -> str:
    """Distances are over all responses; what is known within a prompt is in another study of the same sets."""
    found = []
    for name in ("emobank", "summeval-crowd + length, surface"):
        for record in read("real_data", "cross_fit", data=name, seed=0):
            within = summarise_within(record["results"]["evaluation"]["pairs"]["pairs_from_ratings"])
            won = f"{interval(within['model'], 3)}, {within['verdict']}, the longer text {interval(within['length'], 3)}"
            found.append(f"{name} {won}")
    return (
        "Distances are over all responses, and can be lowered by knowing which prompts have good ones. Of pairs of responses to one "
        f'prompt the quantile family orders as their mean ratings do ("Real data"): {"; ".join(found)}. In ukpconvarg an argument\'s '
        "prompt is its topic and side, and its votes are on pairs within it."
    )


def pictures() -> None:
    """docs/images/families_raters.svg."""
    picture.draw(records_of_runs())


def headlines() -> list[Headline]:
    """How far the nearest family is ahead of the average distribution, by set."""
    records, found = records_of_runs(), []
    for name in SETS:
        if nearest := nearest_method(records, name, ALL):
            value = interval(difference(records, name, nearest, ALL).to_dict(), 3)
            claim = f"{name}: {METHODS[nearest]} minus the average distribution, squared distance to held-out raters"
            found.append(Headline(claim, value))
    return found


def _everything(records: Records, name: str) -> str:
    floors = records[name, CONSTANT, ALL]["floors"]
    rows: Rows = []
    for method, label in METHODS.items():
        record = records.get((name, method, ALL))
        if record is None:
            continue
        row = [label]
        for key in ("wasserstein", "energy"):
            own = column(record, key)
            row.append(interval(mean_interval(own).to_dict(), 3))
            apart = difference(records, name, method, ALL, key)
            row.append("" if method == CONSTANT else interval(apart.to_dict(), 3))
        rows.append([*row, f"{100 * column(record, 'majority').mean():.0f} %"])
    less = "minus the average distribution"
    return (
        f"**{name}** ({ABOUT[name]}): floor of W1 {floors['wasserstein_floor']:.3f}; halves of the raters are "
        f"{floors['raters_apart']:.3f} apart.\n\n"
        + table(["", "W1", less, "squared distance", less, "majority right"], rows)
    )


# -- less to learn from ----------------------------------------------------------------------------


def _less(records: Records) -> list[str]:
    parts = [
        "### Less to learn from\n\nSquared distance to all held-out raters, minus that of the average distribution of the same thinned "
        "data; **bold** where the interval is below 0. The first row is the average distribution's own. Methods share the thinned "
        "data, and fewer raters are part of more; the tenth is one draw, and keeps all raters."
    ]
    for name in SETS:
        cases = [t for t in THINNINGS if (name, CONSTANT, t) in records]
        rows = [
            [
                METHODS[CONSTANT],
                *(f"{column(records[name, CONSTANT, t], 'energy').mean():.3f}" for t in cases),
            ]
        ]
        for method in SHORT:
            rows.append([METHODS[method], *(_less_cell(records, name, method, t) for t in cases)])
        parts.append(f"**{name}**\n\n" + table(["", *(THINNINGS[t] for t in cases)], rows))
    above = ["one number per response", *picture.above(records)]
    parts.append(
        "![Squared distance to held-out raters by number of raters per response](images/families_raters.svg)\n\n"
        f"Bars are 95 % intervals. Above the picture: {', '.join(above)}. summeval-crowd is not drawn."
    )
    return [*parts, _winners(records), _transport(records)]


def _less_cell(records: Records, name: str, method: str, thinning: Thinning) -> str:
    if (name, method, thinning) not in records:
        return ""
    found = difference(records, name, method, thinning)
    cell = interval(found.to_dict(), 3)
    return f"**{cell}**" if below(found) else cell


def _winners(records: Records) -> str:
    """Who beats the average distribution, who is nearest, and who is not measurably different from it."""
    rows: Rows = []
    for name in SETS:
        for thinning, label in THINNINGS.items():
            nearest = nearest_method(records, name, thinning)
            if nearest is None:
                continue
            fitted = [m for m in SHORT if (name, m, thinning) in records]
            apart = {m: difference(records, name, m, thinning) for m in fitted}
            behind = {m: difference(records, name, m, thinning, base=nearest) for m in fitted if m != nearest}
            rows.append(
                [
                    f"{name}, {label}",
                    in_words(m for m, d in apart.items() if below(d)),
                    in_words(m for m, d in apart.items() if d.excludes(0.0) and not below(d)),
                    SHORT[nearest],
                    in_words(m for m, d in behind.items() if not d.excludes(0.0)),
                ]
            )
    head = [
        "",
        "better than the average distribution",
        "worse than it",
        "nearest",
        "no measurable difference from the nearest",
    ]
    return f"{_in_short(records)}\n\n{table(head, rows)}"


def _in_short(records: Records) -> str:
    """For three ways to have data: the methods that beat the average distribution, by set."""
    lines = []
    for thinning, what in (
        (ALL, "With all data"),
        ((1.0, 1), "With one rater per response"),
        (TENTH, "With a tenth"),
    ):
        by_set = []
        for name in SETS:
            fitted = [m for m in SHORT if (name, m, thinning) in records]
            better = [m for m in fitted if below(difference(records, name, m, thinning))]
            by_set.append(f"{in_words(better)} on {name}")
        lines.append(f"{what} the average distribution is beaten by {'; '.join(by_set)}.")
    return " ".join(lines)


def _transport(records: Records) -> str:
    """From how many raters on transport keeps up with cross-entropy."""
    rows: Rows = []
    ends = []
    for name, most in SETS.items():
        cases = [t for t in RATERS if all((name, m, t) in records for m in ("transport", "cross_entropy"))]
        found = {t: difference(records, name, "transport", t, base="cross_entropy") for t in cases}
        rows.append([name, *(interval(found[t].to_dict(), 3) if t in found else "" for t in RATERS)])
        behind = {t: d for t, d in found.items() if d.excludes(0.0) and not below(d)}
        counts = ", ".join(f"{t[1] or most} (by {d.estimate:.3f})" for t, d in behind.items())
        ends.append(f"on {name} with {counts or 'no number of raters'}")
    return (
        "Transport minus cross-entropy, squared distance, by raters per response in training. Transport is "
        f"behind {'; '.join(ends)}. "
        + findings.section("families", "Transport")
        + "\n\n"
        + table(["", *(THINNINGS[t] for t in RATERS)], rows)
    )


# -- what the Gaussian shape costs -----------------------------------------------------------------


def _shape(records: Records) -> str:
    rows: Rows = []
    columns = (CONSTANT, NORMAL, "cross_entropy", NORMAL_ENTROPY, "gaussian_ensemble")
    for name in SETS:
        there = [(name, m, ALL) in records for m in columns]
        means = [
            f"{column(records[name, m, ALL], 'energy').mean():.3f}" if known else ""
            for m, known in zip(columns, there, strict=True)
        ]
        apart = ""
        if all(there):
            found = difference(records, name, "gaussian_ensemble", ALL, base=NORMAL_ENTROPY)
            apart = interval(found.to_dict(), 3)
        rows.append([name, *means, apart])
    head = [
        "",
        "average distribution",
        "as a Gaussian",
        "cross-entropy",
        "as a Gaussian",
        "Gaussian ensemble",
    ]
    return (
        "### What a Gaussian shape costs\n\nWhy the Gaussian ensemble and ridge with a Gaussian residual are behind: every distribution of "
        "another method is replaced by the normal distribution of its mean and variance. Squared distance with all data. Votes pile up "
        "at both ends and emobank's ratings in the middle; no Gaussian has either shape. In the last column, below 0 means that "
        "the ensemble is nearer than a Gaussian with cross-entropy's means and variances.\n\n"
        + table([*head, "minus cross-entropy as a Gaussian"], rows)
    )


# -- other topics ----------------------------------------------------------------------------------


def _other_topics(records: Records) -> str:
    rows: Rows = []
    costs: dict[str, list[str]] = {name: [] for name in list(HELD_OUT)[1:]}
    seen = next(iter(HELD_OUT))
    averages = {name: _by_topic(records[name, CONSTANT, ALL])[1] for name in HELD_OUT}
    debates = [topic.split("_")[0] for topic in _by_topic(records[seen, CONSTANT, ALL])[0]]
    for method in (CONSTANT, *SHORT):
        if not all((name, method, ALL) in records for name in HELD_OUT):
            continue
        means = {name: _by_topic(records[name, method, ALL])[1] for name in HELD_OUT}
        gaps = {name: difference_interval(means[name], means[seen], debates) for name in costs}
        for name, gap in gaps.items():
            if method != CONSTANT and gap.excludes(0.0):
                costs[name].append(method)
        ahead = [float((averages[name] - own).mean()) for name, own in means.items()]
        cells = [f"{own.mean():.4f}" for own in means.values()]
        cells += [interval(gap.to_dict(), 4) for gap in gaps.values()]
        rows.append([METHODS[method], *cells, f"{100 * ahead[-1] / ahead[0]:.0f} %" if ahead[0] > 0 else ""])
    named = "; ".join(f"{HELD_OUT[name]} held out for {in_words(methods)}" for name, methods in costs.items())
    head = ["", *(f"{what} held out" for what in HELD_OUT.values())]
    return (
        "### Other topics than trained on\n\n`ukpconvarg` with three things held out: single arguments, so that others of their "
        "topic were seen; whole topics, each one side of a debate, so that the other side may have been seen; whole debates. "
        "The same arguments are evaluated and about as many are learned from, so differences are paired by topic, with "
        "intervals over 14 debates. A vote counts for both arguments of its pair: the mean vote of a topic is 0, which no model "
        "can learn by seeing it, and with single arguments held out some of their votes are in training, for the other side. "
        "Squared distance with all data; `gain kept` is what a method is ahead of the average distribution in a new debate, as a share of "
        f"what it is ahead with single arguments held out. The interval of the gap to single arguments excludes 0 with {named}.\n\n"
        + table([*head, *(f"{HELD_OUT[name]} minus single" for name in costs), "gain kept"], rows)
    )


def _by_topic(record: dict[str, Any]) -> tuple[list[str], Any]:
    """The topics, and the mean squared distance of each; where single arguments are groups, over its arguments."""
    found: dict[str, list[float]] = {}
    for group, own in record["groups"].items():
        found.setdefault("/".join(group.split("/")[:2]), []).append(own["energy"])
    topics = sorted(found)
    return topics, np.array([np.mean(found[topic]) for topic in topics])
