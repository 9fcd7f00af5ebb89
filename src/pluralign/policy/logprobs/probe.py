"""Tests of a policy before it is trained: its logits, its packing, its training mode.

In: an installed model as it will run (device, dtype, autocast, attention, shards), and the function that
computes log-probabilities of packed tokens. Out: whether the model separates packed sequences; a model whose
numbers would be wrong is refused. The tokens are random but always the same, and the random generators of the
process are not changed.

***How large a difference is a leak?** A fixed tolerance is either too strict for half precision or too loose,
so the tolerance is measured in each row. In a causal model a sequence does not depend on what follows it, so
the first sequence of a row differs from the same sequence run alone only by rounding, with the same kernels
and shapes. Later sequences may differ by a small multiple of that. Two comparisons are made, token by token:

- each sequence in the row with the same sequence alone, which shows all effects of a neighbour's presence
  (positions or states that continue from it, also those that act only through biases);
- each sequence with itself in a row with other tokens in its neighbours. Shapes and kernels are the same, so
  without a leak this difference is 0, or as small as between rows of a batch if experts are shared; it shows
  leaks that half precision would hide in the first comparison.

There are sequences shorter and longer than the kernel of all known convolutions (7) and longer than attention
windows up to 128; a larger window hides nothing, since a leak affects the nearest neighbour first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pluralign.backbones.row_blocks import has_row_blocks
from pluralign.errors import ArgumentError
from pluralign.policy.logprobs.loading import ordinary_tokens
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
    """A model to test.

    Attributes:
        model: the model that is called, possibly wrapped.
        inner: the language model inside it.
        score: log-probabilities of the tokens of each packed response, in the given order.
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
        """The device of token ids."""
        found: torch.device = self.inner.get_input_embeddings().weight.device
        return found

    def logits(self, ids: Sequence[int]) -> Tensor:
        """Logits of the model's own forward pass, float64 [tokens, vocabulary]."""
        found = self.model(input_ids=torch.tensor([ids], device=self.device), use_cache=False)
        logits: Tensor = found.logits[0].cpu().double()
        return logits

    def alone(self, sequences: Sequence[TokenPair]) -> list[Tensor]:
        """Log-probabilities [tokens] of each sequence, one call per sequence."""
        return self._of(sequences, 1)

    def row(self, sequences: Sequence[TokenPair], order: Sequence[int]) -> list[Tensor]:
        """The same with all sequences in one row, in this order."""
        found = self._of([sequences[i] for i in order], None)
        return [found[order.index(i)] for i in range(len(order))]

    def batch(self, sequences: Sequence[TokenPair]) -> list[Tensor]:
        """The same with a row for each, padded at the end, where a causal model does not attend."""
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
        return list(torch.split(found.cpu().double(), counts))

    def _of(self, sequences: Sequence[TokenPair], bin_tokens: int | None) -> list[Tensor]:
        packed = pack(sequences, bin_tokens).to(self.device)
        return [part.cpu().double() for part in self.score(self.model, packed)]


@torch.no_grad()
def check_logits(subject: Subject) -> list[Tensor]:
    """Compares log-probabilities of single sequences with those of the model's own logits.

    Returns:
        The log-probabilities, for the tests that follow.

    Raises:
        ArgumentError: they differ by more than the rounding of the logits, the model cannot be called, or
            the prediction of a token depends on later tokens.
    """
    sequences = _sequences(subject.inner, seed=0)
    inputs = [[*prompt, *response][:-1] for prompt, response in sequences]  # the inputs of the model
    with _evaluating(subject.inner), _watching_embeddings(subject) as dtypes:
        try:
            logits = [subject.logits(ids) for ids in inputs]
            longer = subject.logits([*inputs[0], sequences[0][1][-1]])[:-1]
            found = subject.alone(sequences)
        except _CANNOT as error:
            raise ArgumentError(
                f"{subject.name} returns no logits and states for token ids alone, or its head does not fit "
                f"its decoder ({type(error).__name__}: {error}); allowed: a causal language model that needs "
                "only text"
            ) from error
    largest, gap = 0.0, 0.0
    for own, (_, response), ours in zip(logits, sequences, found, strict=True):
        wanted = own.log_softmax(-1).gather(1, torch.tensor(response)[:, None])[:, 0]
        largest = max(largest, own.abs().max().item())
        gap = max(gap, _most(ours - wanted))
    # The model rounds its logits, that of the token and the largest, to its dtype; ours are float32.
    tolerance = largest * (_SUMS + 2 * _rounding(dtypes))
    if not gap <= tolerance:
        raise ArgumentError(
            f"{subject.name} changes its logits after the head, or its states before it, in a way that "
            f"its configuration does not state: log-probabilities of its logits differ by up to {gap:.3g} "
            f"nats per token from those of decoder and head (rounding: {tolerance:.2g}); allowed: a model "
            "whose logits are its head's, scaled or capped"
        )
    # The rounding of scans in chunks (Mamba 2) depends on the length, in float32 by about 1e-4 of the logits.
    gap, tolerance = _most(longer - logits[0]), largest * max(1e-3, 8 * _rounding(dtypes))
    if not gap <= tolerance:
        raise ArgumentError(
            f"{subject.name} is not causal: an additional token changes logits before it by up to {gap:.3g} "
            f"(rounding: {tolerance:.2g}); allowed: a model that predicts a token from those before it "
            "(is_decoder=True in configurations that have it)"
        )
    return found


