"""Tunes a backbone: splits the groups, fits the start, trains stage by stage, returns the better state.

In: data, an `embed` for any backbone, a family's recipe and the settings. Out: the tuned backbone, the
family's `Fitted`, and a record. Groups are held out before anything is fitted, so that the loss of the frozen
start on them is as unbiased as that of the trained model.
"""

from __future__ import annotations

import gc
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.backbones.tuned import Tuning, copy_for_tuning, open_weights, tensors_of, tuned_fingerprint
from pluralign.data.splits import split_tables
from pluralign.digests import json_digest
from pluralign.errors import RunError, TuningWarning
from pluralign.files import write_json
from pluralign.fitting.tables.inputs import Fitted, Inputs
from pluralign.fitting.tuning.config import TuningConfig
from pluralign.fitting.tuning.module import TunedModule
from pluralign.fitting.tuning.problem import Stage, TuningRecipe
from pluralign.training.checkpoints import last_checkpoint

if TYPE_CHECKING:
    from pluralign.backbones import Backbone
    from pluralign.heads import Head

__all__ = ["tune"]

_TABLES = ("ratings", "pairs", "votes")
_SETTINGS = "tuning.json"

Embedder = Callable[["Backbone"], Callable[[Any], Any]]


@dataclass(frozen=True)
class _Given:
    """What all stages share."""

    recipe: TuningRecipe
    settings: Any
    tune: str
    config: TuningConfig
    embedder: Embedder
    progress: bool | None


def tune(
    inputs: Inputs,
    recipe: TuningRecipe,
    settings: Any,
    *,
    backbone: Backbone,
    kind: str,
    config: TuningConfig,
    embedder: Embedder,
    progress: bool | None = None,
) -> tuple[Backbone, Fitted]:
    """Trains a copy of the backbone and a head on it.

    Args:
        inputs: the data; its `embed` is not used.
        recipe: of the family.
        settings: the family's configuration.
        backbone: where training starts; not changed.
        kind: `lora` or `full`.
        config: of the tuning.
        embedder: maps a backbone to the `embed` of `Inputs`.
        progress: True or False for a bar or none; None for one on a terminal.

    Returns:
        The tuned backbone with its new fingerprint, and the fit on it, whose summary has a record `tuning`.

    Raises:
        ConfigError: the weights cannot be trained in this way.
        DataError: the data is not suitable for the family, or has too few groups.
        RunError: a loss is not finite, or the checkpoints belong to another tuning.

    Warns:
        TuningWarning: the held-out loss did not improve, so that the start is returned.
    """
    given = _Given(recipe, settings, kind, config, embedder, progress)
    train, held_out = _divided(inputs, config)
    tuning = Tuning(kind, backbone.fingerprint) if kind == "full" else Tuning(
        kind, backbone.fingerprint, config.rank, config.alpha, config.targets
    )  # fmt: skip
    model = copy_for_tuning(backbone.model, kind)
    open_weights(model, tuning, config.tune_seed, config.lora_dropout)
    if not config.dropout and hasattr(model, "config"):
        _without_dropout(model, config.lora_dropout)
    own = _identified(backbone.with_model(model, fingerprint=None, tuning=tuning), tuning)
    head: Head | None = None
    records = []
    embed = embedder(backbone)  # which has the same weights until the first step, and known embeddings
    for stage in recipe.stages(inputs, settings):
        head, record = _trained(stage, given, own, embed, train, held_out)
        own = _identified(own, tuning)
        embed = embedder(own)
        records.append(record)
    model.requires_grad_(False).eval()
    apart = None if held_out is None else replace(held_out, embed=embed)
    fitted = recipe.finish(head, replace(inputs, embed=embed), settings, apart)
    record = {"kind": kind, "config": asdict(config), "stages": records}
    return own, replace(fitted, summary={**fitted.summary, "tuning": record})


def _divided(inputs: Inputs, config: TuningConfig) -> tuple[Inputs, Inputs | None]:
    """The data that is trained on, and what is held out."""
    if not config.held_out:
        return inputs, None
    tables = {name: table for name in _TABLES if (table := getattr(inputs, name)) is not None}
    train, held_out = split_tables(tables, config.held_out, seed=config.tune_seed)
    return replace(inputs, **train), replace(inputs, **held_out)


def _without_dropout(model: Any, adapter: float) -> None:
    from pluralign.training.dropout import disable_dropout

    kept = [m for name, m in model.named_modules() if ".lora_dropout." in name and hasattr(m, "p")]
    disable_dropout(model)
    for module in kept if adapter else ():
        module.p = adapter


def _identified(backbone: Backbone, tuning: Tuning) -> Backbone:
    """The backbone with the fingerprint of its weights; without one if the weights before had none."""
    known = None
    if tuning.base is not None:
        known = tuned_fingerprint(tensors_of(backbone.model, tuning), tuning)
    return backbone.with_model(backbone.model, fingerprint=known, tuning=tuning)


