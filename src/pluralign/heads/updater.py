"""`PreferenceUpdater`: what a crowd thinks of each item, updated vote by vote.

In: a prior over C ordered categories and votes with their times. Out: the posterior probabilities of the
categories, per item.

    alpha(T) = g^(T - start) alpha_0 + sum_i g^(T - t_i) onehot_i,     g = 2^(-1 / half_life)
    posterior = alpha / sum alpha

A sum does not depend on the order of votes: late votes, batches of any size and merged updaters give the
same state up to rounding. The state is C counts and a clock per item, for any number of votes; the clock
is the time of the item's last vote, so counts neither overflow nor fade to 0/0, however much time passes.

All terms fade equally, so the passing of time alone lowers the concentration `sum alpha` but does not change
the probabilities. With `fade_prior=False` the prior keeps its weight, and an item without new votes returns
to it.

Reference: the Bayesian updating of Li et al. 2024 (arXiv 2402.09764); its exact operator is not published,
this one is ours.
"""

from __future__ import annotations

import os
from typing import Any, Self, final

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions import Categorical
from pluralign.distributions.checks import as_number
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.heads.state_file import read_state, write_state
from pluralign.heads.votes import (
    as_counts,
    as_indices,
    as_times,
    check_flag,
    check_half_life,
    remaining,
)

__all__ = ["PreferenceUpdater"]

_KIND = "preference updater"
_DTYPES = {
    str(one).removeprefix("torch."): one
    for one in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
}


