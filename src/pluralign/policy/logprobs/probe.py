"""What a policy is tried for before it is trained: its logits, its packing, its training mode.

In: an installed model as it will run (device, dtype, autocast, attention, shards), and the function that
gives log-probabilities of packed tokens. Out: whether packed sequences stay apart; a model whose numbers
would be wrong is refused. It knows nothing about trainers or data. The tokens are random, the same every
time, and the generators of the process stay as they are.

**How large a difference is a leak?** A fixed tolerance is either too strict for half precision or too lax,
so each row is its own yardstick. No causal model lets a sequence see what comes after it, so the first
sequence of a row differs from itself run alone by rounding only, in the very kernels and shapes in question.
Later sequences may differ by a small multiple of that, and no more. Two things are compared, token by token:

- each sequence with itself run alone, which shows whatever a neighbour's presence does (positions that count
  on, states that go on, also those that run only through biases);
- each sequence with itself where only its neighbours' tokens are others. Shapes and kernels are the same, so
  without a leak this difference is 0, or as small as in rows of a batch where experts are shared; it shows
  leaks that half precision would hide in the first comparison.

The sequences are shorter and longer than the kernel of any known convolution (7) and longer than windows of
attention up to 128; a larger window hides nothing, since a leak comes from the nearest neighbour first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.policy.logprobs.packing import Packed, TokenPair, pack

__all__ = ["Subject", "check_logits", "check_training_mode", "keeps_apart"]

_log = logging.getLogger("pluralign.policy")

_LENGTHS = (41, 2, 13, 5, 24)  # tokens; the first grows with the model's windows
_ORDERS = ((0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 4, 0, 1, 3), (1, 3, 4, 2, 0))
_LARGEST_WINDOW = 128
_WINDOWS = (
    "sliding_window",
    "attention_window_size",
    "local_attention",
    "window_size",
    "attention_chunk_size",
)
_TIMES_ROUNDING = 4.0
_EPS = torch.finfo(torch.float32).eps
_SUMS = 64 * _EPS  # float32 sums in another order, relative to what is summed
_CANNOT = (TypeError, ValueError, AttributeError, NotImplementedError, IndexError, KeyError)


@dataclass(frozen=True)
class Subject:
    """A model to be tried.

    Attributes:
        model: as it is called, wrapped or not.
        inner: the language model inside.
        score: log-probabilities of the tokens of each packed response, in the order given.
    """

    model: Any
    inner: Any
    score: Callable[[Any, Packed], list[Tensor]]

    @property
    def name(self) -> str:
        """Its class, for messages."""
        return type(self.inner).__name__

    @property
    def device(self) -> torch.device:
        """Where token ids go."""
        found: torch.device = self.inner.get_input_embeddings().weight.device
        return found

    def logits(self, ids: Sequence[int]) -> Tensor:
        """By the model's own call, float64 [tokens, vocabulary]."""
        found = self.model(input_ids=torch.tensor([ids], device=self.device), use_cache=False)
        logits: Tensor = found.logits[0].double().cpu()
        return logits

    def alone(self, sequences: Sequence[TokenPair]) -> list[Tensor]:
        """Log-probabilities [tokens] of each sequence in a call of its own."""
        return self._of(sequences, 1)

    def row(self, sequences: Sequence[TokenPair], order: Sequence[int]) -> list[Tensor]:
        """The same with all sequences in one row, where they stand in this order."""
        found = self._of([sequences[i] for i in order], None)
        return [found[order.index(i)] for i in range(len(order))]

    def batch(self, sequences: Sequence[TokenPair]) -> list[Tensor]:
        """The same with a row for each, filled up at its end, where a causal model does not look."""
        counts = [len(response) for _, response in sequences]
        width = max(counts)
        ids = torch.zeros(len(sequences), width, dtype=torch.long)
        for row, (prompt, response) in zip(ids, sequences, strict=True):
            row[: len(response)] = torch.tensor([*prompt, *response][:-1])
        places = torch.cat([row * width + torch.arange(count) for row, count in enumerate(counts)])
        tokens = torch.tensor([token for _, response in sequences for token in response])
        ids, places, tokens = (tensor.to(self.device) for tensor in (ids, places, tokens))
        found: Tensor = self.model(
            input_ids=ids, position_ids=ids, predictors=places, tokens=tokens, bins=[width], alone=True
        )
        return list(torch.split(found.double().cpu(), counts))

    def _of(self, sequences: Sequence[TokenPair], bin_tokens: int | None) -> list[Tensor]:
        packed = pack(sequences, bin_tokens).to(self.device)
        return [part.double().cpu() for part in self.score(self.model, packed)]


