"""`export`: a reward model and a risk measure in, a checkpoint that other software loads out.

    1  refuse what a linear layer cannot hold: a gate, a softmax, columns that are not states of the model
    2  find the linear form of the utility, and its largest error on reference conversations
    3  write the folder, load it again as others will, and compare its scores

A decoder with `last` pooling becomes a sequence classifier of transformers (`classifier`), whose linear layer
has no bias: its scores differ from ours by one number, the shift. An encoder that reads the response becomes
a folder of sentence-transformers (`sentence_folder`), which holds the constant.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from pluralign.checks import as_finite
from pluralign.errors import ArgumentError, ArtifactError, PluralignError
from pluralign.files import whole_folder
from pluralign.heads import LinearForm, Steering, linear_form
from pluralign.model.export import classifier, sentence_folder
from pluralign.model.export.card import card
from pluralign.model.export.facts import ExportFacts, Written
from pluralign.model.inputs import Conversation, head_inputs
from pluralign.model.scorer import as_conversations, utilities
from pluralign.risk import Mean, RiskMeasure, parse

if TYPE_CHECKING:
    from pluralign.backbones import Embeddings
    from pluralign.heads import Head

__all__ = ["ExportResult", "Exportable", "export"]

_CHECKED = 16  # conversations that the written folder scores again
_INSTEAD = (
    "Keep the model as it is and score in Python instead: pluralign.integrations.trl.RewardFunction inside "
    "trainers, RewardModel.score or `pluralign score` elsewhere"
)
# Scored where no reference is given.
_PROBES = (
    (("user", "What is the capital of France?"), ("assistant", "Paris.")),
    (
        ("user", "Write two sentences about rain."),
        ("assistant", "Rain falls from clouds. It waters the fields, and fills the rivers again."),
    ),
    (
        ("user", "hello"),
        ("assistant", "Hello! How can I help?"),
        ("user", "Add 2 and 3, please."),
        ("assistant", "2 + 3 = 5"),
    ),
    (("user", "Is this true?"), ("assistant", "No")),
)


class Exportable(Protocol):
    """The parts of a `RewardModel` that an export uses."""

    head: Head
    backbone: Any

    def embed(self, conversations: Sequence[Conversation]) -> Embeddings:
        """Embeddings of conversations, from a cache if there is one."""
        ...


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote.

    Attributes:
        path: the folder.
        shift: what must be added to the folder's scores to get ours; 0 where the folder holds the constant.
        gap: the largest difference between the utility and its linear form on the references.
        difference: the largest difference between the written folder's scores plus the shift and ours.
        checked: conversations that the written folder scored.
    """

    path: Path
    shift: float
    gap: float
    difference: float
    checked: int


def export(
    model: Exportable,
    path: str | os.PathLike[str],
    risk: str | RiskMeasure = "mean",
    *,
    tolerance: float = 1e-4,
    reference: Sequence[Conversation] | None = None,
    steering: Steering | None = None,
) -> ExportResult:
    """Writes the checkpoint: `RewardModel.export`, which returns only the shift.

    Args:
        model: a `RewardModel`.
        path: the folder, as in `RewardModel.export`.
        risk: a risk measure or its name.
        tolerance: as in `RewardModel.export`.
        reference: as in `RewardModel.export`.
        steering: what replaces the gate (`model.steering.parse_steering`).

    Raises:
        ArgumentError, ArtifactError, RiskError: as in `RewardModel.export`.
    """
    measure, head, backbone = parse(risk), model.head, model.backbone
    steering = Steering() if steering is None else steering
    limit = as_finite(tolerance)
    if not limit > 0:
        raise ArgumentError(f"tolerance is {tolerance!r}; needed: a positive number, in units of the reward")
    write = _writer(backbone)
    known = head.linearity(steering)
    if known.obstacle is not None:
        raise ArgumentError(
            f"this model ({head.family}) cannot be exported: {known.obstacle}, and a checkpoint of this "
            f"kind has one linear layer. {_INSTEAD}"
        )
    certain = (known.mean and isinstance(measure, Mean)) or (known.position_only and measure.equivariant)
    if reference is None and not certain:
        raise ArgumentError(
            f"reference: {measure} of a {head.family} model need not be linear in the text's vector, so "
            "how far a linear layer misses it must be measured. Pass a few hundred conversations like "
            "those that will be scored"
        )
    listed = as_conversations(_probes() if reference is None else reference)
    if not listed:
        raise ArgumentError("reference: received no conversations; needed: at least one")
    form, ours, truncated = _measured(head, listed, model.embed(listed), measure, steering)
    if not form.gap <= limit:
        raise ArgumentError(_too_far(form, measure, limit, len(listed)))
    kept = [i for i, cut in enumerate(truncated.tolist()) if not cut][:_CHECKED]
    if not kept:
        raise ArgumentError(
            f"reference: every conversation is longer than the model's {backbone.config.max_length} "
            "tokens, beyond which other software cuts texts in its own way; pass shorter ones"
        )
    facts = ExportFacts(
        backbone, head.family, measure, form, len(listed) if reference is not None else 0, limit
    )
    with whole_folder(path) as work:
        written = _written(write, work, facts)
        found = written.score([listed[i] for i in kept]).cpu().double() + written.shift
        misses = (found - ours[kept].double()).abs()
        if not float(misses.max()) <= limit:
            row = int(misses.argmax())
            raise ArtifactError(
                f"the checkpoint was not kept: loaded again it gives conversation {kept[row]} "
                f"{float(found[row]):.6g} with the shift, and this model {float(ours[kept[row]]):.6g}; "
                f"allowed: {limit:g}. {written.suspicion}"
            )
        (work / "README.md").write_text(
            card(facts, written, float(misses.max()), len(kept)), encoding="utf-8"
        )
    return ExportResult(Path(path), written.shift, form.gap, float(misses.max()), len(kept))