@final
class PreferenceUpdater:
    """Dirichlet counts per item, updated by votes for categories.

    Args:
        prior: counts alpha_0 before any vote, [C] for one item or [B, C] for B items, not negative, each row
            with a positive sum; or a `Categorical` of B items, whose probabilities are the counts.
        half_life: time in which a vote's weight halves, in the unit of the times; None to forget nothing.
        strength: factor on the prior; for probabilities it is the prior's weight in votes.
        start: the time of the prior; no vote may be older.
        fade_prior: whether the prior is forgotten like the votes.

    Raises:
        ArgumentError: an argument is out of range.

    >>> updater = PreferenceUpdater(torch.ones(3)).update([2, 2, 0], times=[0.0, 1.0, 0.5])
    >>> updater.posterior()
    tensor([0.3333, 0.1667, 0.5000])
    """

    def __init__(
        self,
        prior: Tensor | Categorical | Any,
        half_life: float | None = None,
        *,
        strength: float = 1.0,
        start: float = 0.0,
        fade_prior: bool = True,
    ) -> None:
        self.half_life = check_half_life(half_life)
        self.start = as_number(start, "start")
        self.fade_prior = bool(fade_prior)
        if not as_number(strength, "strength") > 0:
            raise ArgumentError(f"strength must be positive, received {strength!r}")
        self._atoms = prior.atoms if isinstance(prior, Categorical) else None
        given = as_counts(prior.probs if isinstance(prior, Categorical) else prior)
        self._dtype = given.dtype if given.is_floating_point() else torch.get_default_dtype()
        self._single = given.ndim == 1
        self._prior = strength * given.double().reshape(-1, given.shape[-1])
        self._votes = torch.zeros_like(self._prior)
        self._clock = self._prior.new_full((len(self._prior),), self.start)

    @property
    def num_items(self) -> int:
        """B; 1 if the prior is one row of counts."""
        return len(self._prior)

    @property
    def num_categories(self) -> int:
        """C."""
        return self._prior.shape[1]

    @property
    def time(self) -> float:
        """Time of the last vote on any item, or the start."""
        return float(self._clock.max()) if self.num_items else self.start

    def update(self, votes: Any, times: Any, *, items: Any = None) -> Self:
        """Adds votes, in any order and in batches of any size; returns this updater.

        Args:
            votes: categories, whole numbers in [0, C): [V], or [B, V] with a row per item.
            times: of the votes: one number, [V], or the shape of the votes; not before the start.
            items: [V], the row of the prior that each vote is about; needed if votes are [V] and there
                are several items.

        Raises:
            ArgumentError: a category, time or item is invalid. In that case nothing is added.
        """
        chosen = as_indices(votes, "votes", self.num_categories, self._prior.device)
        when = as_times(times, chosen.shape, self.start, self._prior.device)
        rows, place = torch.unique(self._rows(chosen, items), return_inverse=True)
        before = self._clock[rows]
        after = before.scatter_reduce(0, place, when.flatten(), "amax")
        fresh = self._votes.new_zeros(len(rows), self.num_categories)
        weight = remaining(after[place] - when.flatten(), self.half_life)
        fresh.index_put_((place, chosen.flatten()), weight, accumulate=True)
        kept = self._votes[rows] * remaining(after - before, self.half_life).unsqueeze(-1)
        self._votes[rows] = kept + fresh
        self._clock[rows] = after
        return self

    def alpha(self, at: float | None = None) -> Float[Tensor, "*B C"]:
        """The counts at a time; their sum says how many recent votes support the posterior.

        Args:
            at: not before the last vote; None for the time of that vote.

        Returns:
            [C], or [B, C] for several items.

        Raises:
            ArgumentError: the time is in the past: single votes are not stored.
        """
        return self._shaped(self._alpha(self._now(at).expand(self.num_items)))

    def posterior(self, at: float | None = None) -> Float[Tensor, "*B C"] | Categorical:
        """The expected probabilities of the categories, alpha / sum alpha.

        Args:
            at: as in `alpha`. It changes the result only with `fade_prior=False`.

        Returns:
            [C] or [B, C], like the prior; a `Categorical` with the prior's atoms if the prior was one.

        Raises:
            ArgumentError: the time is in the past.
        """
        now = self._now(at).expand(self.num_items)
        # If everything fades equally, the ratios are those at each item's own clock, where nothing has
        # vanished.
        counts = self._alpha(self._clock if self.fade_prior else now)
        probs = counts / counts.sum(-1, keepdim=True)
        if self._atoms is None:
            return self._shaped(probs)
        return Categorical(probs.to(self._dtype), self._atoms)

    def merge(self, other: PreferenceUpdater) -> PreferenceUpdater:
        """A new updater that has seen the votes of both, which must not overlap.

        Raises:
            ArgumentError: the other has a different prior, half-life or start, or is this one.
        """
        if not isinstance(other, PreferenceUpdater) or not self._same_prior(other):
            raise ArgumentError("only updaters with the same prior, half_life, start and fade_prior merge")
        if other is self:
            raise ArgumentError("an updater cannot be merged with itself: every vote would count twice")
        merged = self._blank()
        merged._clock = torch.maximum(self._clock, other._clock)
        merged._votes = self._votes_at(merged._clock) + other._votes_at(merged._clock)
        return merged

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the state atomically to one safetensors file.

        Raises:
            ArtifactError: the path cannot be written.
        """
        settings = {
            "half_life": self.half_life,
            "start": self.start,
            "fade_prior": self.fade_prior,
            "single": self._single,
            "dtype": str(self._dtype).removeprefix("torch."),
        }
        tensors = {"prior": self._prior, "votes": self._votes, "clock": self._clock}
        if self._atoms is not None:
            tensors["atoms"] = self._atoms
        write_state(path, _KIND, settings, tensors)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PreferenceUpdater:
        """Reads a file written by `save`.

        Raises:
            ArtifactError: the file is missing, damaged or of another kind.
        """
        settings, tensors = read_state(path, _KIND)
        try:
            new = cls(
                tensors["prior"],
                settings["half_life"],
                start=settings["start"],
                fade_prior=settings["fade_prior"],
            )
            new._single = check_flag(settings["single"], "single")
            check_flag(settings["fade_prior"], "fade_prior")
            new._dtype = _DTYPES[settings["dtype"]]
            new._atoms = tensors.get("atoms")
            votes, clock = tensors["votes"], tensors["clock"]
        except (KeyError, TypeError, ArgumentError, RuntimeError) as error:
            raise ArtifactError(f"{path} is damaged ({error}); save the updater again") from error
        fits = votes.shape == new._prior.shape and clock.shape == new._clock.shape
        fits = fits and not (new._single and new.num_items != 1)
        fits = fits and bool((clock >= new.start).all())
        fits = fits and (new._atoms is None or new._atoms.shape[-1] == new.num_categories)
        if not fits or not bool(votes.isfinite().all() and clock.isfinite().all() and (votes >= 0).all()):
            raise ArtifactError(f"{path} is damaged: its counts do not fit its prior; save the updater again")
        new._votes, new._clock = votes, clock
        return new

    # -- internals -----------------------------------------------------------------------------------

    def _alpha(self, at: Tensor) -> Tensor:
        """Counts in float64 with each item at its own time `at` [B]."""
        prior = self._prior
        if self.fade_prior:
            prior = prior * remaining(at - self.start, self.half_life).unsqueeze(-1)
        return prior + self._votes_at(at)

    def _votes_at(self, at: Tensor) -> Tensor:
        return self._votes * remaining(at - self._clock, self.half_life).unsqueeze(-1)

    def _now(self, at: float | None) -> Tensor:
        now = self.time if at is None else as_number(at, "at")
        if now < self.time:
            raise ArgumentError(
                f"at = {now:g} lies before the last vote, at {self.time:g}; single votes are not stored, "
                "so past states are not available: save the updater at that time"
            )
        return self._prior.new_tensor(now)

    def _rows(self, votes: Tensor, items: Any) -> Tensor:
        """The item of each vote, flat."""
        if items is not None:
            rows = as_indices(items, "items", self.num_items, self._prior.device)
            if votes.ndim != 1 or rows.shape != votes.shape:
                raise ArgumentError(
                    f"items names the row of each vote, so both are [V]; received votes {list(votes.shape)} "
                    f"and items {list(rows.shape)}"
                )
            return rows
        if votes.ndim == 1 and self.num_items == 1:
            return torch.zeros_like(votes)
        if votes.ndim == 2 and len(votes) == self.num_items:
            return torch.arange(len(votes), device=votes.device).repeat_interleave(votes.shape[1])
        raise ArgumentError(
            f"votes of shape {list(votes.shape)} do not say which of {self.num_items} items they are about; "
            f"pass items [V], or votes [{self.num_items}, V]"
        )

    def _shaped(self, tensor: Tensor) -> Tensor:
        return (tensor[0] if self._single else tensor).to(self._dtype)

    def _same_prior(self, other: PreferenceUpdater) -> bool:
        settings = ("half_life", "start", "fade_prior", "_single")
        return (
            all(getattr(self, name) == getattr(other, name) for name in settings)
            and torch.equal(self._prior, other._prior)
            and (self._atoms is None) == (other._atoms is None)
            and (self._atoms is None or other._atoms is None or torch.equal(self._atoms, other._atoms))
        )

    def _blank(self) -> PreferenceUpdater:
        new = PreferenceUpdater(self._prior, self.half_life, start=self.start, fade_prior=self.fade_prior)
        new._single, new._dtype, new._atoms = self._single, self._dtype, self._atoms
        return new