@torch.no_grad()
def check_logits(subject: Subject) -> None:
    """Compares log-probabilities of single sequences with those of the model's own logits.

    Raises:
        ArgumentError: they differ by more than the rounding of the logits, the model cannot be called, or
            what it says of a token depends on what comes after.
    """
    sequences = _sequences(subject.inner, seed=0)
    inputs = [[*prompt, *response][:-1] for prompt, response in sequences]  # as they are run
    with _evaluating(subject.inner), _watching_embeddings(subject) as dtypes:
        try:
            logits = [subject.logits(ids) for ids in inputs]
            longer = subject.logits([*inputs[0], sequences[0][1][-1]])[:-1]
            found = subject.alone(sequences)
        except _CANNOT as error:
            raise ArgumentError(
                f"{subject.name} gives no logits and states for token ids alone, or its head does not fit "
                f"its decoder ({type(error).__name__}: {error}); allowed: a causal language model that needs "
                "nothing but text"
            ) from error
    largest, gap = 0.0, 0.0
    for own, (_, response), ours in zip(logits, sequences, found, strict=True):
        wanted = own.log_softmax(-1).gather(1, torch.tensor(response)[:, None])[:, 0]
        largest = max(largest, own.abs().max().item())
        gap = max(gap, _most(ours - wanted))
    # The model rounds its logits, the token's and the largest, to its dtype; ours stay in float32.
    tolerance = largest * (_SUMS + 2 * _rounding(dtypes))
    if not gap <= tolerance:
        raise ArgumentError(
            f"{subject.name} changes its logits after the head, or its states before it, in a way that "
            f"its configuration does not say: log-probabilities of its logits differ by up to {gap:.3g} "
            f"nats per token from those of decoder and head (rounding: {tolerance:.2g}); allowed: a model "
            "whose logits are its head's, scaled or capped"
        )
    # Scans in chunks (Mamba 2) round by a length's remainder, in float32 by about 1e-4 of the logits.
    gap, tolerance = _most(longer - logits[0]), largest * max(1e-3, 8 * _rounding(dtypes))
    if not gap <= tolerance:
        raise ArgumentError(
            f"{subject.name} is not causal: one token more moves logits before it by up to {gap:.3g} "
            f"(rounding: {tolerance:.2g}); allowed: a model that predicts a token from those before it "
            "(is_decoder=True in configurations that have it)"
        )


@torch.no_grad()
def keeps_apart(subject: Subject) -> bool:
    """Whether sequences in one row have the log-probabilities that they have alone, up to rounding."""
    sequences, others = (_sequences(subject.inner, seed) for seed in (0, 1))
    even, odd = (
        [pair[i % 2 != kept] for i, pair in enumerate(zip(sequences, others, strict=True))] for kept in (0, 1)
    )
    with _evaluating(subject.inner):
        alone = subject.alone(sequences)
        try:
            rows = [subject.row(sequences, order) for order in _ORDERS]
            of_even, of_odd = (subject.row(mixed, _ORDERS[0]) for mixed in (even, odd))
        except torch.OutOfMemoryError:
            raise
        except (*_CANNOT, RuntimeError) as error:
            _log.info("%s takes no packed row (%s); each sequence is run alone", subject.name, error)
            return False
        with _watching_embeddings(subject, rounded=True) as dtypes:
            shaken = subject.alone(sequences)
    floor = _SUMS * max(one.abs().max().item() for one in alone)
    # Where the first sequences happen to come out bit for bit, half precision still rounds the others once.
    floor_of_half = _gap(shaken, alone) if _rounding(dtypes) else 0.0
    ordered = list(zip(rows, _ORDERS, strict=True))
    rounding = max(_gap(row, alone, order[:1]) for row, order in ordered)
    moved = max(_gap(row, alone, order[1:]) for row, order in ordered)
    allowed = max(_TIMES_ROUNDING * rounding, floor_of_half, floor)
    rounding = _gap(of_even, rows[0], [0])
    moved_by_tokens = max(_gap(of_even, rows[0], [2, 4]), _gap(of_odd, rows[0], [1, 3]))
    if _TIMES_ROUNDING * rounding < moved_by_tokens and moved <= allowed and _rounding(dtypes):
        # Products of experts are rounded by how many tokens an expert has, and by their places among these,
        # which the first sequence keeps: rows of a batch, which cannot touch, show how much that is.
        with _evaluating(subject.inner):
            own, of_even, of_odd = (subject.batch(some) for some in (sequences, even, odd))
        rounding = max(rounding, _gap(of_even, own, [0, 2, 4]), _gap(of_odd, own, [1, 3]))
    allowed_by_tokens = max(_TIMES_ROUNDING * rounding, floor)
    if moved <= allowed and moved_by_tokens <= allowed_by_tokens:
        return True
    _log.info(
        "%s does not keep packed sequences apart, and each is run alone: neighbours move a token's "
        "log-probability by up to %.2g nats (rounding: %.1g), and what they say by up to %.2g (%.1g)",
        *(subject.name, moved, allowed, moved_by_tokens, allowed_by_tokens),
    )
    return False


