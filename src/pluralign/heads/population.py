"""`PopulationUpdater`: which kinds of people a crowd consists of, kept up to date vote by vote.

In: votes with their times, each as its probability under every one of P personas, or with a rater whose
persona is known. Out: the weights of the personas, which move the prediction for every text. It does not know
texts, categories or how the personas' own predictions were made.

Votes of raters of known persona count as they do for an item (`updater`):

    alpha_p(T) = g^(T - start) prior_p + sum over votes i of persona p of g^(T - t_i), g = 2^(-1 / half_life)

A vote of unknown persona is shared out. With l_ip = P(vote i | persona p), L_rp the product of l_ip over the
votes of rater r (one person is of one persona), and O_r(T) = sum of g^(T - t_i) over these votes, the weights
w are the one solution of

    w_p = A_p / sum A,     A_p = alpha_p + sum_r O_r w_p L_rp / sum_q w_q L_rq

which maximises the concave function sum_p alpha_p log w_p + sum_r O_r log sum_p w_p L_rp. The maximum depends
on sums over votes only: neither order nor batches matter, and with known personas alone it is alpha / sum
alpha. The rule is ours; the exact posterior is a mixture of as many Dirichlets as there are ways to name the
raters. Shared-out counts are surer than the truth: `sum A` counts a vote of unknown persona as a whole one.

Memory: P + 1 numbers per rater with a name, and per vote without one. Votes without a name whose weight fell
below 2^-60 are dropped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self, final

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions import Categorical
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.heads.mixture_weights import mixture_weights
from pluralign.heads.state_file import read_state, write_state
from pluralign.heads.votes import (
    as_indices,
    as_probs,
    as_times,
    check_half_life,
    check_number,
    remaining,
)

__all__ = ["PopulationUpdater", "vote_likelihoods"]

_KIND = "population updater"
# No single vote rules a persona out: a model's 0 is seldom a true one, and two of them would leave nobody.
_LEAST_LIKELIHOOD = 1e-12
_FORGOTTEN = 2.0**-60


def vote_likelihoods(votes: Any, probs: Float[Tensor, "V P C"] | Any) -> Float[Tensor, "V P"]:
    """P(vote | persona), from what each persona would say of the text voted on.

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
        half_life: time in which a vote's weight halves, in the unit of the times; None forgets nothing.
        raters: the persona of raters for whom it is known, by rater: its name, or its index where the prior
            has no names.
        start: the time of the prior; no vote may be older.

    Attributes:
        personas: names of the personas; their indices as text where the prior has no names.

    Raises:
        ArgumentError: an argument is out of range, or a rater's persona does not exist.

    >>> people = PopulationUpdater({"strict": 1, "lenient": 1}, raters={"ann": "strict", "bob": "lenient"})
    >>> people.update(None, times=[0.0, 1.0], raters=["ann", "ann"]).posterior()
    tensor([0.7500, 0.2500], dtype=torch.float64)
    """

    def __init__(
        self,
        prior: Mapping[str, float] | Any,
        half_life: float | None = None,
        *,
        raters: Mapping[str, str | int] | None = None,
        start: float = 0.0,
    ) -> None:
        self.half_life = check_half_life(half_life)
        self.start = check_number(start, "start")
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
        self._known = torch.zeros_like(self._prior)  # votes of known persona, at the clock
        self._rows: dict[str, int] = {}  # raters with a name and without a known persona -> their row
        self._log_likelihood = self._prior.new_zeros(0, len(self._prior))
        self._weight = self._prior.new_zeros(0)  # of each row, at the clock

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
            likelihoods: P(vote | persona), [V, P] in [0, 1], see `vote_likelihoods`; None where every rater's
                persona is known.
            times: of the votes, one number or [V]; not before the start.
            raters: who voted, V names; None for votes without a name. Votes of one unknown rater are taken
                to come from one persona; a known persona overrides the likelihoods.

        Raises:
            ArgumentError: a likelihood or time is illegal, neither likelihoods nor raters are given, or
                without likelihoods a rater is unknown. Then nothing was added.
        """
        if isinstance(raters, str) or (likelihoods is None and raters is None):
            raise ArgumentError(
                f"received raters {raters!r} and {'no' if likelihoods is None else 'some'} likelihoods; "
                "needed: likelihoods [V, P], a list of V raters, or both"
            )
        rows = None if likelihoods is None else self._checked(likelihoods)
        names = list(raters) if raters is not None else [None] * (0 if rows is None else len(rows))
        if rows is not None and len(names) != len(rows):
            raise ArgumentError(f"received {len(rows)} likelihoods and {len(names)} raters; needed: as many")
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
        sure = torch.tensor([p is not None for p in known])
        personas = torch.tensor([p for p in known if p is not None], dtype=torch.int64)
        self._known = self._known.index_add(0, personas, weight[sure])
        if rows is not None:
            kept = [name for name, p in zip(names, known, strict=True) if p is None]
            self._add_rows(kept, rows[~sure].clamp_min(_LEAST_LIKELIHOOD).log(), weight[~sure])
        return self

    def alpha(self, at: float | None = None) -> Float[Tensor, " P"]:
        """The counts A at a time, votes of unknown persona shared out; float64.

        Args:
            at: not before the last vote; None for the time of that vote.

        Raises:
            ArgumentError: the time is in the past.
        """
        now = self._clock if at is None else check_number(at, "at")
        if now < self._clock:
            raise ArgumentError(f"at = {now:g} lies before the last vote, at {self._clock:g}")
        total = self._prior_left() + self._known
        counts = self.posterior() * (total.sum() + self._weight.sum())
        return counts * remaining(counts.new_tensor(now - self._clock), self.half_life)

    def posterior(self) -> Float[Tensor, " P"]:
        """The weights of the personas, summing to 1; float64. Time alone does not change them."""
        return mixture_weights(self._prior_left() + self._known, self._log_likelihood, self._weight)

    def predict(self, probs: Float[Tensor, "B P C"] | Any, atoms: Any) -> Categorical:
        """What the crowd as it now is says of texts: the mixture of what the personas say.

        Args:
            probs: of the categories, per text and persona, [B, P, C].
            atoms: reward of each category, [C].

        Raises:
            ArgumentError: another number of personas, or probabilities that do not sum to 1.
        """
        probs = as_probs(probs)
        if probs.ndim != 3 or probs.shape[1] != self.num_personas:
            raise ArgumentError(f"probs must be [B, {self.num_personas}, C], received {list(probs.shape)}")
        return Categorical(torch.einsum("p,bpc->bc", self.posterior().to(probs), probs), atoms)

    def merge(self, other: PopulationUpdater) -> PopulationUpdater:
        """A new updater that has seen the votes of both, which must not overlap.

        Raises:
            ArgumentError: the other is this one, or has another prior, half-life, start or known raters.
        """
        if not isinstance(other, PopulationUpdater) or self._settings() != other._settings():
            raise ArgumentError("only updaters with the same prior, half_life, start and known raters merge")
        if other is self:
            raise ArgumentError("an updater cannot be merged with itself: every vote would count twice")
        merged = _from_settings(self._settings())
        merged._clock = max(self._clock, other._clock)
        for part in (self, other):
            left = remaining(self._prior.new_tensor(merged._clock - part._clock), self.half_life)
            merged._known = merged._known + part._known * left
            names: list[str | None] = [None] * len(part._weight)
            for name, row in part._rows.items():
                names[row] = name
            merged._add_rows(names, part._log_likelihood, part._weight * left)
        return merged

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the state, names of raters included, to one safetensors file, whole or not at all.

        Raises:
            ArtifactError: the path cannot be written.
        """
        tensors = {"known": self._known, "log_likelihood": self._log_likelihood, "weight": self._weight}
        write_state(path, _KIND, {**self._settings(), "clock": self._clock, "rows": self._rows}, tensors)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PopulationUpdater:
        """Reads what `save` wrote.

        Raises:
            ArtifactError: the file is missing, damaged or something else.
        """
        settings, tensors = read_state(path, _KIND)
        try:
            new = _from_settings(settings)
            new._clock, new._rows = check_number(settings["clock"], "clock"), dict(settings["rows"])
            new._known, new._weight = tensors["known"], tensors["weight"]
            new._log_likelihood = tensors["log_likelihood"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{path} is damaged ({error}); save the updater again") from error
        state = (new._known, new._weight, new._log_likelihood)
        shapes = (new._prior.shape, (len(new._weight),), (len(new._weight), new.num_personas))
        fits = all(tensor.shape == shape for tensor, shape in zip(state, shapes, strict=True))
        rows = sorted(new._rows.values())
        fits = fits and len(set(rows)) == len(rows) and set(rows) <= set(range(len(new._weight)))
        if not fits or not all(bool(tensor.isfinite().all()) for tensor in state):
            raise ArtifactError(f"{path} is damaged: its votes do not fit its prior; save the updater again")
        return new

    # -- inside --------------------------------------------------------------------------------------

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
        # The floor keeps the solution unique and inside; a millionth of a vote is no opinion.
        left = remaining(self._prior.new_tensor(self._clock - self.start), self.half_life)
        return (self._prior * left).clamp_min(1e-6)

    def _forget_until(self, now: float) -> None:
        left = remaining(self._prior.new_tensor(now - self._clock), self.half_life)
        self._known, self._weight, self._clock = self._known * left, self._weight * left, now

    def _add_rows(self, names: Sequence[str | None], log_likelihood: Tensor, weight: Tensor) -> None:
        """Adds votes at the clock: rows of one name are summed, rows without a name stand alone."""
        place, total = [], len(self._weight)
        for name in names:
            row = total if name is None else self._rows.setdefault(str(name), total)
            place.append(row)
            total += row == total
        rows = torch.tensor(place, dtype=torch.int64)
        grown = torch.nn.functional.pad(self._weight, (0, total - len(self._weight)))
        padded = torch.nn.functional.pad(self._log_likelihood, (0, 0, 0, total - len(self._weight)))
        self._weight = grown.index_add(0, rows, weight)
        self._log_likelihood = padded.index_add(0, rows, log_likelihood)
        self._drop_forgotten()

    def _drop_forgotten(self) -> None:
        keep = self._weight > _FORGOTTEN
        if bool(keep.all()):
            return
        keep[list(self._rows.values())] = True  # what a person has said tells who the person is
        place = keep.cumsum(0) - 1
        self._rows = {name: int(place[row]) for name, row in self._rows.items()}
        self._weight, self._log_likelihood = self._weight[keep], self._log_likelihood[keep]

    def _settings(self) -> dict[str, Any]:
        return {
            "prior": dict(zip(self.personas, self._prior.tolist(), strict=True)),
            "half_life": self.half_life,
            "start": self.start,
            "raters": {rater: self.personas[p] for rater, p in self._persona_of.items()},
        }


def _from_settings(settings: Mapping[str, Any]) -> PopulationUpdater:
    return PopulationUpdater(
        settings["prior"], settings["half_life"], raters=settings["raters"], start=settings["start"]
    )
