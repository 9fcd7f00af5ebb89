"""`PopulationUpdater`: which kinds of people a crowd consists of, updated vote by vote.

In: votes with their times, each as its probability under each of P personas, or with a rater whose
persona is known. Out: the weights of the personas, which change the prediction for every text.

A person counts once, however often they vote: O_r(T) = g^(T - time of the last vote of r), with
g = 2^(-1 / half_life). With `weight="vote"` every vote counts, O_r(T) = sum of g^(T - t_i) over the votes of
r. A vote without a name counts as a separate person. People of known persona are counted,

    alpha_p(T) = g^(T - start) prior_p + sum over people r of persona p of O_r(T)

and those of unknown persona are divided among the personas. With l_ip = P(vote i | persona p) and L_rp the
product of l_ip over all votes of r (one person has one persona), the weights w are the unique solution of

    w_p = A_p / sum A,     A_p = alpha_p + sum_r O_r w_p L_rp / sum_q w_q L_rq

which maximises the concave function sum_p alpha_p log w_p + sum_r O_r log sum_p w_p L_rp. The maximum depends
only on sums and maxima over votes: neither order nor batches matter, and with only known personas it is
alpha / sum alpha. The rule is ours; the exact posterior is a mixture of as many Dirichlets as there are ways
to assign raters to personas. The divided counts overstate the certainty: `sum A` counts a person of unknown
persona in full.

Memory: P + 1 numbers per rater with a name, and per vote without one. Votes without a name whose weight falls
below 2^-60 are dropped.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, final

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions import Categorical
from pluralign.distributions.checks import as_number
from pluralign.errors import ArgumentError, ArtifactError, VoterWarning
from pluralign.heads.mixture_weights import mixture_weights
from pluralign.heads.state_file import read_state, write_state
from pluralign.heads.voters import Voters
from pluralign.heads.votes import (
    as_indices,
    as_probs,
    as_times,
    check_half_life,
    remaining,
)

__all__ = ["PopulationUpdater", "vote_likelihoods"]

_KIND = "population updater"
# No single vote excludes a persona: a model's 0 is seldom a true 0, and two of them could exclude all
# personas.
_LEAST_LIKELIHOOD = 1e-12


def vote_likelihoods(votes: Any, probs: Float[Tensor, "V P C"] | Any) -> Float[Tensor, "V P"]:
    """P(vote | persona), from each persona's predictions for the texts voted on.

    Args:
        votes: categories, [V], whole numbers in [0, C).
        probs: of the categories, for every vote's text and every persona, [V, P, C].

    Raises:
        ArgumentError: shapes do not fit, a category does not exist, or probabilities do not sum to 1.
    """
    probs = as_probs(probs)
    chosen = as_indices(votes, "votes", probs.shape[-1], probs.device)
    if probs.ndim != 3 or chosen.shape != probs.shape[:1]:
        raise ArgumentError(
            f"needed: votes [V] and probs [V, P, C]; received {list(chosen.shape)} and {list(probs.shape)}"
        )
    return probs.gather(2, chosen[:, None, None].expand(-1, probs.shape[1], 1)).squeeze(2)


@final
class PopulationUpdater:
    """Weights of P personas, updated by votes of known or unknown people.

    Args:
        prior: counts of the personas before any vote, positive: [P], or a mapping by name.
        half_life: time in which a vote's weight halves, in the unit of the times; None to forget nothing.
        raters: the persona of raters for whom it is known, by rater: its name, or its index if the prior
            has no names.
        start: the time of the prior; no vote may be older.
        weight: "person" counts each person once, with the weight of their last vote; "vote" counts every
            vote, so that people who vote often weigh more.

    Attributes:
        personas: names of the personas; their indices as text if the prior has no names.

    Raises:
        ArgumentError: an argument is out of range, or a rater's persona does not exist.

    >>> people = PopulationUpdater({"strict": 1, "lenient": 1}, raters={"ann": "strict", "bob": "lenient"})
    >>> people.update(None, times=[0.0, 1.0], raters=["ann", "ann"]).alpha()
    tensor([2., 1.], dtype=torch.float64)
    """

    def __init__(
        self,
        prior: Mapping[str, float] | Any,
        half_life: float | None = None,
        *,
        raters: Mapping[str, str | int] | None = None,
        start: float = 0.0,
        weight: Literal["person", "vote"] = "person",
    ) -> None:
        self.half_life = check_half_life(half_life)
        self.start = as_number(start, "start")
        if weight not in ("person", "vote"):
            raise ArgumentError(f"weight must be 'person' or 'vote', received {weight!r}")
        self.weight: Literal["person", "vote"] = weight
        counts = list(prior.values()) if isinstance(prior, Mapping) else prior
        try:
            self._prior = torch.as_tensor(counts).double().cpu()
        except (TypeError, ValueError, RuntimeError) as error:
            raise ArgumentError(f"prior must be counts [P], received {prior!r}") from error
        legal = self._prior.ndim == 1 and len(self._prior) > 0 and bool(self._prior.isfinite().all())
        if not legal or not bool((self._prior > 0).all()):
            raise ArgumentError(f"prior must be positive, finite counts [P], received {prior!r}")
        names = prior.keys() if isinstance(prior, Mapping) else range(len(self._prior))
        self.personas = tuple(str(name) for name in names)
        self._persona_of = {str(rater): self._index(rater, p) for rater, p in (raters or {}).items()}
        self._clock = self.start
        self._known = torch.zeros_like(self._prior)  # votes of known persona, at the clock; 0 by person
        self._named = Voters(0, per_person=True)  # people of known persona; empty by vote
        self._voters = Voters(len(self._prior), per_person=weight == "person")  # of unknown persona
        self._warned = False

    @property
    def num_personas(self) -> int:
        """P."""
        return len(self._prior)

    @property
    def time(self) -> float:
        """Time of the last vote, or the start."""
        return self._clock

    def update(
        self,
        likelihoods: Float[Tensor, "V P"] | Any | None,
        times: Any,
        *,
        raters: Sequence[str | None] | None = None,
    ) -> Self:
        """Adds votes, in any order and in batches of any size; returns this updater.

        Args:
            likelihoods: P(vote | persona), [V, P] in [0, 1], from `vote_likelihoods`; None if every rater's
                persona is known.
            times: of the votes, one number or [V]; not before the start.
            raters: who voted, V names; None for votes without a name, each of which counts as a person.
                Votes of one unknown rater are assumed to come from one persona; a known persona overrides the
                likelihoods.

        Raises:
            ArgumentError: a likelihood or time is invalid, neither likelihoods nor raters are given, or
                without likelihoods a rater is unknown. In that case nothing is added.

        Warns:
            VoterWarning: people should count once, but votes have no name; given once.
        """
        if isinstance(raters, str) or (likelihoods is None and raters is None):
            raise ArgumentError(
                f"received raters {raters!r} and {'no' if likelihoods is None else 'some'} likelihoods; "
                "needed: likelihoods [V, P], a list of V raters, or both"
            )
        rows = None if likelihoods is None else self._checked(likelihoods)
        names = list(raters) if raters is not None else [None] * (0 if rows is None else len(rows))
        if rows is not None and len(names) != len(rows):
            raise ArgumentError(
                f"received {len(rows)} likelihoods and {len(names)} raters; needed: equally many"
            )
        when = as_times(times, torch.Size([len(names)]), self.start, self._prior.device)
        known = [None if name is None else self._persona_of.get(str(name)) for name in names]
        if rows is None and None in known:
            raise ArgumentError(
                f"the persona of rater {names[known.index(None)]!r} is unknown; name it in raters of the "
                "updater, or pass likelihoods, from which it can be inferred"
            )
        if len(names) == 0:
            return self
        self._forget_until(max(self._clock, float(when.max())))
        weight = remaining(self._clock - when, self.half_life)
        self._warn_of_unknown_raters(names)
        sure = torch.tensor([p is not None for p in known])
        if self.weight == "vote":
            personas = torch.tensor([p for p in known if p is not None], dtype=torch.int64)
            self._known = self._known.index_add(0, personas, weight[sure])
        else:
            counted = [name for name, p in zip(names, known, strict=True) if p is not None]
            self._named.add(counted, weight.new_zeros(len(counted), 0), weight[sure])
        if rows is not None:
            kept = [name for name, p in zip(names, known, strict=True) if p is None]
            self._voters.add(kept, rows[~sure].clamp_min(_LEAST_LIKELIHOOD).log(), weight[~sure])
        return self

    def alpha(self, at: float | None = None) -> Float[Tensor, " P"]:
        """The counts A at a time, with votes of unknown persona divided among the personas; float64.

        Args:
            at: not before the last vote; None for the time of that vote.

        Raises:
            ArgumentError: the time is in the past.
        """
        now = self._clock if at is None else as_number(at, "at")
        if now < self._clock:
            raise ArgumentError(f"at = {now:g} lies before the last vote, at {self._clock:g}")
        counts = self.posterior() * (self._counted().sum() + self._voters.weight.sum())
        return counts * remaining(counts.new_tensor(now - self._clock), self.half_life)

    def posterior(self) -> Float[Tensor, " P"]:
        """The weights of the personas, summing to 1; float64. Time alone does not change them."""
        return mixture_weights(self._counted(), self._voters.sums, self._voters.weight)

    def predict(self, probs: Float[Tensor, "B P C"] | Any, atoms: Any) -> Categorical:
        """The current crowd's prediction for texts: the mixture of the personas' predictions.

        Args:
            probs: of the categories, per text and persona, [B, P, C].
            atoms: reward of each category, [C].

        Raises:
            ArgumentError: a different number of personas, or probabilities that do not sum to 1.
        """
        probs = as_probs(probs)
        if probs.ndim != 3 or probs.shape[1] != self.num_personas:
            raise ArgumentError(f"probs must be [B, {self.num_personas}, C], received {list(probs.shape)}")
        return Categorical(torch.einsum("p,bpc->bc", self.posterior().to(probs), probs), atoms)

    def merge(self, other: PopulationUpdater) -> PopulationUpdater:
        """A new updater that has seen the votes of both, which must not overlap; people may be in both.

        Raises:
            ArgumentError: the other is this one, or has a different prior, half-life, start, weight or known
                raters.
        """
        if not isinstance(other, PopulationUpdater) or self._settings() != other._settings():
            raise ArgumentError(
                "only updaters with the same prior, half_life, start, weight and known raters merge"
            )
        if other is self:
            raise ArgumentError("an updater cannot be merged with itself: every vote would count twice")
        merged = _from_settings(self._settings())
        merged._clock = max(self._clock, other._clock)
        for part in (self, other):
            left = remaining(self._prior.new_tensor(merged._clock - part._clock), self.half_life)
            merged._known = merged._known + part._known * left
            for mine, theirs in ((merged._named, part._named), (merged._voters, part._voters)):
                mine.add(theirs.names(), theirs.sums, theirs.weight * left)
        return merged

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the state, including the names of raters, atomically to one safetensors file.

        Raises:
            ArtifactError: the path cannot be written.
        """
        voters, named = self._voters, self._named
        tensors = {"known": self._known, "log_likelihood": voters.sums, "weight": voters.weight}
        facts = {**self._settings(), "clock": self._clock, "rows": voters.rows, "named": named.rows}
        write_state(path, _KIND, facts, tensors | {"named": named.weight})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PopulationUpdater:
        """Reads a file written by `save`.

        Files of older versions do not store `weight`: they counted votes, and continue to do so, as with
        `weight="vote"`. They do not store who voted, so people cannot be counted.

        Raises:
            ArtifactError: the file is missing, damaged or of another kind.
        """
        settings, tensors = read_state(path, _KIND)
        try:
            new = _from_settings(settings)
            new._clock = as_number(settings["clock"], "clock")
            new._known = tensors["known"]
            new._voters = new._voters.restored(settings["rows"], tensors["log_likelihood"], tensors["weight"])
            people = tensors.get("named", new._prior.new_zeros(0))
            new._named = new._named.restored(settings.get("named", {}), people[:, None][:, :0], people)
            fits = new._voters.fits(new.num_personas) and new._named.fits(0)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{path} is damaged ({error}); save the updater again") from error
        fits = fits and new._known.shape == new._prior.shape and bool(new._known.isfinite().all())
        if not fits or not new._named.rows.keys() <= new._persona_of.keys():
            raise ArtifactError(f"{path} is damaged: its votes do not fit its prior; save the updater again")
        return new

    # -- internals -----------------------------------------------------------------------------------

    def _index(self, rater: Any, persona: Any) -> int:
        if str(persona) not in self.personas:
            raise ArgumentError(
                f"rater {rater!r} has the persona {persona!r}; the personas are {', '.join(self.personas)}"
            )
        return self.personas.index(str(persona))

    def _checked(self, likelihoods: Any) -> Tensor:
        try:
            rows = torch.as_tensor(likelihoods).double().cpu()
        except (TypeError, ValueError, RuntimeError) as error:
            raise ArgumentError(f"likelihoods must be numbers [V, {self.num_personas}]") from error
        if rows.ndim != 2 or rows.shape[1] != self.num_personas:
            raise ArgumentError(f"likelihoods must be [V, {self.num_personas}], received {list(rows.shape)}")
        if not bool(((rows >= 0) & (rows <= 1)).all()):
            raise ArgumentError("likelihoods must be probabilities in [0, 1]")
        impossible = (rows.sum(1) == 0).nonzero().flatten()
        if len(impossible):
            raise ArgumentError(f"vote {int(impossible[0])} has probability 0 under every persona")
        return rows

    def _prior_left(self) -> Tensor:
        # The floor keeps the solution unique and in the interior; a millionth of a vote is negligible.
        left = remaining(self._prior.new_tensor(self._clock - self.start), self.half_life)
        return (self._prior * left).clamp_min(1e-6)

    def _counted(self) -> Tensor:
        """The prior and the people of known persona, at the clock."""
        total = self._prior_left() + self._known
        personas = [self._persona_of[name] for name in self._named.rows]
        rows = list(self._named.rows.values())
        return total.index_add(0, torch.tensor(personas, dtype=torch.int64), self._named.weight[rows])

    def _forget_until(self, now: float) -> None:
        left = remaining(self._prior.new_tensor(now - self._clock), self.half_life)
        self._known, self._clock = self._known * left, now
        self._named.fade(left)
        self._voters.fade(left)

    def _warn_of_unknown_raters(self, names: Sequence[str | None]) -> None:
        unnamed = sum(name is None for name in names)
        if unnamed == 0 or self.weight == "vote" or self._warned:
            return
        self._warned = True
        warnings.warn(
            f"{unnamed} of {len(names)} votes have no rater, and each counts as a separate person: those who "
            'vote often without a name weigh more. Pass raters, or weight="vote" if every vote should count',
            VoterWarning,
            stacklevel=3,
        )

    def _settings(self) -> dict[str, Any]:
        return {
            "prior": dict(zip(self.personas, self._prior.tolist(), strict=True)),
            "half_life": self.half_life,
            "start": self.start,
            "weight": self.weight,
            "raters": {rater: self.personas[p] for rater, p in self._persona_of.items()},
        }


def _from_settings(settings: Mapping[str, Any]) -> PopulationUpdater:
    return PopulationUpdater(
        settings["prior"],
        settings["half_life"],
        raters=settings["raters"],
        start=settings["start"],
        weight=settings.get("weight", "vote"),  # files of older versions do not store it
    )
