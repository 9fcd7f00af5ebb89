"""Reads what `pluralign align`, or a `PPOTrainer`, left in a folder.

In: a run folder, or the output_dir of a trainer. Out: a `TrainingRun`, checked: what was measured at each
step, at each evaluation, and what the policy wrote at the first and the last of these. A run that has not
finished is read up to its last complete line.

Measurements have the trainer's names without the prefix that they have in its log: `eval/reward` of an online
run and `eval_samples/reward` of an offline run are both `reward`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pluralign.errors import ArtifactError
from pluralign.report.json_text import parsed_json
from pluralign.report.shapes import NUMBER, RUN, TEXT, Maybe, check

__all__ = ["TrainingRun", "is_training_run", "read_training_run"]

_LOG = "metrics.jsonl"
_EVALUATION = ("eval/", "eval_samples/")
_SAMPLE = {
    "prompt": [{"role": TEXT, "content?": Maybe(TEXT)}],
    "response": TEXT,
    "tokens": NUMBER,
    "reward": Maybe(NUMBER),
    "gold": Maybe(NUMBER),
    "log_ratio": Maybe(NUMBER),
}

Sample = Mapping[str, Any]


@dataclass(frozen=True)
class TrainingRun:
    """One run, as read from its files.

    Attributes:
        folder: where it was read.
        run: `run.json`; None for the output_dir of a trainer.
        finished: whether the command came to its end; None where that is not known.
        best: the best evaluation, step, metric and value; None where there is none or it is not known.
        steps: what was measured in training, by name, with `step`.
        evaluations: what was measured on held-out prompts, by name, with `step`.
        samples: step -> what the policy wrote, at the first and the last evaluation that stored it.
    """

    folder: Path
    run: Mapping[str, Any] | None
    finished: bool | None
    best: Mapping[str, Any] | None
    steps: tuple[Mapping[str, float], ...]
    evaluations: tuple[Mapping[str, float], ...]
    samples: Mapping[int, tuple[Sample, ...]]


def is_training_run(folder: Path) -> bool:
    """Whether a folder holds a run of `align`, or what a trainer wrote."""
    record = folder / "run.json"
    if record.is_file():
        try:
            read = parsed_json(record.read_bytes(), str(record))
        except (ArtifactError, OSError):
            return False
        return isinstance(read, dict) and read.get("verb") == "align"
    return (folder / _LOG).is_file()


def read_training_run(folder: Path) -> TrainingRun:
    """Reads and checks the files of one run.

    Raises:
        ArtifactError: nothing was measured yet, or a file is damaged, foreign or of another version.
    """
    run = _object(folder / "run.json", RUN)
    done = _object(folder / "done.json", {"result": {}})
    lines = list(_lines(folder / _LOG))
    if not lines:
        raise ArtifactError(
            f"{folder} holds no measurements yet: {_LOG} is missing or empty; wait for the first step, or "
            "name the folder of another run"
        )
    steps = tuple(line for line in lines if not _is_evaluation(line))
    evaluations = tuple(_renamed(line) for line in lines if _is_evaluation(line))
    best = None if done is None else done["result"].get("best")
    if best is not None:
        check(best, {"step": NUMBER, "metric": TEXT, "value": NUMBER}, str(folder / "done.json"), "best")
    finished = None if run is None else done is not None
    return TrainingRun(folder, run, finished, best, steps, evaluations, _samples(folder))


def _object(file: Path, shape: Any) -> dict[str, Any] | None:
    """A file of one object, or None where there is none."""
    if not file.is_file():
        return None
    value: dict[str, Any] = parsed_json(file.read_bytes(), str(file))
    check(value, shape, str(file))
    return value


def _lines(file: Path) -> Iterator[dict[str, float]]:
    """Lines of measurements; a last line that is still being written is left out."""
    if not file.is_file():
        return
    for number, (line, ends) in enumerate(_parts(file.read_bytes()), 1):
        if not line.strip():
            continue
        source = f"{file}, line {number}"
        try:
            value = parsed_json(line, source)
        except ArtifactError:
            if not ends:
                return
            raise
        check(value, {"step": NUMBER}, source)
        kept = {k: v for k, v in value.items() if v is not None and k != "time"}
        for name, entry in kept.items():
            check(entry, NUMBER, source, name)
        yield kept


def _parts(content: bytes) -> Iterator[tuple[bytes, bool]]:
    """The lines, and whether the last one is complete."""
    *whole, rest = content.split(b"\n")
    yield from ((line, True) for line in whole)
    yield rest, False


def _is_evaluation(line: Mapping[str, float]) -> bool:
    return any(name.startswith(_EVALUATION) for name in line)


def _renamed(line: Mapping[str, float]) -> dict[str, float]:
    """The samples' measurements of an evaluation, and its step."""
    found = {"step": line["step"]}
    for name, value in line.items():
        for prefix in _EVALUATION:
            if name.startswith(prefix):
                found[name.removeprefix(prefix)] = value
    return found


def _samples(folder: Path) -> dict[int, tuple[Sample, ...]]:
    """Those of the first and the last step that has any."""
    for place in (folder / "training" / "samples", folder / "samples"):
        if place.is_dir():
            files = sorted(place.glob("step-*.jsonl"))
            return {
                int(file.stem.partition("-")[2]): tuple(_read(file)) for file in (*files[:1], *files[-1:])
            }
    return {}


def _read(file: Path) -> Iterator[Sample]:
    for number, (line, _) in enumerate(_parts(file.read_bytes()), 1):
        if line.strip():
            source = f"{file}, line {number}"
            sample = parsed_json(line, source)
            check(sample, _SAMPLE, source)
            yield sample
