"""The content of a report as numbers and sentences: the page shows it, `--json` prints it.

In: evaluations. Out: plain dicts and lists, one entry per section of the page. Metrics are taken from
`results.json`, not computed again.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pluralign.errors import ArgumentError
from pluralign.families import title_of
from pluralign.report.comparable import comparison_notes
from pluralign.report.evaluations import Evaluation, evaluated_on
from pluralign.report.heads import heads_of
from pluralign.report.mistakes import overconfident
from pluralign.report.prompts import kinds_of_prompt
from pluralign.report.responses import chosen_responses
from pluralign.report.rivals import rivals
from pluralign.report.scored import agreement_by_spread, error_shares, true_and_predicted
from pluralign.report.suites import leaderboard
from pluralign.report.wording import (
    FEWEST,
    MEASURES,
    against,
    counted,
    coverage_verdict,
    enough,
    model_verdict,
    number,
    percent,
    unit_words,
    within_words,
)

__all__ = ["MAX_RUNS", "build_content"]

_DATA = ("ratings", "pairs", "votes", "data")
MAX_RUNS = 6  # number of distinguishable colours


def build_content(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """The whole report.

    Args:
        evaluations: one to six, shown side by side; of suites any number, of which a leaderboard has all,
            and the other sections none where there are more than six.

    Returns:
        A dict of JSON types: `runs`, `notes`, `headlines`, `too_few`, `pairs`, `ratings`, `truth`,
        `responses`, `prompts`, `rivals`, `mistakes`, `suites`, `crowd`, `pairwise`, `heads`, `warnings`; a
        section that cannot be shown is `{"missing": reason}`, or empty. `too_few` has a sentence for each
        table that is too small for an accuracy or for measures, `heads` the runs with an ensemble, and
        `warnings` those whose fit gave warnings.

    Raises:
        ArgumentError: none or too many evaluations.
    """
    own = sum("suite" not in e.results for e in evaluations)
    if not evaluations or own > MAX_RUNS:
        raise ArgumentError(
            f"a report takes 1 to {MAX_RUNS} evaluations, the number of distinguishable colours, and any "
            f"number of suites; received {own}"
        )
    all_named = dict(zip(_names(evaluations), evaluations, strict=True))
    named = all_named
    if len(named) > MAX_RUNS:
        alone = {name: e for name, e in all_named.items() if "suite" not in e.results}
        named = alone or dict(list(all_named.items())[:MAX_RUNS])
    return {
        "runs": [_run(name, evaluation) for name, evaluation in named.items()],
        "notes": comparison_notes(evaluations),
        "headlines": [line for name, e in named.items() for line in _headlines(name, e)],
        "too_few": [line for name, e in named.items() for line in _too_few(name, e, len(named) > 1)],
        "pairs": _pairs(named),
        "ratings": _ratings(named),
        "truth": _truth(named),
        "responses": chosen_responses(named),
        "prompts": kinds_of_prompt(named),
        "rivals": rivals(named),
        "mistakes": overconfident(named),
        "suites": leaderboard(all_named),
        "crowd": {n: found for n, e in named.items() if (found := e.results.get("crowd"))},
        "pairwise": {n: found for n, e in named.items() if (found := _enough_pairs(e.results))},
        "heads": heads_of(named),
        "warnings": {n: lines for n, e in named.items() if (lines := e.results["fitted"].get("warnings"))},
    }


def _enough_pairs(results: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of pairs with votes that are large enough for a curve and have the model in it."""
    found = results.get("pairwise", {})
    return {k: v for k, v in found.items() if "model" in v["by"] and enough(v["rows"], v["groups"])}


def _names(evaluations: Sequence[Evaluation]) -> list[str]:
    """The families; if two are equal, the folders' names; if those are equal too, their paths."""
    for short in (
        [title_of(e.results["family"]) for e in evaluations],
        [e.folder.resolve().name for e in evaluations],
    ):
        if len(set(short)) == len(short):
            return short
    long = [str(e.folder) for e in evaluations]
    if len(set(long)) != len(long):
        raise ArgumentError(f"{next(p for p in long if long.count(p) > 1)} is given twice")
    return long


