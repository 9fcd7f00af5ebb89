"""The tables of an evaluation: prints `results.json` in the terminal.

In: the content of `results.json`. Out: tables on a console, with the same numbers as the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pluralign.cli.console import Console, interval
from pluralign.cli.crowd_tables import print_crowd
from pluralign.report.wording import counted, counted_groups, enough

__all__ = ["print_results"]

_MEASURES = ("pinball", "pinball_on_grid", "crps", "crps_on_grid", "quantile_error")
_NAMES = {
    "pinball": "pinball, continuous",
    "pinball_on_grid": "pinball, on grid",
    "crps": "crps, continuous",
    "crps_on_grid": "crps, on grid",
}
_GRID = (
    "continuous: ratings are spread over the step of their grid, as for the fit; on grid: predictions are "
    "rounded to the ratings that people can give, and ratings are as they are"
)
_SHARES = ("coverage", "closed_coverage", "crossing", "peaked")
_MOST_KINDS = 12  # of prompts in one table; the others are in results.json


def print_results(console: Console, results: Mapping[str, Any]) -> None:
    """Calibration per attribute, the gate, the heads of an ensemble, votes, accuracy per kind of pair."""
    family = results["family"]
    for name, part in results["ratings"].items():
        _calibration(console, family, name, part)
        _others(console, family, name, part)
    if any("pinball_on_grid" in part for part in results["ratings"].values()):
        console.say(_GRID)
    for name, part in results.get("gate", {}).items():
        _gate(console, name, part)
    _ensemble(console, results.get("ensemble", {}))
    _votes(console, family, results.get("votes"))
    for name, part in results["pairs"].items():
        _accuracy(console, family, name, part)
        shares = {
            attribute: {"rows": of["rows"]} | {rule: v["estimate"] for rule, v in of["accuracy"].items()}
            for attribute, of in part.get("attributes", {}).items()
        }
        _breakdown(console, family, f"{_words(name)} by attribute", shares)
        _breakdown(console, family, f"{_words(name)} by kind of prompt", part["subsets"])
    print_crowd(console, results)


def _calibration(console: Console, family: str, name: str, part: Mapping[str, Any]) -> None:
    rows = []
    for key in (*_MEASURES, *_SHARES):
        if key in part:
            digits = 4 if key in _MEASURES else 3
            cells = [interval(part[key].get(who), digits) for who in ("model", "constant")]
            difference = interval(part[key].get("difference"), digits) if key in _MEASURES else ""
            rows.append((_measure(key, part), *cells, difference))
        if key == "pinball":
            rows += _within(part.get("within_prompt"))
    sizes = f"{counted(part['rows'], 'row')}, {counted_groups(part['groups'], part['pinball']['model'])}"
    title = f"{name}: {sizes}, in {part['unit']}"
    console.table(title, ("", family, "constant", "difference"), rows)


def _votes(console: Console, family: str, found: Mapping[str, Any] | None) -> None:
    """Losses of a, tie and b beside those of two forecasts that ignore the texts, and the shares of ties."""
    if not found:
        return
    rows = []
    for key, title in (("log_loss", "log loss"), ("brier", "Brier score")):
        values, differences = found[key]["value"], found[key]["difference"]
        constant = interval(values.get("constant"), 3).partition(" ")[0]
        uniform = f"{values['uniform']['estimate']:.3f}"
        difference = interval(differences.get("constant"), 3)
        rows.append((title, interval(values.get("model"), 3), constant, uniform, difference))
    predicted, observed = (found["mean"][kind]["tie"] for kind in ("predicted", "observed"))
    rows.append(("ties", f"{predicted:.3f}", "", "", f"people: {observed:.3f}"))
    sizes = f"{counted(found['rows'], 'comparison')}, {counted(found['groups'], 'group')}"
    heads = ("", family, "constant", "1/3 each", "difference")
    console.table(f"votes (a, tie, b): {sizes}", heads, rows)


def _within(found: Mapping[str, Any] | None) -> list[tuple[str, ...]]:
    """Pairs won within a prompt; pinball, over all responses, can improve just by telling prompts apart."""
    if found is None:  # results of earlier versions
        return []
    verdict = found["verdict"].partition(":")[0]
    if "model" not in found:
        return [("within a prompt", "-", "", verdict)]
    chance = f"chance {found['chance']:.3f}"
    rows: list[tuple[str, ...]] = [("within a prompt", interval(found["model"], 3), chance, verdict)]
    if "length" in found:
        less = interval(found.get("difference"), 3) if "difference" in found else ""
        rows.append(("longer text", "", interval(found["length"], 3), less))
    return rows


def _others(console: Console, family: str, name: str, part: Mapping[str, Any]) -> None:
    """Baselines other than the constant one that predict distributions."""
    rows = [
        (
            other,
            _measure(key, part),
            interval(found["value"], digits),
            interval(found.get("difference"), digits),
        )
        for other in part["pinball"].get("others", {})
        for key, digits in (*((m, 4) for m in _MEASURES), *((s, 3) for s in _SHARES))
        if (found := part.get(key, {}).get("others", {}).get(other))
    ]
    if rows:
        console.table(f"{name}: other baselines", ("", "measure", "baseline", "difference"), rows)


def _gate(console: Console, name: str, part: Mapping[str, Any]) -> None:
    title = f"gate weights, {_words(name)}: entropy {part['entropy_share']:.0%} of equal weights"
    rows = [
        (subset, *[f"{weight:.3f}" for weight in weights.values()])
        for subset, weights in {"all": part["weights"], **part["subsets"]}.items()
    ]
    console.table(title, ("", *part["weights"]), rows)


def _ensemble(console: Console, ensemble: Mapping[str, Any]) -> None:
    """How similar the heads of an ensemble are, and whether their uncertainty predicts errors."""
    parts = ensemble.get("ratings", {}) | {k: part for k, part in ensemble.items() if k != "ratings"}
    rows = []
    for name, part in parts.items():
        if part:
            plain = [
                "-" if part.get(k) is None else f"{part[k]:.3f}" for k in ("correlation", "disagreement")
            ]
            doubts = [f"spearman_{doubt}_error" for doubt in ("between", "within")]
            known = part.get("intervals", {})  # missing in results of earlier versions
            rows.append((_words(name), *plain, *[interval(known.get(k), 3) for k in doubts]))
    if rows:
        head = ("", "correlation", "disagreement", "between heads ~ error", "own std ~ error")
        console.table("heads of the ensemble (~ is Spearman's correlation)", head, rows)
    known = {name: part for name, part in parts.items() if part.get("between_std") is not None}
    if known:
        spreads = [
            (_words(name), f"{p['within_std']:.3f}", f"{p['between_std']:.3f}") for name, p in known.items()
        ]
        names = ("", "within a head: how people differ", "between heads: what the model does not know")
        console.table("std of a prediction, in its two parts", names, spreads)


def _accuracy(console: Console, family: str, name: str, part: Mapping[str, Any]) -> None:
    left_out = set(part.get("tied_rules", ())) - {"model"}  # ties nearly all pairs: nothing to compare
    rows = [
        (
            family if rule == "model" else rule,
            "-" if rule in left_out else interval(accuracy, 3),
            part["ties"][rule],
            interval(part["difference"].get(rule), 3) if rule not in {"model", *left_out} else "",
        )
        for rule, accuracy in part["accuracy"].items()
    ]
    groups = counted_groups(part["groups"], part["accuracy"].get("model"))
    title = f"{_words(name)}: {counted(part['rows'], 'pair')}, {groups}"
    if not enough(part["rows"], part["groups"]):
        title += ", too few to say anything"
    if part["tied_in_data"]:
        title += f", and {part['tied_in_data']:,} that people tied"
    console.table(title, ("", "accuracy", "ties", "difference"), rows)


def _breakdown(console: Console, family: str, title: str, kinds: Mapping[str, Mapping[str, Any]]) -> None:
    """Accuracy per kind, one column per rule."""
    if not kinds:
        return
    rules = list(dict.fromkeys(rule for shares in kinds.values() for rule in shares if rule != "rows"))
    rows = [
        (
            kind or "none",
            f"{shares['rows']:,}",
            *[f"{shares[rule]:.3f}" if enough(shares["rows"]) else "-" for rule in rules],
        )
        for kind, shares in list(kinds.items())[:_MOST_KINDS]
    ]
    if len(kinds) > _MOST_KINDS:
        title += f": {_MOST_KINDS} of {len(kinds)}, the others are in results.json"
    console.table(title, ("", "pairs", *[family if rule == "model" else rule for rule in rules]), rows)


def _measure(key: str, part: Mapping[str, Any]) -> str:
    """A measure's name; that of a loss says which of two it is where there are two."""
    return _NAMES[key] if key in _NAMES and "pinball_on_grid" in part else _words(key)


def _words(name: str) -> str:
    return name.replace("_", " ")