@torch.no_grad()
def keeps_apart(subject: Subject, alone: Sequence[Tensor]) -> bool:
    """Whether sequences in one row have the same log-probabilities as alone, up to rounding.

    Args:
        subject: the model.
        alone: what `check_logits` returned.
    """
    if has_row_blocks(subject.inner.config):
        _log.info(
            "%s counts blocks of tokens from the start of a row; each sequence is run alone", subject.name
        )
        return False
    sequences, others = (_sequences(subject.inner, seed) for seed in (0, 1))
    even, odd = (
        [pair[i % 2 != kept] for i, pair in enumerate(zip(sequences, others, strict=True))] for kept in (0, 1)
    )
    with _evaluating(subject.inner):
        try:
            rows = [subject.row(sequences, order) for order in _ORDERS]
            of_even, of_odd = (subject.row(mixed, _ORDERS[0]) for mixed in (even, odd))
        except torch.OutOfMemoryError:
            raise
        except (*_CANNOT, RuntimeError) as error:
            _log.info("%s cannot run a packed row (%s); each sequence is run alone", subject.name, error)
            return False
        with _watching_embeddings(subject, rounded=True) as dtypes:
            shaken = subject.alone(sequences[:1])
            if _rounding(dtypes):
                shaken += subject.alone(sequences[1:])
    floor = _SUMS * max(one.abs().max().item() for one in alone)
    # Even if the first sequences happen to be bitwise equal, half precision still rounds the others once.
    floor_of_half = _gap(shaken, alone) if _rounding(dtypes) else 0.0
    ordered = list(zip(rows, _ORDERS, strict=True))
    rounding = max(_gap(row, alone, order[:1]) for row, order in ordered)
    moved = max(_gap(row, alone, order[1:]) for row, order in ordered)
    allowed = max(_TIMES_ROUNDING * rounding, floor_of_half, floor)
    rounding = _gap(of_even, rows[0], [0])
    moved_by_tokens = max(_gap(of_even, rows[0], [2, 4]), _gap(of_odd, rows[0], [1, 3]))
    if _TIMES_ROUNDING * rounding < moved_by_tokens and moved <= allowed and _rounding(dtypes):
        # The rounding of experts depends on the number of their tokens and on the order of these, which the
        # first sequence does not show: rows of a batch, which are independent, show how large it is.
        with _evaluating(subject.inner):
            own, of_even, of_odd = (subject.batch(some) for some in (sequences, even, odd))
        rounding = max(rounding, _gap(of_even, own, [0, 2, 4]), _gap(of_odd, own, [1, 3]))
    allowed_by_tokens = max(_TIMES_ROUNDING * rounding, floor)
    if moved <= allowed and moved_by_tokens <= allowed_by_tokens:
        return True
    _log.info(
        "%s does not separate packed sequences, so each is run alone: neighbours change a token's "
        "log-probability by up to %.2g nats (rounding: %.1g), and their tokens by up to %.2g (%.1g)",
        *(subject.name, moved, allowed, moved_by_tokens, allowed_by_tokens),
    )
    return False


@torch.no_grad()
def check_training_mode(subject: Subject, expected: Sequence[Tensor]) -> None:
    """Compares training mode with evaluation mode, for a model that is trained without dropout.

    Args:
        subject: the model.
        expected: what `check_logits` returned.

    Raises:
        ArgumentError: there is still randomness, or the two modes differ.
    """
    sequences = _sequences(subject.inner, seed=0)
    with _evaluating(subject.inner), _own_randomness(subject.device):
        again = subject.alone(sequences)
        subject.inner.train()
        # Dropout of whole layers may drop none the first time.
        gap = max(_gap(subject.alone(sequences), expected) for _ in range(3))
    floor = _SUMS * max(one.abs().max().item() for one in expected)
    # The calls are the same: two in evaluation mode differ only if sums on the device are not deterministic.
    allowed = max(_TIMES_ROUNDING * _gap(again, expected), floor)
    if not gap <= allowed:
        raise ArgumentError(
            f"{subject.name} in training mode differs from evaluation mode by up to {gap:.3g} nats "
            f"per token (rounding: {allowed:.1g}) although its dropout is switched off: it has another "
            "source of randomness. disable_dropout=False trains it anyway, with noise in its "
            "log-probabilities"
        )


def _sequences(inner: Any, seed: int) -> list[TokenPair]:
    """Random tokens."""
    config = inner.config.get_text_config()
    usable = ordinary_tokens(inner)
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


def _gap(found: Sequence[Tensor], expected: Sequence[Tensor], places: Sequence[int] | None = None) -> float:
    return max(_most(found[i] - expected[i]) for i in (range(len(expected)) if places is None else places))


def _most(differences: Tensor) -> float:
    """Largest absolute difference; infinite if one is NaN."""
    return differences.abs().nan_to_num(torch.inf).max().item()


def _rounding(dtypes: set[torch.dtype]) -> float:
    """Relative step of the coarsest dtype of the products; 0 for float32 and wider."""
    return max([0.0, *(torch.finfo(dtype).eps for dtype in dtypes if dtype.itemsize < 4)])


@contextmanager
def _watching_embeddings(subject: Subject, rounded: bool = False) -> Iterator[set[torch.dtype]]:
    """The dtypes in which the model computes, seen at its embeddings, which can be rounded to them."""
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
    """Evaluation mode inside the context; afterwards every module has its previous mode."""
    modes = [(module, module.training) for module in inner.modules()]
    inner.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Random draws inside the context do not affect the generators outside."""
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        yield
