"""RewardModel = backbone + head: predicts rewards of text, is calibrated, exported, saved and loaded.

Predictions are in `embedding_scorer`; this file has what needs a whole model: calibration, export to other
software, saving and loading.

A model folder (`folder`) holds heads, and the weights of a backbone that was tuned with them. Any other
backbone is identified by id, revision and fingerprint and loaded from its own location; weights other than
those that the head was fitted on are refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from pluralign import backbones, risk
from pluralign.backbones import tuned
from pluralign.data import check_table, distinct_conversations
from pluralign.errors import ArgumentError
from pluralign.heads import Head
from pluralign.model import folder
from pluralign.model.calibrating import recalibrations, temperature_of
from pluralign.model.embedding_scorer import EmbeddingScorer
from pluralign.model.inputs import Conversation
from pluralign.model.recalibration import FEWEST_GROUPS, Recalibration
from pluralign.model.steering import Weights
from pluralign.model.temperature import Temperature
from pluralign.run_layout import model_folder

if TYPE_CHECKING:
    import datasets

    from pluralign.backbones import Backbone, EmbeddingCache

__all__ = ["Conversation", "RewardModel"]


class RewardModel(EmbeddingScorer):
    """A backbone with a reward head.

    Args:
        backbone: turns conversations into embeddings.
        head: turns embeddings into reward distributions.
        baselines: other heads on the same embeddings to compare with, by name (`constant`,
            `bradley_terry`); evaluation reports them next to the model.
        fitted: record of the fit (data, seed, penalty); serialisable as JSON.
        cache: where embeddings are stored; None embeds every text again.
        calibration: corrections of the attributes' distributions, by name, from `calibrate`.
        temperature: correction of the probabilities of preferences or votes, from `calibrate`.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        *,
        baselines: Mapping[str, Head] | None = None,
        fitted: Mapping[str, Any] | None = None,
        cache: EmbeddingCache | None = None,
        calibration: Mapping[str, Recalibration] | None = None,
        temperature: Temperature | None = None,
    ) -> None:
        super().__init__(backbone, head, cache=cache, calibration=calibration, temperature=temperature)
        self.baselines = dict(baselines or {})
        self.fitted = dict(fitted or {})

    def with_head(self, head: Head) -> RewardModel:
        """The same backbone and cache with another head, for instance a baseline."""
        return RewardModel(self.backbone, head, cache=self.cache)

    # -- calibration -----------------------------------------------------------------------------

    def calibrate(
        self,
        ratings: datasets.Dataset | None = None,
        *,
        pairs: datasets.Dataset | None = None,
        votes: datasets.Dataset | None = None,
        attributes: Sequence[str] | None = None,
        fewest_groups: int = FEWEST_GROUPS,
        seed: int = 0,
        progress: bool | None = None,
    ) -> RewardModel:
        """This model with predictions calibrated for people whom it has not seen.

        On ratings, each attribute's distribution function F_x is replaced by R(F_x), with one R for all texts
        that is measured on these ratings (conformal, on the randomised PIT; `model.recalibration`). A group
        counts as one draw, so an interval of the corrected distributions covers its nominal share of the
        ratings of a new group, on average over samples of groups. Texts keep their order and shape.

        On pairs or votes, probabilities of preferences get a temperature (`model.temperature`); so do those
        of votes with ties, if the model knows ties and votes are given.

        This corrects `attribute_distributions`, `preference_probability` and `vote_probabilities`, and with
        them evaluation, reports and `score --attributes`. `distribution`, utilities and the gate's mix stay
        as fitted. Earlier corrections, from kinds of tables that are not given now, are kept.

        Args:
            ratings: from `load_ratings`, of groups that the model was not fitted on; evaluate on others.
            pairs: from `load_pairs`, likewise.
            votes: from `load_comparisons`, likewise; not together with pairs.
            attributes: those to calibrate; None for all.
            fewest_groups: number of groups of ratings that an attribute needs, and of comparisons.
            seed: of the spreading of ratings on a grid, and of the randomised PIT.
            progress: True or False for a progress bar or none; None for one if stderr is a terminal.

        Returns:
            A new model; `uncalibrated` is this one as it was fitted.

        Raises:
            ArgumentError: no table was given, or pairs and votes; an attribute has too few groups, no
                ratings, or no distribution (one number per text); too few groups of comparisons.
            DataError: an attribute that the model does not have, or ratings on another scale.
        """
        if ratings is None and pairs is None and votes is None:
            raise ArgumentError("received no data to calibrate on: pass ratings, pairs or votes")
        if pairs is not None and votes is not None:
            raise ArgumentError("received pairs and votes; one temperature needs one of them")
        if ratings is None and attributes is not None:
            raise ArgumentError("attributes are calibrated on ratings; pass ratings, or no attributes")
        calibration, temperature = dict(self.calibration), self.temperature
        if ratings is not None:
            check_table("ratings", ratings)
            conversations, (item,) = distinct_conversations(ratings, "response")
            calibration = recalibrations(
                self.head,
                ratings,
                self.read(conversations, progress=progress).response,
                item,
                attributes=attributes,
                fewest=fewest_groups,
                seed=seed,
            )
        for name, table, sides in (
            ("pairs", pairs, ("chosen", "rejected")),
            ("votes", votes, ("response_a", "response_b")),
        ):
            if table is not None:
                check_table(name, table)
                conversations, items = distinct_conversations(table, *sides)
                found = self.head.distribution(*self.read(conversations, progress=progress))
                first, second = (found[torch.from_numpy(item)] for item in items)
                temperature = temperature_of(self.head, table, first, second, fewest=fewest_groups)
        return self._with_calibration(calibration, temperature)

    @property
    def uncalibrated(self) -> RewardModel:
        """The model as it was fitted."""
        return self._with_calibration({}, None)

    def _with_calibration(
        self, calibration: Mapping[str, Recalibration], temperature: Temperature | None
    ) -> RewardModel:
        return RewardModel(
            self.backbone,
            self.head,
            baselines=self.baselines,
            fitted=self.fitted,
            cache=self.cache,
            calibration=calibration,
            temperature=temperature,
        )

    # -- files -----------------------------------------------------------------------------------

    def export(
        self,
        path: str | os.PathLike[str],
        risk: str | risk.RiskMeasure = "mean",
        *,
        tolerance: float = 1e-4,
        reference: Sequence[Conversation] | None = None,
        weights: Weights | None = None,
        steer: Mapping[str, str | risk.RiskMeasure] | None = None,
    ) -> float:
        """Writes the utility as a checkpoint that other software loads: score = output + the returned shift.

        A decoder with `last` pooling becomes a `*ForSequenceClassification` of transformers with one label,
        whose linear layer has no bias: the constant is the shift, which the card and `config.json` name too.
        An encoder that reads the response becomes a folder of sentence-transformers (Transformer, Pooling,
        Dense), which holds the constant. The folder's tokenizer takes the text that the backbone reads: what
        its chat template writes, or the response alone. An adapter is merged into the weights.

        Means over ensembles and attributes with fixed weights are linear; so is any equivariant measure where
        only the position of the distribution depends on the text. Of others, the gap to the nearest linear
        layer is measured on `reference`. After writing, the folder is loaded again and its scores are
        compared with ours; a folder that fails is not kept.

        Args:
            path: the folder; it does not exist, or is empty.
            risk: a risk measure or its name, e.g. `mean`, `cvar:0.1`.
            tolerance: the largest difference of a score that is accepted, in units of the reference standard
                deviation; more is needed for backbones in half precision.
            reference: conversations like those that will be scored, to measure the gap on; needed unless the
                utility is linear for every text.
            weights: attribute weights instead of the gate's, as in `distribution`.
            steer: attributes that are replaced by a measure of their own, as in `distribution`.

        Returns:
            The shift; 0 for a folder of sentence-transformers.

        Raises:
            ArgumentError: the model has a gate or another part that no linear layer holds, no stock
                checkpoint pools as its backbone does, a reference is needed, or the gap is larger than the
                tolerance.
            ArtifactError: the path holds something else or cannot be written, or the written folder gave
                other scores.
            RiskError: the measure does not exist or does not apply to this family.

        Reference: the classes are transformers' and sentence-transformers'; the linear form is ours.
        """
        from pluralign.model.export import export

        steering = self.steering(weights, steer)
        return export(self, path, risk, tolerance=tolerance, reference=reference, steering=steering).shift

    def save_pretrained(self, path: str | os.PathLike[str]) -> Path:
        """Writes the model folder under a temporary name and renames it, so that it is complete or absent.

        An older model folder of the same name is replaced; any other folder that is not empty is refused.

        Raises:
            ArtifactError: the path is a file or a folder with other contents, or cannot be written.
        """
        target, backbone = Path(path), self.backbone
        tuning = getattr(backbone, "tuning", None)

        def write_backbone(place: Path) -> None:
            assert tuning is not None
            name = backbone.config.name_or_path
            tuned.write(place, backbone.model, backbone.tokenizer, tuning, name)

        folder.write(
            target,
            folder.StoredModel(
                self.head,
                backbone.describe(),
                self.baselines,
                self.fitted,
                self.calibration,
                tuning,
                self.temperature,
            ),
            write_backbone if tuning is not None else None,
        )
        return target

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        *,
        backbone: Backbone | None = None,
        device: str | None = None,
        cache: EmbeddingCache | str | None = "default",
    ) -> Self:
        """Loads a model folder and the backbone that it names.

        Args:
            path: the folder, or the run folder of the `pluralign fit` that made it.
            backbone: an already loaded backbone to use; it must have the stored fingerprint.
            device: where the backbone and the head run; by default the backbone's default.
            cache: an `EmbeddingCache`, None for none, or `default` for the one under `PLURALIGN_CACHE`.

        Raises:
            ArtifactError: the folder is missing, damaged, changed since it was saved or of a newer format, or
                the given backbone pools or truncates texts differently.
            FingerprintError: the backbone's weights are not those that the head was fitted on.
        """
        place = model_folder(path)
        stored = folder.read(place)
        if backbone is None and stored.tuning is not None:
            weights = place / folder.BACKBONE
            backbone = backbones.load_tuned(weights, stored.backbone, stored.tuning, device=device)
        elif backbone is None:
            backbone = backbones.load(**stored.backbone, device=device)
        else:
            folder.check_backbone(place, backbone.describe(), stored.backbone)
        folder.check_width(place, stored.head, getattr(backbone, "response_size", None))
        store = backbones.EmbeddingCache() if isinstance(cache, str) else cache
        return cls(
            backbone,
            stored.head,
            baselines=stored.baselines,
            fitted=stored.fitted,
            cache=store,
            calibration=stored.calibration,
            temperature=stored.temperature,
        )
