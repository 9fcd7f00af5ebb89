"""Real data by cross-fitting: the part of docs/results.md, and the few lines of README.md.

Beside every pinball loss, which is over all responses, stands whether the model tells responses to one prompt
apart: a loss can be won by knowing prompts alone.
"""

from __future__ import annotations

from typing import Any

from pluralign.evaluation.within import summarise_within
from studies import findings
from studies.records import read
from studies.tables import Headline, Rows, interval, table

_MAIN = (
    "emobank",
    "summeval-expert + length, surface",
    "summeval-crowd + length, surface",
    "wmt_mqm23 + length, surface",
)


def _runs() -> list[tuple[str, dict[str, Any]]]:
    """The evaluation of each set, by name; the same set with more columns comes before it with fewer."""
    found = [
        (r["settings"]["data"], r["results"]["evaluation"]) for r in read("real_data", "cross_fit", seed=0)
    ]
    return sorted(found, key=lambda one: (one[0].split(" + ")[0], -len(one[0])))


def section() -> str:
    """Calibration and accuracy on real people, by cross-fitting."""
    text = (
        "## Real data: people that the model has not seen\n\nFrozen MiniLM, 5-fold cross-fitting over groups "
        "(`python -m studies real_data`). Pinball loss is the mean over the levels 0.05 ... 0.95 on ratings spread over "
        "their grid step, in units of the scale; coverage is the randomised coverage of the central 90 % interval; the "
        "constant model predicts every text's distribution as that of the training ratings. All of these are over all responses, and knowing which prompts have good ones is enough to do well on them; so the table also has the share of pairs "
        "of responses **to one prompt** that the model, by the mix of all attributes, puts in the order of their mean "
        "ratings, and the same of a rule that takes the longer text. Chance is half of the pairs. "
        "(By attribute only where the run recorded it.)"
    )
    calibration: Rows = []
    pairs: Rows = []
    for name, results in _runs():
        for attribute, part in results["ratings"].items():
            label = f"{name}, all (share of scale)" if attribute == "all" else f"{name}, {attribute}"
            calibration.append(
                [
                    label,
                    f"{part['groups']}",
                    interval(part["pinball"]["model"]),
                    interval(part["pinball"].get("constant")),
                    interval(part["pinball"].get("difference")),
                    *_within(results, attribute),
                    interval(part["coverage"]["model"], 3),
                    f"{100 * part['crossing']['model']['estimate']:.1f} %",
                ]
            )
        for part in results["pairs"].values():
            accuracy = part["accuracy"]
            own = (
                accuracy
                if results["family"] != "bradley_terry"
                else {**accuracy, "bradley_terry": accuracy["model"]}
            )
            pairs.append(
                [
                    name,
                    f"{part['rows']:,}",
                    f"{part['groups']}",
                    interval(own["model"], 3) if results["family"] == "quantile" else "",
                    interval(own.get("bradley_terry"), 3),
                    interval(own["length"], 3),
                    interval(part["difference"]["length"], 3),
                ]
            )
    if not calibration and not pairs:
        return text + "\n\nNot run yet."
    head = [
        "",
        "groups",
        "pinball, quantile",
        "pinball, constant",
        "difference",
        "within a prompt, quantile",
        "the longer text",
        "quantile is",
        "coverage of 5-95 %",
        "crossing",
    ]
    text += "\n\n" + table(head, calibration)
    text += (
        "\n\nAccuracy on pairs: of responses to one prompt whose mean ratings differ (ratings), or of the raters' "
        "majority (votes). The last column is the family fitted minus length.\n\n"
    )
    head = ["", "pairs", "groups", "quantile", "Bradley-Terry", "longer wins", "minus length"]
    return text + table(head, pairs) + _no_success()


