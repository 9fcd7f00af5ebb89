"""Real data by cross-fitting: the part of docs/results.md, and the few lines of README.md."""

from __future__ import annotations

from typing import Any

from tables import Headline, Rows, interval, read_folder, table

_MAIN = (
    "emobank",
    "summeval-expert + length, surface",
    "summeval-crowd + length, surface",
    "wmt_mqm23 + length, surface",
)


def section() -> str:
    """Calibration and accuracy on real people, by cross-fitting."""
    text = (
        "## Real data: people that the model has not seen\n\nFrozen MiniLM, 5-fold cross-fitting over groups "
        "(`python benchmarks/real_data.py`). Pinball loss is the mean over the levels 0.05 ... 0.95 on ratings spread over "
        "their grid step, in units of the scale; coverage is the randomised coverage of the central 90 % interval; the "
        "constant model predicts every text's distribution as that of the training ratings."
    )
    calibration: Rows = []
    pairs: Rows = []
    for record in read_folder("real_data"):
        name, results = record["set"], record["results"]
        for attribute, part in results["ratings"].items():
            label = f"{name}, all (share of scale)" if attribute == "all" else f"{name}, {attribute}"
            calibration.append(
                [
                    label,
                    f"{part['groups']}",
                    interval(part["pinball"]["model"]),
                    interval(part["pinball"].get("constant")),
                    interval(part["pinball"].get("difference")),
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
        "coverage of 5-95 %",
        "crossing",
    ]
    text += "\n\n" + table(head, calibration)
    text += (
        "\n\nAccuracy on pairs: of responses to one prompt whose mean ratings differ (ratings), or of the raters' "
        "majority (votes). The last column is the family fitted minus length.\n\n"
    )
    return text + table(
        ["", "pairs", "groups", "quantile", "Bradley-Terry", "longer wins", "minus length"], pairs
    )


def headlines() -> list[Headline]:
    """The best description of each set against the constant model, coverage, and pairs against length."""
    found = []
    for record in read_folder("real_data"):
        name, ratings, pairs = record["set"], record["results"]["ratings"], record["results"]["pairs"]
        if name in _MAIN:
            part = ratings.get("all") or next(iter(ratings.values()))
            change = _change(part)
            claim = f"quantile model on unseen people, pinball loss against the constant model: {name}"
            found.append(Headline(claim, _percent(change), "below 0", change["high"] < 0))
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
    for record in read_folder("real_data"):
        ratings, pairs = record["results"]["ratings"], record["results"]["pairs"]
        if ratings:
            part = ratings.get("all") or next(iter(ratings.values()))
            rows.append(
                [
                    record["set"],
                    _percent(_change(part)),
                    f"{100 * part['coverage']['model']['estimate']:.1f} %",
                ]
            )
        for name, part in pairs.items():
            if name == "votes":
                rows.append(
                    [
                        f"{record['set']}: Bradley-Terry {100 * part['accuracy']['model']['estimate']:.1f} %, "
                        f"longer wins {100 * part['accuracy']['length']['estimate']:.1f} %",
                        "",
                        "",
                    ]
                )
    return table(["", "pinball loss against the constant model", "coverage of 5-95 %, nominal 90 %"], rows)
