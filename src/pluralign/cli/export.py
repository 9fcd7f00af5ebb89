"""`pluralign export`: a reward model as a checkpoint that transformers, vLLM, TRL and others load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pluralign.cli.console import Console
from pluralign.cli.objects import load_model, quiet_datasets
from pluralign.cli.parsing import UsageError, parse
from pluralign.cli.scorers import conversations_of

__all__ = ["run"]


@dataclass(frozen=True)
class ExportFlags:
    """Write a reward model and a risk measure as a checkpoint that other software loads.

    A decoder with last-token pooling becomes a sequence classifier of transformers with one label, which
    vLLM, SGLang, TRL, OpenRLHF, verl and RewardBench load; an encoder becomes a folder of
    sentence-transformers. The score is the checkpoint's output plus the shift, which is printed and stored in
    the folder's card.

    Attributes:
        model: Model folder, or the run folder of a fit.
        out: Folder to write; it must not exist, or be empty.
        risk: Risk measure, e.g. mean, cvar:0.1.
        tolerance: Largest difference of a score that is accepted, in standard deviations of the reference.
        reference: File, folder or hub id with responses like those that will be scored, on which the gap of
            measures that are not exactly linear is measured.
        weights: Weights of the attributes instead of the gate's, e.g. --weights.helpful 2.
        steer: Attributes that enter as one number, e.g. --steer.safety quantile:0.05.
        columns: Mapping from our column names to those of the reference, e.g. --columns.response answer.
        hub_split: Split of a hub data set.
        device: cpu, cuda, ...; null for a GPU if there is one.
        cache: Embedding cache; null for the default one, none for no cache.
        json: Print the result as JSON.
    """

    model: str
    out: str
    risk: str = "mean"
    tolerance: float = 1e-4
    reference: str | None = None
    weights: dict[str, float] | None = None
    steer: dict[str, str] | None = None
    columns: dict[str, str] | None = None
    hub_split: str | None = None
    device: str | None = None
    cache: str | None = None
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments and writes the checkpoint."""
    (flags,) = parse("export", ExportFlags.__doc__ or "", arguments, ExportFlags)
    if not 0 < flags.tolerance < math.inf:
        raise UsageError(f"--tolerance: received {flags.tolerance}; allowed: a positive number")
    out = Path(flags.out)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError(f"--out {flags.out} holds something else; name a folder that does not exist")
    from pluralign import data, risk
    from pluralign.model.combination_folder import is_combination
    from pluralign.model.export import export
    from pluralign.model.steering import parse_steering

    quiet_datasets()
    measure = risk.parse(flags.risk)
    if is_combination(flags.model):
        raise UsageError(
            f"{flags.model} is a combination, whose scales are not linear; export one of its models, or use "
            "pluralign.integrations.trl.RewardFunction in Python"
        )
    reference = None
    if flags.reference is not None:
        table = data.load_responses(flags.reference, columns=flags.columns, split=flags.hub_split)
        reference = conversations_of(table)
    console = Console(flags.json)
    console.say(f"export {measure} of {flags.model} into {flags.out}")
    model = load_model(flags.model, flags.device, flags.cache)
    steering = parse_steering([a.name for a in model.head.attributes], flags.weights, flags.steer)
    done = export(
        model, flags.out, measure, tolerance=flags.tolerance, reference=reference, steering=steering
    )
    console.say(
        f"loaded again, it scored {done.checked} conversations as the model does, up to "
        f"{done.difference:.2g}\n"
        + (f"score = output + {done.shift!r}" if done.shift else "score = output; there is nothing to add")
    )
    console.result(
        {
            "checkpoint": str(done.path),
            "risk": str(measure),
            "shift": done.shift,
            "gap": done.gap,
            "difference": done.difference,
        },
        str(done.path),
    )
