"""`pluralign calibrate`: a fitted model, corrected on ratings or comparisons of groups that it was not fitted
on.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pluralign.cli.console import Console
from pluralign.cli.flags import DataFlags, PlaceFlags
from pluralign.cli.held_out import held_out_counts, held_out_words, remember_also, unseen
from pluralign.cli.objects import load_model, load_tables
from pluralign.cli.parsing import UsageError, parse
from pluralign.cli.run_folder import RunFolder, default_name, digest
from pluralign.fitting.config import saved_settings
from pluralign.report.wording import counted
from pluralign.run_layout import model_folder

__all__ = ["run"]


@dataclass(frozen=True)
class CalibrateFlags:
    """What to calibrate, on which part of the data, and where to write the result.

    Attributes:
        model: Model folder, or the run folder of a fit.
        part: test takes groups that were not in the fit, all takes every row.
        share: Share of these groups to calibrate on; the others are left for `pluralign evaluate`.
        split_seed: Seed of that choice.
        attributes: Attributes to calibrate; null for all that the model rates.
        seed: Seed of the spreading of ratings on a grid and of the randomised PIT.
        out: Run folder; null for runs/calibrate-DIGEST, the same for the same command.
        json: Print the result as JSON.
    """

    model: str
    part: Literal["test", "all"] = "test"
    share: float = 0.5
    split_seed: int = 1
    attributes: list[str] | None = None
    seed: int = 0
    out: str | None = None
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments, calibrates and writes the model."""
    purpose = (
        "Correct a model's distributions of ratings, so that its intervals contain the stated share of the "
        "ratings of new groups, and with pairs or votes its preference probabilities. Scores and risk "
        "measures stay as they are."
    )
    flags, data, place = parse("calibrate", purpose, arguments, CalibrateFlags, DataFlags, PlaceFlags)
    if not data.sources or {"pairs", "votes"} <= set(data.sources):
        raise UsageError(
            "calibrate takes ratings, and pairs or votes: name a file with --ratings, or with --pairs or "
            "--votes"
        )
    if flags.attributes is not None and "ratings" not in data.sources:
        raise UsageError("--attributes are calibrated on ratings: name a file with --ratings")
    if not 0 < flags.share <= 1:
        raise UsageError(f"--share: received {flags.share}; allowed: above 0, at most 1 (nothing is left)")
    console = Console(flags.json)
    decisive = {
        key: value
        for part in (flags, data, place)
        for key, value in saved_settings(part).items()
        if key not in {"out", "json", "cache", "device"}
    }
    inputs = data.digests() | {"model": digest(str(model_folder(flags.model)))}
    name = default_name(decisive, inputs)
    with RunFolder(flags.out or f"runs/calibrate-{name}", "calibrate", decisive, inputs) as folder:
        if folder.finished:
            console.say(f"{folder.path} already holds this run")
        else:
            _calibrate(console, folder, flags, data, place)
        model = load_model(str(folder.path), place.device, place.cache)
        found = {
            attribute: {"groups": part.groups, "rows": part.rows}
            for attribute, part in model.calibration.items()
        }
        for attribute, counts in found.items():
            words = f"{counted(counts['rows'], 'rating')} in {counted(counts['groups'], 'group')}"
            console.say(f"{attribute}: {words}")
        if (heat := model.temperature) is not None:
            fitted_on = f"{counted(heat.rows, 'comparison')} in {counted(heat.groups, 'group')}"
            console.say(f"{heat.kind}: temperature {heat.value:.3g}, {fitted_on}")
        if flags.share < 1:
            command = ["pluralign", "evaluate", "--model", str(folder.path), *data.arguments]
            console.say(f"to evaluate it on groups that it has not seen:\n  {shlex.join(command)}")
        path = folder.path / "model"
        result = {"model": str(path), "run": str(folder.path), "calibrated": found}
        if heat is not None:
            result["temperature"] = heat.spec()
        console.result(result, str(path))


def _calibrate(
    console: Console, folder: RunFolder, flags: CalibrateFlags, data: DataFlags, place: PlaceFlags
) -> None:
    from pluralign.data import split_tables
    from pluralign.model.combination_folder import is_combination

    if is_combination(flags.model):
        raise UsageError(
            f"{flags.model} is a combination, whose rewards are not on a rating scale; calibrate its models"
        )
    tables: dict[str, Any] = load_tables(data, console, folder.path)
    model = load_model(flags.model, place.device, place.cache)
    fitted = model_folder(flags.model).parent
    if flags.part == "test":
        apart = unseen(fitted, tables)
        if apart is None and (split := model.fitted.get("split")):
            _, apart = split_tables(tables, **split)
        if not apart:
            raise UsageError(
                "every group of this data was in the fit, or what was in it is not recorded; fit with "
                "--test_share, calibrate on other data, or pass --part all if the model has not seen these"
            )
        tables = apart
    if flags.share < 1:
        rest, tables = split_tables(tables, test_share=flags.share, seed=flags.split_seed)
        console.say(held_out_words(held_out_counts(rest, tables)).replace("held out", "calibrating on", 1))
    calibrated = model.calibrate(**tables, attributes=flags.attributes, seed=flags.seed)
    remember_also(folder.path, fitted, tables)
    calibrated.save_pretrained(folder.path / "model")
    folder.finish("model", calibrated=sorted(calibrated.calibration))