@torch.no_grad()
def check_training_mode(subject: Subject) -> None:
    """Compares training mode with evaluation mode, for a model that is to be trained without dropout.

    Raises:
        ArgumentError: something random is left, or the two modes are two models.
    """
    sequences = _sequences(subject.inner, seed=0)
    with _evaluating(subject.inner), _own_randomness(subject.device):
        wanted, again = subject.alone(sequences), subject.alone(sequences)
        subject.inner.train()
        # A whole layer that is dropped now and then may not be dropped at the first time.
        gap = max(_gap(subject.alone(sequences), wanted) for _ in range(3))
    floor = _SUMS * max(one.abs().max().item() for one in wanted)
    # The calls are the same: two in evaluation mode differ by what sums on a device differ by between calls.
    allowed = max(_TIMES_ROUNDING * _gap(again, wanted), floor)
    if not gap <= allowed:
        raise ArgumentError(
            f"{subject.name} in training mode differs from itself in evaluation mode by up to {gap:.3g} nats "
            f"per token (rounding: {allowed:.1g}) although its dropout is switched off: it has a random part "
            "of another kind. disable_dropout=False trains it all the same, with noise in its "
            "log-probabilities"
        )


def _sequences(inner: Any, seed: int) -> list[TokenPair]:
    """Random tokens of the vocabulary; special ones, which may stand for images, are left out."""
    config = inner.config.get_text_config()
    rows = inner.get_input_embeddings().weight.shape[0] or config.vocab_size
    special = {
        value
        for one in (inner.config, config)
        for key, value in vars(one).items()
        if key.endswith(("token_id", "token_index")) and isinstance(value, int)
    }
    usable = [token for token in range(min(rows, config.vocab_size)) if token not in special]
    windows = [getattr(config, name, None) for name in _WINDOWS]
    longest = max([_LENGTHS[0], *(w + 9 for w in windows if isinstance(w, int) and w <= _LARGEST_WINDOW)])
    positions = getattr(config, "max_position_embeddings", None) or longest
    random = torch.Generator().manual_seed(seed)
    sequences: list[TokenPair] = []
    for length in (longest, *_LENGTHS[1:]):
        places = torch.randint(len(usable), (max(2, min(length, positions)),), generator=random).tolist()
        tokens = [usable[place] for place in places]
        sequences.append((tokens[:1], tokens[1:]))
    return sequences


def _gap(found: Sequence[Tensor], wanted: Sequence[Tensor], places: Sequence[int] | None = None) -> float:
    return max(_most(found[i] - wanted[i]) for i in (range(len(wanted)) if places is None else places))


def _most(differences: Tensor) -> float:
    """Largest absolute difference; infinite where one is not a number."""
    return differences.abs().nan_to_num(torch.inf).max().item()


def _rounding(dtypes: set[torch.dtype]) -> float:
    """Relative step of the coarsest dtype in which products were made; 0 for float32 and wider."""
    return max([0.0, *(torch.finfo(dtype).eps for dtype in dtypes if dtype.itemsize < 4)])


@contextmanager
def _watching_embeddings(subject: Subject, rounded: bool = False) -> Iterator[set[torch.dtype]]:
    """In which dtypes the model computes, seen where input comes in, which is rounded once more if so."""
    dtypes: set[torch.dtype] = set()
    signs = torch.Generator().manual_seed(0)

    def see(module: Any, inputs: Any, output: Tensor) -> Tensor | None:
        kind = output.device.type
        dtypes.add(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else output.dtype)
        if not rounded:
            return None
        sign = 2.0 * torch.randint(2, output.shape, generator=signs).to(output) - 1.0
        return output * (1.0 + _rounding(dtypes) * sign)

    hook = subject.inner.get_input_embeddings().register_forward_hook(see)
    try:
        yield dtypes
    finally:
        hook.remove()


@contextmanager
def _evaluating(inner: Any) -> Iterator[None]:
    """Evaluation mode inside, and afterwards every module in the mode that it had."""
    modes = [(module, module.training) for module in inner.modules()]
    inner.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """What is drawn inside is not missing outside."""
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        yield