def _trained(
    stage: Stage,
    given: _Given,
    backbone: Backbone,
    embed: Callable[[Any], Any],
    train: Inputs,
    held_out: Inputs | None,
) -> tuple[Head, dict[str, Any]]:
    """The head of a stage; the backbone is trained in place. `embed` is that of its weights before."""
    config = given.config
    train = replace(train, embed=embed)
    start = stage.start(train, given.settings)
    problem = stage.problem(train, given.settings, start.head, config, held_out=False)
    if problem is None or not len(problem):
        raise RunError(f"stage {stage.name} has no data to train on")
    problems = {"train": problem}
    if held_out is not None:
        inputs = replace(held_out, embed=embed)
        part = stage.problem(inputs, given.settings, start.head, config, held_out=True)
        if part is not None and len(part):
            problems["held_out"] = part
    embedded = {name: embed(one.conversations) for name, one in problems.items()}
    module = TunedModule(
        backbone, start.head, stage.trained(start.head), problems, embedded, config.max_tokens
    )
    if config.max_steps == 0:
        return module.finished_head(), {"name": stage.name, "steps": 0}
    module.freeze_unused()
    record = _run(stage, given, module, train)
    head = module.finished_head()
    del module
    gc.collect()
    return head, record


def _run(stage: Stage, given: _Given, module: TunedModule, inputs: Inputs) -> dict[str, Any]:
    """Trains, and leaves the module in its best state."""
    from pluralign.fitting.tuning.trainer import TuningTrainer, arguments

    config, sizes = given.config, {name: len(problem) for name, problem in module.problems.items()}
    parameters = {name: p.numel() for name, p in module.trainable().items()}
    inputs.report(
        f"{stage.name}: tune {given.tune}, {sum(parameters.values()):,} of "
        f"{sum(p.numel() for p in module.parameters()):,} parameters, {sizes['train']:,} units"
    )
    with _folder(inputs.journal.beside(f"tuning-{stage.name}")) as folder:
        _check_same(folder, stage, given, sizes)
        args = arguments(
            config,
            given.tune,
            str(folder),
            sizes["train"],
            sizes.get("held_out", 0),
            width=module.backbone.prompt_size,
            on_cpu=module.model.device.type == "cpu",
            bar=given.progress,
        )
        trainer = TuningTrainer(module, args, config, inputs.report)
        first = module.state()
        before = trainer.held_out_loss() if "held_out" in sizes else None
        trainer.train(resume_from_checkpoint=last_checkpoint(folder) is not None or None)
        state, best = trainer.state, trainer.state.best_metric
        module.zero_grad(set_to_none=True)
    record = {
        "name": stage.name,
        "units": sizes,
        "steps": state.global_step,
        "parameters": sum(parameters.values()),
    }
    if before is None:
        return record
    after = before if best is None else float(best)
    record |= {"held_out_loss": {"start": before, "best": after}, "best_step": _best_step(state)}
    inputs.report(
        f"{stage.name}: held-out loss {before:.5f} at the start, {after:.5f} at step {record['best_step']} "
        f"of {state.global_step}"
    )
    if not after < before:
        module.restore(first)
        record["best_step"] = 0
        warnings.warn(
            f"tuning ({stage.name}) did not lower the loss on the held-out groups ({before:.5f} at the "
            f"start, {after:.5f} at best): the start is kept. More data, another lr or fewer trained weights "
            "may help",
            TuningWarning,
            stacklevel=4,
        )
    return record


def _best_step(state: Any) -> int:
    found = [(line["eval_loss"], line["step"]) for line in state.log_history if "eval_loss" in line]
    return int(min(found)[1]) if found else 0


@contextmanager
def _folder(path: Path | None) -> Iterator[Path]:
    """The folder of the checkpoints: beside the journal, or a temporary one that all processes share."""
    if path is not None:
        path.mkdir(parents=True, exist_ok=True)
        yield path
        return
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    state = PartialState()
    with tempfile.TemporaryDirectory(prefix="pluralign-tuning-") as made:
        shared = [made]
        if state.num_processes > 1:
            broadcast_object_list(shared)
        yield Path(shared[0])
        state.wait_for_everyone()


def _check_same(folder: Path, stage: Stage, given: _Given, sizes: dict[str, int]) -> None:
    """Raises where a folder holds checkpoints of a tuning with other settings; else notes these."""
    ours: dict[str, Any] = {"stage": stage.name, "tune": given.tune, "units": sizes} | asdict(given.config)
    ours |= {"family": json_digest(json.loads(json.dumps(asdict(given.settings), default=str)))}
    ours = json.loads(json.dumps(ours))
    file = folder / _SETTINGS
    if last_checkpoint(folder) is not None:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        differ = [key for key in ours if found.get(key) != ours[key]]
        if differ:
            changes = ", ".join(f"{key} {found.get(key)!r} instead of {ours[key]!r}" for key in differ[:3])
            raise RunError(
                f"{folder} holds the checkpoints of another tuning ({changes}); continue with its settings, "
                "or remove the folder to start again"
            )
    if int(os.environ.get("RANK", "0")) == 0:
        write_json(file, ours)