def _written(write: Callable[[Path, ExportFacts], Written], work: Path, facts: ExportFacts) -> Written:
    try:
        return write(work, facts)
    except PluralignError:
        raise
    except (RuntimeError, ValueError) as error:
        raise ArtifactError(
            f"the checkpoint was not kept: transformers cannot write it, or not load it again: {error}"
        ) from error


def _writer(backbone: Any) -> Callable[[Path, ExportFacts], Written]:
    """The function that writes the folder; raises if no stock checkpoint pools as this backbone does."""
    config = getattr(backbone, "config", None)
    if config is None or not hasattr(backbone, "model"):
        raise ArgumentError(f"a {type(backbone).__name__} has no weights to export; needed: a Backbone")
    if config.quantization is not None:
        raise ArgumentError(
            f"the backbone is loaded in {config.quantization}, and packed weights are not a stock "
            "checkpoint; fit on the unquantised backbone (dtype bfloat16 halves its size), and let the "
            "server quantise"
        )
    extra = [name for name in ("length", "surface") if getattr(config, name)]
    if extra:
        raise ArgumentError(
            f"the backbone appends columns ({', '.join(extra)}) that are counted in the text, and a "
            f"checkpoint has only the states of the model; fit without {' and '.join(extra)}. {_INSTEAD}"
        )
    if backbone.run_mode.fill in ("equal", "alone"):
        raise ArgumentError(
            f"the backbone {config.name_or_path} does not ignore padding, so other software, which pads its "
            f"batches, would score a text differently in each batch. {_INSTEAD}"
        )
    if config.context == "conversation" and config.pooling == "last":
        return classifier.write
    if config.context == "response":
        return sentence_folder.write
    why = (
        f"averages the states of the response's tokens only (pooling={config.pooling!r}), and stock "
        "classifiers of decoders read the last one; fit with pooling='last'"
        if config.context == "conversation"
        else "reads prompt and response as a pair and averages the response's states only, which no stock "
        "checkpoint does; fit with context='response'"
    )
    raise ArgumentError(f"the backbone {why}. {_INSTEAD}")


def _measured(
    head: Head,
    conversations: Sequence[Conversation],
    embedded: Embeddings,
    measure: RiskMeasure,
    steering: Steering,
) -> tuple[LinearForm, Tensor, Tensor]:
    """The linear form, the utilities [B], and which conversations were truncated [B]."""
    inputs = head_inputs(head, conversations, embedded)

    def utility(response: Tensor) -> Tensor:
        distribution = head.distribution(*inputs._replace(response=response), steering=steering)
        return utilities(measure, distribution)

    form = linear_form(utility, inputs.response)
    with torch.no_grad():
        return form, utility(inputs.response).cpu(), embedded.truncated


def _too_far(form: LinearForm, measure: RiskMeasure, limit: float, count: int) -> str:
    return (
        f"{measure} of this model is not linear in the text's vector: on {count} reference conversations "
        f"the nearest linear layer misses it by up to {form.gap:.3g}; allowed: tolerance={limit:g}, in "
        "units of the reward. Export the mean if that is smaller, or raise the tolerance if you accept "
        f"that. {_INSTEAD}"
    )


def _probes() -> list[list[Mapping[str, str]]]:
    return [[{"role": role, "content": content} for role, content in one] for one in _PROBES]
