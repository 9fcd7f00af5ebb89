"""The inputs and the results of the functions that write an export's files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pluralign._version import __version__
from pluralign.heads import LinearForm
from pluralign.model.inputs import Conversation
from pluralign.risk import RiskMeasure

__all__ = ["ExportFacts", "Written"]


@dataclass(frozen=True)
class ExportFacts:
    """What is exported.

    Attributes:
        backbone: the model that embeds the texts, a `Backbone`.
        family: of the head.
        measure: the risk measure whose utility the checkpoint returns.
        form: the utility as a linear function of the text's vector.
        num_references: conversations on which the gap was measured; 0 where the form is exact for every text.
        tolerance: the largest difference that is accepted.
    """

    backbone: Any
    family: str
    measure: RiskMeasure
    form: LinearForm
    num_references: int
    tolerance: float

    def record(self, shift: float) -> dict[str, float | str]:
        """The facts of the export for `config.json`."""
        return {
            "version": __version__,
            "risk": str(self.measure),
            "shift": shift,
            "family": self.family,
        }


@dataclass(frozen=True)
class Written:
    """A written folder, loaded again.

    Attributes:
        shift: what must be added to its scores.
        score: its scores of conversations, [B], as its users compute them.
        text: one sentence on the text that its tokenizer takes, for the card.
        usage: lines of code for the card.
        suspicion: the likely cause if the scores are not ours.
    """

    shift: float
    score: Callable[[Sequence[Conversation]], Tensor]
    text: str
    usage: str
    suspicion: str