def _within(results: dict[str, Any], attribute: str = "all") -> list[str]:
    """Pairs won within a prompt, by the model and by length, and what that says; empty where it is not known."""
    pairs = results["pairs"].get("pairs_from_ratings")
    if pairs is not None and attribute != "all" and len(results["ratings"]) > 1:
        pairs = pairs.get("attributes", {}).get(attribute)  # runs of before it was kept have none
    if pairs is None:
        return ["", "", ""]
    found = summarise_within(pairs)
    return [interval(found["model"], 3), interval(found["length"], 3), found["verdict"]]


def _no_success() -> str:
    """Sets whose pinball loss is better than the constant model's although nothing is known within a prompt."""
    found = []
    for name, results in _runs():
        ratings, pairs = results["ratings"], results["pairs"]
        if ratings and _change(ratings.get("all") or next(iter(ratings.values())))["high"] < 0:
            within = summarise_within(pairs["pairs_from_ratings"])
            if within["verdict"] != "above chance":
                found.append(f"{name} ({interval(within['model'], 3)}, {within['verdict']})")
    if not found:
        return ""
    return f"\n\n**Not a success**, despite a better pinball loss: {'; '.join(found)}. " + findings.section(
        "real_data", "wmt_mqm23"
    )


def headlines() -> list[Headline]:
    """The best description of each set against the constant model, coverage, and pairs against length."""
    found = []
    for name, results in _runs():
        ratings, pairs = results["ratings"], results["pairs"]
        if name in _MAIN:
            part = ratings.get("all") or next(iter(ratings.values()))
            change, within = _change(part), summarise_within(pairs.get("pairs_from_ratings"))
            claim = (
                "quantile model on unseen people, pinball loss against the constant model, and pairs won within a "
                f"prompt: {name}"
            )
            text = f"{_percent(change)}; {interval(within['model'], 3)}, {within['verdict']}"
            reached = change["high"] < 0 and within["verdict"] == "above chance"
            found.append(Headline(claim, text, "below 0, and above chance", reached))
            if name == "emobank":
                covered = part["coverage"]["model"]
                claim = "coverage of its central 90 % interval, emobank"
                shown = interval({k: 100 * covered[k] for k in ("estimate", "low", "high")}, 1) + " %"
                found.append(Headline(claim, shown, "87 to 93 %", 0.87 <= covered["estimate"] <= 0.93))
        if "votes" in pairs:
            gain = {k: 100 * pairs["votes"]["difference"]["length"][k] for k in ("estimate", "low", "high")}
            claim = f"Bradley-Terry on unseen topics, accuracy minus that of choosing the longer: {name}"
            found.append(Headline(claim, f"{interval(gain, 1)} points"))
    return found


def _change(part: dict[str, Any]) -> dict[str, float]:
    """Pinball loss minus the constant model's, in % of that."""
    loss = part["pinball"]
    return {
        k: loss["difference"][k] / loss["constant"]["estimate"] * 100 for k in ("estimate", "low", "high")
    }


def _percent(change: dict[str, float]) -> str:
    return f"{change['estimate']:+.1f} % [{change['low']:+.1f}, {change['high']:+.1f}]"


def summary() -> str:
    """The few lines of real data that the README shows."""
    rows: Rows = []
    for name, results in _runs():
        ratings, pairs = results["ratings"], results["pairs"]
        if ratings:
            part = ratings.get("all") or next(iter(ratings.values()))
            rows.append(
                [
                    name,
                    _percent(_change(part)),
                    *_within(results),
                    f"{100 * part['coverage']['model']['estimate']:.1f} %",
                ]
            )
        for kind, part in pairs.items():
            if kind == "votes":
                rows.append(
                    [
                        f"{name}: Bradley-Terry {100 * part['accuracy']['model']['estimate']:.1f} %, "
                        f"longer wins {100 * part['accuracy']['length']['estimate']:.1f} %",
                        *[""] * 5,
                    ]
                )
    head = [
        "",
        "pinball loss against the constant model",
        "pairs won within a prompt",
        "by the longer text",
        "the model is",
        "coverage of 5-95 %, nominal 90 %",
    ]
    return table(head, rows)
