"""The content of the report of a training run, as numbers and sentences, for the page and for `--json`.

In: a `TrainingRun`, and intervals of the changes of its measurements. Out: plain dicts and lists, one entry
per section of the page. Long curves are averaged over neighbouring steps.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from pluralign.report.series import AFTER, CHARTS, Chart, Line
from pluralign.report.training_runs import Sample, TrainingRun
from pluralign.warning_signs import SIGNS, is_seen

__all__ = ["MOST_POINTS", "build_run_content", "paired_samples"]

MOST_POINTS = 150  # of a curve
_EXAMPLES = 6
_SIGN = "signs/"


def build_run_content(
    run: TrainingRun, changes: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """The whole report.

    Args:
        run: what was read.
        changes: measurement to the interval of its mean difference, last evaluation less first.

    Returns:
        A JSON-able dict: `run`, `headlines`, `signs`, `not_measured`, `curves`, `against_kl`, `measures`,
        `examples`.
    """
    changes = {} if changes is None else changes
    seen, absent = _signs(run)
    return {
        "run": _run(run),
        "headlines": _headlines(run, changes),
        "signs": seen,
        "not_measured": absent,
        "curves": [curve for chart in CHARTS if (curve := _curve(run, chart)) is not None],
        "against_kl": _against_kl(run),
        "measures": _measures(run),
        "examples": _examples(run),
    }


def paired_samples(run: TrainingRun) -> list[tuple[Sample, Sample]]:
    """What the policy wrote at the first and at the last evaluation, side by side.

    Returns:
        One pair per sample; none if there was one evaluation, or if the two used other prompts.
    """
    if len(run.samples) < 2:
        return []
    first, last = (run.samples[step] for step in (min(run.samples), max(run.samples)))
    if [one["prompt"] for one in first] != [one["prompt"] for one in last]:
        return []
    return list(zip(first, last, strict=True))


def _run(run: TrainingRun) -> dict[str, Any]:
    config = {} if run.run is None else dict(run.run["config"])
    last = max(int(line["step"]) for line in (*run.steps, *run.evaluations))
    found = {
        "folder": str(run.folder),
        "method": config.get("method"),
        "finished": run.finished,
        "steps": last,
        "of_steps": config.get("steps") if config.get("method") == "ppo" else None,
        "evaluations": [int(line["step"]) for line in run.evaluations],
        "best": run.best,
        "settings": {k: v for k, v in config.items() if v is not None and v != [] and v != ""},
        "command": None,
        "inputs": {},
        "versions": {},
        "started": None,
    }
    if run.run is not None:
        found |= {key: run.run[key] for key in ("inputs", "versions", "started")}
        found["command"] = _command(config)
    return found


def _command(config: Mapping[str, Any]) -> str:
    named = ("method", "model", "data", "prompts", "eval_data", "reward_model", "reward_function")
    given = {
        name: config[name] for name in (*named, "programs", "risk") if config.get(name) not in (None, [])
    }
    words = {k: f"[{','.join(v)}]" if isinstance(v, list) else str(v) for k, v in given.items()}
    flags = [f"--{name} {shlex.quote(value)}" for name, value in words.items()]
    return " ".join(["pluralign align", *flags, "..."])


def _headlines(run: TrainingRun, changes: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """First and last evaluation; the entropy of training, which evaluations do not have."""
    found = []
    for key, name, share, better in AFTER:
        values = [(line["step"], line[key]) for line in run.evaluations if key in line]
        if values:
            line = {"key": key, "name": name, "share": share, "better": better, "where": "held-out prompts"}
            line |= {"before": values[0][1], "after": values[-1][1], "difference": changes.get(key)}
            found.append(line if len(values) > 1 else line | {"before": None})
    if not found:
        for key, name in (("reward/utility", "Reward"), ("kl_k3", "KL from the reference")):
            found += _of_training(run, key, name)
    return found + _of_training(run, "entropy", "Entropy, nats per token")


def _of_training(run: TrainingRun, key: str, name: str) -> list[dict[str, Any]]:
    values = [line[key] for line in run.steps if key in line]
    if not values:
        return []
    few = max(1, len(values) // 10)
    return [
        {
            "key": key,
            "name": name,
            "share": False,
            "better": "",
            "where": f"the first and the last {'step' if few == 1 else f'{few} steps'} of training",
            "before": fmean(values[:few]),
            "after": fmean(values[-few:]),
            "difference": None,
        }
    ]


def _signs(run: TrainingRun) -> tuple[list[dict[str, Any]], list[str]]:
    """Every warning sign that was measured, those that showed first; and the titles of the others."""
    found, absent = [], []
    for name, sign in SIGNS.items():
        key = f"{_SIGN}{name}"
        lines = sorted((*run.steps, *run.evaluations), key=lambda line: line["step"])
        values = [(int(line["step"]), line[key]) for line in lines if key in line]
        if not values:
            absent.append(sign.title)
            continue
        hits = [step for step, value in values if is_seen(name, value)]
        worst = (min if sign.low else max)(values, key=lambda pair: pair[1])
        found.append(
            {
                "name": name,
                "title": sign.title,
                "measure": sign.measure,
                "advice": sign.advice,
                "share": sign.share,
                "low": sign.low,
                "limit": sign.limit,
                "last": values[-1][1],
                "worst": worst[1],
                "worst_step": worst[0],
                "seen": len(hits),
                "measured": len(values),
                "last_measured": values[-1][0],
                "first_step": hits[0] if hits else None,
                "last_step": hits[-1] if hits else None,
                "now": is_seen(name, values[-1][1]),
            }
        )
    found.sort(key=lambda sign: (not sign["now"], not sign["seen"]))
    return found, absent


def _curve(run: TrainingRun, chart: Chart) -> dict[str, Any] | None:
    lines = [one for line in chart.lines if (one := _line(run, line)) is not None]
    dots = [line for line in run.evaluations if chart.dots and chart.dots in line]
    if not lines and not dots:
        return None
    levels = [line[chart.level] for line in run.evaluations if chart.level and chart.level in line]
    found = {
        "name": chart.name,
        "meaning": chart.meaning,
        "share": chart.share,
        "lines": lines,
        "dots": None,
        "level": levels[-1] if levels else None,
    }
    if dots:
        found["dots"] = {"x": [line["step"] for line in dots], "y": [line[chart.dots] for line in dots]}
    return found


def _line(run: TrainingRun, line: Line) -> dict[str, Any] | None:
    rows = [one for one in run.steps if line.key in one]
    if not rows:
        return None
    size = math.ceil(len(rows) / MOST_POINTS)
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    found = {
        "name": line.name,
        "x": [fmean(one["step"] for one in part) for part in parts],
        "y": [fmean(one[line.key] for one in part) for part in parts],
        "per_point": size,
    }
    if line.spread and all(line.spread in one for one in rows):
        found["spread"] = [fmean(one[line.spread] for one in part) for part in parts]
    return found


def _against_kl(run: TrainingRun) -> list[dict[str, Any]]:
    """Gold and reward of the evaluations against their KL: the price of each."""
    found = []
    for key, name in (("gold", "Gold reward"), ("reward", "Reward")):
        rows = [line for line in run.evaluations if key in line and "kl_k3" in line]
        if len(rows) > 1:
            points = {"x": [line["kl_k3"] for line in rows], "y": [line[key] for line in rows]}
            found.append({"name": name, **points, "steps": [int(line["step"]) for line in rows]})
    return found


def _measures(run: TrainingRun) -> list[dict[str, Any]]:
    """Every number of the log: first, last, lowest and highest."""
    found = []
    for place, lines in (("training", run.steps), ("held-out prompts", run.evaluations)):
        names = sorted({name for line in lines for name in line} - {"step", "epoch"})
        for name in names:
            values = [line[name] for line in lines if name in line]
            if name.startswith(_SIGN):
                continue
            ends = {"first": values[0], "last": values[-1], "lowest": min(values), "highest": max(values)}
            found.append({"place": place, "name": name, "count": len(values), **ends})
    return found


def _examples(run: TrainingRun) -> list[dict[str, Any]]:
    """Prompts evenly spread over those of the evaluation, with the first response to each."""
    pairs: Sequence[tuple[Sample, Sample | None]] = paired_samples(run)
    if not pairs and run.samples:
        pairs = [(one, None) for one in run.samples[max(run.samples)]]
    firsts: dict[str, tuple[Sample, Sample | None]] = {}
    for one, other in pairs:
        firsts.setdefault(repr(one["prompt"]), (one, other))
    chosen = list(firsts.values())
    count = min(_EXAMPLES, len(chosen))
    return [
        {
            "prompt": one["prompt"],
            "before": _example(one),
            "after": None if other is None else _example(other),
        }
        for one, other in (chosen[place * len(chosen) // count] for place in range(count))
    ]


def _example(sample: Sample) -> dict[str, Any]:
    profile = sample.get("profile") or {}
    numbers = {key: sample[key] for key in ("reward", "gold", "log_ratio", "tokens")}
    cut = bool(sample.get("cut_off"))
    return {"response": sample["response"], **numbers, "std": profile.get("std"), "cut_off": cut}
