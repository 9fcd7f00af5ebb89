"""RewardModel = backbone + head: text in, reward distributions and utilities out; saving and loading.

In: conversations, each a list of {role, content} messages that ends in the response to score. Out:
`RewardDistribution`, or a number through a risk measure.

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
from jaxtyping import Float
from torch import Tensor

from pluralign import backbones, risk
from pluralign.backbones import tuned
from pluralign.data import check_table, distinct_conversations
from pluralign.distributions import RewardDistribution
from pluralign.errors import ArgumentError
from pluralign.heads import Head, HeadInputs, Steering
from pluralign.model import folder
from pluralign.model.calibrating import recalibrations, temperature_of
from pluralign.model.inputs import Conversation, head_inputs
from pluralign.model.recalibration import FEWEST_GROUPS, Recalibration
from pluralign.model.scorer import BaseScorer, as_conversations, utilities
from pluralign.model.steering import Weights, parse_steering
from pluralign.model.temperature import Temperature
from pluralign.risk import parse
from pluralign.run_layout import model_folder

if TYPE_CHECKING:
    import datasets

    from pluralign.backbones import Backbone, EmbeddingCache, Embeddings

__all__ = ["Conversation", "RewardModel"]


class RewardModel(BaseScorer):
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
        self.backbone = backbone
        self.head = head
        self.baselines = dict(baselines or {})
        self.fitted = dict(fitted or {})
        self.cache = cache
        self.calibration = dict(calibration or {})
        self.temperature = temperature

    @property
    def family(self) -> str:
        """Name of the head's family."""
        return self.head.family

    def with_head(self, head: Head) -> RewardModel:
        """The same backbone and cache with another head, for instance a baseline."""
        return RewardModel(self.backbone, head, cache=self.cache)

    # -- predictions -----------------------------------------------------------------------------

    def embed(self, conversations: Sequence[Conversation], progress: bool | None = None) -> Embeddings:
        """Embeddings of conversations, from the cache if possible.

        Args:
            conversations: message lists, each ending in the response.
            progress: True or False for a bar or none; None for a bar if stderr is a terminal.

        Raises:
            ArgumentError: a conversation is empty, is a plain string, or does not end in a response.
        """
        return self.backbone.embed(as_conversations(conversations), cache=self.cache, progress=progress)

    def read(self, conversations: Sequence[Conversation], progress: bool | None = None) -> HeadInputs:
        """The head's inputs for conversations: `model.head.distribution(*model.read(conversations))`.

        Arguments and errors as in `embed`.
        """
        listed = as_conversations(conversations)
        return head_inputs(self.head, listed, self.embed(listed, progress=progress))

    @torch.no_grad()
    def distribution(
        self,
        conversations: Sequence[Conversation],
        *,
        weights: Weights | None = None,
        steer: Mapping[str, str | risk.RiskMeasure] | None = None,
    ) -> RewardDistribution:
        """The reward distribution of each response, in units of the reference standard deviation.

        Args:
            conversations: B message lists, each ending in the response.
            weights: weights of the attributes that replace the gate for every prompt: a mapping by name, with
                0 for attributes that are not named, or one number per attribute in order. Only ratios matter.
            steer: attributes that enter the mix as one number, a risk measure of their own distribution:
                `{"safety": "quantile:0.05"}`. Allowed: mean, median, quantile:t, cvar:a.

        Raises:
            ArgumentError: an attribute that the model does not have, weights that are negative or all 0, or
                an invalid conversation.
            RiskError: a measure that does not exist or is not allowed here.
        """
        steering = self.steering(weights, steer)
        return self.head.distribution(*self.read(conversations), steering=steering)

    @torch.no_grad()
    def attribute_distributions(
        self, conversations: Sequence[Conversation], *, on_grid: bool = False
    ) -> dict[str, RewardDistribution]:
        """One distribution per attribute, each on the scale of its ratings.

        Ratings on a grid of step h are fitted as if each were spread over its step, so these distributions
        are continuous and may reach half a step beyond the scale, and predictions further.

        Args:
            conversations: B message lists, each ending in the response.
            on_grid: round them to the ratings that people can give: a `Categorical` over the grid where an
                attribute's ratings are on one (`heads.Head.rounded`).
        """
        response = self.embed(conversations).response
        return self.predicted_attributes(response, on_grid=on_grid)

    def predicted_attributes(
        self, response: Float[Tensor, "N D"], *, on_grid: bool = False
    ) -> dict[str, RewardDistribution]:
        """`attribute_distributions` of texts that are embedded already, corrected where it is calibrated."""
        found = self.head.attribute_distributions(response)
        found |= {name: correct(found[name]) for name, correct in self.calibration.items()}
        return self.head.rounded(found) if on_grid else found

    @torch.no_grad()
    def distributions(
        self,
        conversations: Sequence[Conversation],
        *,
        weights: Weights | None = None,
        steer: Mapping[str, str | risk.RiskMeasure] | None = None,
        on_grid: bool = False,
    ) -> tuple[RewardDistribution, dict[str, RewardDistribution]]:
        """`distribution` and `attribute_distributions` from one pass through the backbone."""
        steering, inputs = self.steering(weights, steer), self.read(conversations)
        return (
            self.head.distribution(*inputs, steering=steering),
            self.predicted_attributes(inputs.response, on_grid=on_grid),
        )

    @torch.no_grad()
    def distributions_and_gate(
        self,
        conversations: Sequence[Conversation],
        *,
        weights: Weights | None = None,
        steer: Mapping[str, str | risk.RiskMeasure] | None = None,
    ) -> tuple[RewardDistribution, dict[str, RewardDistribution], Float[Tensor, "B A"] | None]:
        """`distributions`, and the gate's weights, from one pass through the backbone.

        They are None without a gate, and if `weights` replace it.
        """
        steering, inputs = self.steering(weights, steer), self.read(conversations)
        gate = self.head.gate_weights(inputs.prompt) if self.head.has_gate and weights is None else None
        distribution = self.head.distribution(*inputs, steering=steering)
        return distribution, self.predicted_attributes(inputs.response), gate

    @torch.no_grad()
    def gate_weights(self, conversations: Sequence[Conversation]) -> Float[Tensor, "B A"]:
        """The weight of each attribute for each prompt, in the order of `model.head.attributes`."""
        return self.head.gate_weights(self.embed(conversations).prompt)

    def score(
        self,
        conversations: Sequence[Conversation],
        risk: str | risk.RiskMeasure = "mean",
        *,
        weights: Weights | None = None,
        steer: Mapping[str, str | risk.RiskMeasure] | None = None,
    ) -> Float[Tensor, " B"]:
        """The utility of each response: a risk measure of its reward distribution.

        Args:
            conversations: B message lists, each ending in the response.
            risk: a risk measure or its name, e.g. `mean`, `cvar:0.1`, `entropic:1`.
            weights: attribute weights instead of the gate's, as in `distribution`.
            steer: attributes that are replaced by a measure of their own, as in `distribution`.

        Returns:
            [B], in units of the reference standard deviation; higher is better.

        Raises:
            ArgumentError: as in `distribution`, or a utility is not finite.
            RiskError: the measure does not exist or does not apply to this family.
        """
        measure = parse(risk)
        return utilities(measure, self.distribution(conversations, weights=weights, steer=steer))

    @torch.no_grad()
    def vote_probabilities(
        self, first: Sequence[Conversation], second: Sequence[Conversation]
    ) -> Float[Tensor, "B 3"]:
        """How people would vote on each pair: P(the first is better), P(tie), P(the second is better).

        Args:
            first: B message lists, each ending in a response.
            second: as many, with the other responses.

        Raises:
            ArgumentError: the numbers of conversations differ, or the model was not fitted on comparisons,
                so that it knows no ties.
        """
        a, b = as_conversations(first), as_conversations(second)
        if len(a) != len(b):
            raise ArgumentError(
                f"received {len(a)} first and {len(b)} second conversations; needed: equally many"
            )
        both = self.distribution([*a, *b])
        found = self.predicted_votes(both[: len(a)], both[len(a) :])
        if found is None:
            raise ArgumentError(
                f"this {self.family} model was not fitted on comparisons, so it does not know how often "
                "people call two responses equal; fit the categorical family on votes, or use "
                "preference_probability"
            )
        return found

    def preferred(self, chosen: RewardDistribution, rejected: RewardDistribution) -> Float[Tensor, " B"]:
        """As `preference_probability`, of known distributions; corrected where the model is calibrated."""
        if self.temperature is not None and self.temperature.kind == "votes":
            votes = self.predicted_votes(chosen, rejected)
            assert votes is not None  # it was calibrated on them
            return votes[:, 0] + 0.5 * votes[:, 1]
        found = self.head.preference_probability(chosen, rejected)
        return found if self.temperature is None else self.temperature.of_preference(found)

    def predicted_votes(
        self, first: RewardDistribution, second: RewardDistribution
    ) -> Float[Tensor, "B 3"] | None:
        """`vote_probabilities` of texts whose distributions are known; None if the head knows no ties."""
        found = self.head.vote_probabilities(first, second)
        if found is None or self.temperature is None or self.temperature.kind != "votes":
            return found
        return self.temperature(found)

    def steering(
        self, weights: Weights | None = None, steer: Mapping[str, str | risk.RiskMeasure] | None = None
    ) -> Steering:
        """Checked settings for `model.head.distribution(*model.read(conversations), steering=...)`.

        Arguments and errors as in `distribution`.
        """
        return parse_steering([a.name for a in self.head.attributes], weights, steer)

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
        """This model with predictions that keep what they promise on people not seen before.

        On ratings, each attribute's distribution function F_x is replaced by R(F_x), with one R for all texts
        that is measured on these ratings (conformal, on the randomised PIT; `model.recalibration`). A group
        counts as one draw, so an interval of the corrected distributions has its nominal share of the ratings
        of a new group, on average over what could have been drawn here. Texts keep their order and shape.

        On pairs or votes, probabilities of preferences get a temperature (`model.temperature`); so do those
        of votes with ties, if the model knows ties and votes are given.

        Corrected are `attribute_distributions`, `preference_probability` and `vote_probabilities`, and what
        evaluation, reports and `score --attributes` make of them. `distribution`, utilities and the gate's
        mix stay as they were fitted. What was calibrated before, on tables that are not given now, stays.

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