def _run(name: str, evaluation: Evaluation) -> dict[str, Any]:
    results, run = evaluation.results, evaluation.run
    fitted = results["fitted"]
    found = {
        "name": name,
        "folder": str(evaluation.folder),
        "family": results["family"],
        "backbone": results["backbone"]["name_or_path"],
        "backbone_fingerprint": results["backbone"].get("fingerprint"),
        "risk": results["risk"],
        "seed": results["seed"],
        "evaluated_on": evaluated_on(results) or _evaluated_on(results),
        "folds": results.get("folds"),
        "split": fitted.get("split"),
        "rows_fitted": fitted.get("rows"),
        "sizes": _sizes(results),
        "pluralign": results["pluralign"],
        "command": None,
        "data": {},
        "inputs": {},
        "versions": {},
        "started": None,
    }
    if run is not None:
        config = run["config"]
        found |= {
            "command": _command(run["verb"], config),
            "data": {
                k: str(config[k]) for k in ("ratings", "pairs", "votes", "data") if config.get(k) is not None
            },
            "inputs": run["inputs"],
            "versions": run["versions"],
            "started": run["started"],
        }
    return found


def _sizes(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows and groups of each table; of the ratings also the attributes."""
    sizes = {}
    if results["ratings"]:
        parts, whole = results["ratings"], _whole(results)
        sizes["ratings"] = {
            "rows": whole["rows"],
            "groups": whole["groups"],
            "attributes": [name for name in parts if name != "all"],
        }
    for name, part in results["pairs"].items():
        sizes[name] = {"rows": part["rows"], "groups": part["groups"], "attributes": []}
    return sizes


def _evaluated_on(results: Mapping[str, Any]) -> str:
    """The rows of an evaluation from Python, whose results do not name them."""
    split = results["fitted"].get("split")
    if results.get("folds"):
        return f"every row, by one of {results['folds']} models that has not seen its group"
    if results.get("part") == "test" and split:
        return "the groups that the fit held out"
    return "every row that was given"


def _command(verb: str, config: Mapping[str, Any]) -> str:
    """The command with all settings that determine the result."""
    unused = {"family", "folds"} if config.get("model") is not None else {"model"}
    words = ["pluralign", verb]
    for key, value in config.items():
        if value is None or key in unused:
            continue
        if isinstance(value, dict):
            words += [w for inner, entry in value.items() for w in (f"--{key}.{inner}", str(entry))]
        elif isinstance(value, list):
            words += [f"--{key}", f"[{','.join(map(str, value))}]"]
        else:
            words += [f"--{key}", str(value).lower() if isinstance(value, bool) else str(value)]
    return shlex.join(words)


def _headlines(name: str, evaluation: Evaluation) -> list[dict[str, Any]]:
    """The main numbers, each with a sentence: accuracy, distances, coverage."""
    results = evaluation.results
    if "suite" in results:
        return _suite_lines(name, results["suite"])
    lines = [
        _accuracy_line(name, part, pairs)
        for part, pairs in results["pairs"].items()
        if "model" in pairs["accuracy"] and enough(pairs["rows"], pairs["groups"])
    ]
    if votes := results.get("votes"):
        lines += [_votes_line(name, votes)] if "model" in votes["log_loss"]["value"] else []
    if not results["ratings"]:
        return lines
    part = _whole(results)
    if not enough(part["rows"], part["groups"]):
        return lines
    where = "" if len(results["ratings"]) == 1 else " over all attributes"
    lines += [_loss_line(name, key, part, where) for key in ("quantile_error", "crps") if key in part]
    return [*lines, _coverage_line(name, part["coverage"], where)]


def _suite_lines(name: str, suite: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The score by the main measure; nothing where the suite gives none."""
    main = suite["risks"][0]
    if "overall" not in suite["scores"][main]["interval"]:
        return []
    sentences = [f"By its own rule: {suite['rule']}."]
    if main in suite["difference"]:
        sentences.append(f"Against length: {model_verdict(suite['difference'][main], 'higher')}.")
    interval = suite["scores"][main]["interval"]["overall"]
    return [_line(name, f"{_capital(suite['title'])}, score", interval, True, sentences)]


def _whole(results: Mapping[str, Any]) -> Any:
    """The measures of all attributes together, or of the only one."""
    rated = results["ratings"]
    return rated.get("all") or next(iter(rated.values()))


def _too_few(name: str, evaluation: Evaluation, several: bool) -> list[str]:
    """What has no number at the top of the page, and how many rows it takes."""
    results = evaluation.results
    tables = {part: (pairs, "pair", "an accuracy") for part, pairs in results["pairs"].items()}
    if results["ratings"]:
        tables["ratings"] = (_whole(results), "row", "calibration")
    lines = [
        f"{part.replace('_', ' ')}: {counted(found['rows'], noun)} in {counted(found['groups'], 'group')}, "
        f"too few for {what}, which needs {FEWEST} in 2 groups."
        for part, (found, noun, what) in tables.items()
        if not enough(found["rows"], found["groups"])
    ]
    return [f"{name}, {line}" if several else _capital(line) for line in lines]


def _accuracy_line(name: str, part: str, pairs: Mapping[str, Any]) -> dict[str, Any]:
    sentences = ["How often the preferred response got the higher score. Higher is better; chance is 50 %."]
    if "model" in pairs.get("tied_rules", ()):
        ties = percent(pairs["ties"]["model"] / pairs["rows"], 0)
        sentences.append(f"The model ties {ties} of the pairs, and a tie counts as a miss.")
    sentences += [f"{_capital(against(r, pairs))}." for r in pairs["difference"] if r in pairs["accuracy"]]
    title = f"Accuracy on {part.replace('_', ' ')}"
    return _line(name, title, pairs["accuracy"]["model"], True, sentences)


def _votes_line(name: str, votes: Mapping[str, Any]) -> dict[str, Any]:
    found = votes["log_loss"]
    predicted, observed = (percent(votes["mean"][kind]["tie"], 0) for kind in ("predicted", "observed"))
    sentences = [
        "Log loss of a, tie and b, in nats; lower is better. "
        f"Ties: {predicted} predicted, {observed} of the votes."
    ]
    names = {"constant": "The shares in the data of the fit", "uniform": "1/3 for each"}
    for who, words in names.items():
        if who in found["difference"]:
            loss = number(found["value"][who]["estimate"])
            sentences.append(f"{words}: {loss}; {model_verdict(found['difference'][who], 'lower')}.")
    return _line(name, "Votes with ties", found["value"]["model"], False, sentences)


def _loss_line(name: str, key: str, part: Mapping[str, Any], where: str) -> dict[str, Any]:
    measure, found = MEASURES[key], part[key]
    sentences = [f"{measure.meaning} In {unit_words(part['unit'])}."]
    if "constant" in found and "difference" in found:
        sentences.append(
            f"The same prediction for every text: {number(found['constant']['estimate'])}; "
            f"{model_verdict(found['difference'], measure.better)}."
        )
    if "within_prompt" in part:
        sentences.append(within_words(part["within_prompt"]))
    return _line(name, measure.name + where, found["model"], False, sentences)


def _coverage_line(name: str, coverage: Mapping[str, Any], where: str) -> dict[str, Any]:
    nominal = percent(coverage["nominal"], 0)
    sentences = [
        f"Share of ratings inside; {nominal} is ideal.",
        f"{_capital(coverage_verdict(coverage['model'], coverage['nominal']))}.",
    ]
    title = f"Ratings inside {nominal} intervals{where}"
    return _line(name, title, coverage["model"], True, sentences)


def _line(
    run: str, title: str, interval: Mapping[str, Any], share: bool, sentences: list[str]
) -> dict[str, Any]:
    return {
        "run": run,
        "title": title,
        "interval": dict(interval),
        "share": share,
        "meaning": sentences[0],
        "sentences": sentences,
    }


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _pairs(named: Mapping[str, Evaluation]) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    own = {name: e for name, e in named.items() if "suite" not in e.results}  # suites have their own section
    for name, evaluation in own.items():
        for part, pairs in evaluation.results["pairs"].items():
            if enough(pairs["rows"], pairs["groups"]):
                parts.setdefault(part, {})[name] = pairs
    if parts:
        return {"parts": parts}
    if any(e.results["pairs"] for e in own.values()):
        return {"missing": "There were too few pairs for an accuracy."}
    return {"missing": "There were no pairs, so there is no accuracy."}


def _ratings(named: Mapping[str, Evaluation]) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for name, evaluation in named.items():
        for attribute, values in evaluation.results["ratings"].items():
            attributes.setdefault(attribute, {})[name] = values
    without = [name for name, e in named.items() if not e.results["ratings"]]
    reasons = [
        f"{name}: no distribution on a rating scale was evaluated, because the model predicts none or "
        f"there were no ratings; calibration does not apply."
        for name in without
    ]
    if not attributes:
        return {"missing": " ".join(reasons)}
    ordered = {k: attributes[k] for k in sorted(attributes, key=lambda k: k != "all")}
    spread = {name: agreement_by_spread(e.scores) for name, e in named.items() if e.scores is not None}
    return {
        "attributes": ordered,
        "without": reasons,
        "by_spread": {name: bins for name, bins in spread.items() if bins},
    }


def _truth(named: Mapping[str, Evaluation]) -> dict[str, Any]:
    found = {
        name: shares
        for name, e in named.items()
        if e.scores is not None and (shares := error_shares(e.scores)) is not None
    }
    if not found:
        return {
            "missing": "This needs a model that predicts distributions, and data with known true "
            "distributions, such as those from pluralign lab."
        }
    pairs = {name: true_and_predicted(named[name].examples or ()) for name in found}
    return {"runs": found, "quantiles": {name: points for name, points in pairs.items() if points}}
