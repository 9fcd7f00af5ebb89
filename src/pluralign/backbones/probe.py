"""A probe: which ways of running a model give a few short texts the same vectors as running each alone.

In: a `Forward` and the requested mode. Out: the correct `RunMode` closest to it, and a message if it differs.
The kind of model does not matter: the probe tests what the model computes, on the device and in the precision
in which it will run.

    reference      each text by itself, token ids only, as the model's authors run it
    padded batch   the same states, whatever the padding ids; otherwise padding on the other side, otherwise
                   batches of equal length, otherwise every text alone
    shared prompt  the same vectors from the prompt's cache; otherwise every text is run whole
    look-ahead     the states of a prompt must not depend on the response, if both are read in one pass

Models that fail some of these: FNet and Funnel read the padding; recurrent ones (RWKV, RecurrentGemma) carry
it over from the left; some have caches of their own (LFM2).

There are two tolerances. Rows of one batch that differ only in their padding go through the same kernels, so
they may hardly differ. Batches of different shapes use different kernels, and half precision then differs by
percents after many layers; if experts are chosen by a narrow margin, single tokens differ by more: so there
the typical token counts, and in float32 the worst one. A model that looks ahead is refused, so that must be
certain.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pluralign.backbones.batches import collate
from pluralign.backbones.distributed import is_first
from pluralign.backbones.run_mode import RunMode
from pluralign.backbones.shared_prompt import run_shared
from pluralign.backbones.tokens import Tokens
from pluralign.errors import ArgumentError, ArtifactError

if TYPE_CHECKING:
    from pluralign.backbones.forward import Forward

__all__ = ["Found", "find_mode", "looks_ahead"]

_log = logging.getLogger("pluralign.backbones")

_LONG, _SHORT = 40, 7
# Relative errors of a state: between rows that differ in their padding, and between batches of different
# shapes.
_SAME_SHAPE = {torch.float32: 2e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}
_OTHER_SHAPE = {torch.float32: 2e-3, torch.float16: 3e-2, torch.bfloat16: 1e-1}


class Found(NamedTuple):
    """What the probe found out in addition to the mode.

    Attributes:
        width: width of the model's states.
        shortest: fewest tokens of a text that the model can read.
    """

    width: int
    shortest: int


@torch.inference_mode()
def find_mode(
    forward: Forward, requested: RunMode, ids: NDArray[np.int64], max_length: int, name: str
) -> Found:
    """Sets `forward.mode` to the mode closest to `requested` that gives each text the vector it has alone.

    Args:
        forward: runs the texts.
        requested: the requested mode.
        ids: valid token ids for test texts.
        max_length: maximum tokens of a text.
        name: name of the model, for messages.

    Returns:
        What else was found out about the model.

    Raises:
        ArtifactError: the model does not return states for token ids, returns different ones each time, or
            looks ahead although it should read from left to right.
        ArgumentError: its states are not finite.
    """
    with _own_randomness(forward.model):
        probe = _Probe(forward, ids, max_length, name)
        for mode in _ladder(requested, forward.takes):
            if probe.fits(mode):
                break
        else:
            raise ArtifactError(
                f"{name} returns different numbers each time it reads a text, so its vectors are "
                "meaningless; choose another model"
            )
        forward.mode = mode
        probe.log_change(requested, mode)
        if forward.causal and probe.prompt_knows_response():
            raise ArtifactError(
                f"{name} looks ahead: the state of a prompt depends on the response after it, so prompt and "
                "response cannot be read in one pass; use context='response' or context='pair'"
            )
        if mode.share_prompts:
            why = probe.sharing_fails()
            if why is not None:
                forward.mode = replace(mode, share_prompts=False)
                _log_once(
                    logging.INFO, "%s cannot run a shared prompt once (%s); each text is run whole", name, why
                )
        return Found(probe.width, probe.shortest)


@torch.inference_mode()
def looks_ahead(model: Any) -> bool:
    """Whether the state of a token depends on later tokens; False if that cannot be tested.

    Args:
        model: a Hugging Face model without a task head.
    """
    rows = np.tile(np.arange(1, 13), (2, 1))
    rows[1, 6:] = rows[1, :5:-1]
    with _own_randomness(model):
        try:
            caching = {"use_cache": False} if "use_cache" in signature(model.forward).parameters else {}
            output = model(input_ids=torch.from_numpy(rows).to(model.device), **caching)
            states: Tensor = output.last_hidden_state
        except torch.OutOfMemoryError:
            raise
        except Exception:  # reported when vectors are computed
            return False
    return bool(_errors(states[1, :6], states[0, :6]).max() > _tolerance(_SAME_SHAPE, states.dtype))


class _Probe:
    """Test texts, the model's states for each alone, and the comparisons."""

    def __init__(self, forward: Forward, ids: Any, max_length: int, name: str) -> None:
        self._forward, self._name = forward, name
        draw = np.random.default_rng(0)
        long, short = min(_LONG, max_length), min(_SHORT, max_length)
        self._fillings = draw.choice(ids, 2)
        self._long = draw.choice(ids, long)
        self._short = draw.choice(ids, short)
        # The same prompts with different responses.
        self._prompts = (long - 9, short - 3)
        self._others = (
            np.append(self._long[: long - 9], draw.choice(ids, 3)),
            np.append(self._short[: short - 3], draw.choice(ids, 4)),
        )
        self._same_length = draw.choice(ids, long)
        self._alone = [self._reference(one) for one in (self._long, self._short)]
        self.width = int(self._alone[0].shape[-1])
        for self.shortest in range(1, short):
            self._shortest = draw.choice(ids, self.shortest)
            with suppress(ArtifactError):
                self._alone.append(self._reference(self._shortest))
                break
        else:
            self.shortest, self._shortest = short, self._short
            self._alone.append(self._alone[1])

    def fits(self, mode: RunMode) -> bool:
        """Whether states of a batch in this mode are those of the texts alone."""
        self._forward.mode = mode
        if mode.fill in ("right", "left"):
            batch = collate(
                [self._tokens(one) for one in (self._long, self._short, self._shortest, self._short)],
                pad_id=int(self._fillings[0]),
                side=mode.fill,
            )
            batch.input_ids[3][batch.attention_mask[3] == 0] = int(self._fillings[1])
        elif mode.fill == "equal":
            batch = collate([self._tokens(one) for one in (self._long, self._same_length)], pad_id=0)
        else:
            batch = collate([self._tokens(self._long)], pad_id=0)
        try:
            states = self._forward.states(batch).last_hidden_state
        except torch.OutOfMemoryError:
            raise
        except Exception:
            if (mode.fill, mode.mask, mode.positions) == ("alone", False, False):
                raise
            return False
        rows = [
            states[row, begin:stop]
            for row, (begin, stop) in enumerate(zip(batch.begin, batch.stop, strict=True))
        ]
        if len(rows) == 4 and not self._close(_SAME_SHAPE, rows[3], rows[1], worst=True):
            return False
        wanted = self._alone if len(rows) == 4 else self._alone[:1]
        return all(
            self._close(_OTHER_SHAPE, row, alone, worst=row.dtype == torch.float32)
            for row, alone in zip(rows, wanted, strict=False)
        )

    def prompt_knows_response(self) -> bool:
        """Whether the states of a prompt differ between two responses."""
        start = self._prompts[0]
        turned = np.append(self._long[:start], np.roll(self._long[start:][::-1], 1))
        batch = collate([self._tokens(one) for one in (self._long, turned)], pad_id=0)
        first, second = self._forward.states(batch).last_hidden_state[:, :start]
        return not self._close(_OTHER_SHAPE, second, first, worst=True)

    def sharing_fails(self) -> str | None:
        """What goes wrong if prompts are run once for two responses each; None if nothing does."""
        texts = [
            self._tokens(one, start)
            for one, start in (
                (self._long, self._prompts[0]), (self._others[0], self._prompts[0]),
                (self._short, self._prompts[1]), (self._others[1], self._prompts[1]),
            )
        ]  # fmt: skip
        plain = self._forward.vectors("conversation", texts)
        shared = torch.full_like(plain, torch.nan)
        try:
            for places, vectors in run_shared(self._forward, texts, [[0, 1], [2, 3]]):
                shared[places] = vectors
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # caches can be of any class, and raise anything
            return f"{type(error).__name__}: {error}"
        dtype = self._alone[0].dtype
        parts = zip(*(torch.split(one, self.width, 1) for one in (shared, plain)), strict=True)
        if all(self._close(_OTHER_SHAPE, one.to(dtype), other.to(dtype), worst=True) for one, other in parts):
            return None
        return "its cache gives different vectors"

    def log_change(self, requested: RunMode, found: RunMode) -> None:
        """Logs once if the model is not run in the requested mode."""
        if found.fill == requested.fill:
            return
        if found.fill == "right":
            _log_once(
                logging.WARNING,
                "%s reads padding on the left; texts are padded on the right instead",
                self._name,
            )
            return
        how = (
            "only texts of equal length are run together"
            if found.fill == "equal"
            else "each text is run alone"
        )
        message = "%s does not ignore padding; %s, which is slower"
        _log_once(logging.WARNING, message, self._name, how)

    def _reference(self, ids: Any) -> Tensor:
        try:
            states = self._forward.plain_states(collate([self._tokens(ids)], pad_id=0))[0]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise ArtifactError(
                f"{self._name} ({type(self._forward.model).__name__}) returns no states for token ids alone "
                f"({type(error).__name__}: {error}); needed: a text encoder or decoder"
            ) from error
        if states.ndim != 2 or len(states) != len(ids):
            raise ArtifactError(
                f"{self._name} returns states of shape {tuple(states.shape)} for {len(ids)} tokens; needed: "
                "one state per token"
            )
        if not bool(states.isfinite().all()):
            dtype = str(states.dtype).removeprefix("torch.")
            raise ArgumentError(
                f"{self._name} returned numbers that are not finite in {dtype}; load it with "
                f"dtype='bfloat16' or "
                "'float32'"
            )
        return states

    def _tokens(self, ids: Any, start: int = 0) -> Tokens:
        ids = ids.astype(np.int64)
        return Tokens(ids, np.zeros_like(ids) if self._forward.typed else None, start, False)

    def _close(self, tolerances: dict[Any, float], found: Tensor, expected: Tensor, *, worst: bool) -> bool:
        errors = _errors(found, expected.to(found.device))
        error = errors.max() if worst else errors.median()
        return bool(error <= _tolerance(tolerances, found.dtype))  # NaN is not close


def _ladder(requested: RunMode, takes: frozenset[str]) -> Iterator[RunMode]:
    """Modes from the requested one down to the reference itself."""
    masked, placed = "attention_mask" in takes, requested.positions and "position_ids" in takes
    if masked:
        for fill in dict.fromkeys((requested.fill, "right")):
            for positions in dict.fromkeys((placed, False)):
                yield replace(requested, fill=fill, mask=True, positions=positions)
    plain = replace(requested, share_prompts=False)
    for mask in dict.fromkeys((masked, False)):
        yield replace(plain, fill="equal", mask=mask, positions=False)
    for mask in dict.fromkeys((masked, False)):
        yield replace(plain, fill="alone", mask=mask, positions=False)


def _errors(found: Tensor, expected: Tensor) -> Tensor:
    """Relative error of each state, [T]."""
    found, expected = found.float(), expected.float()
    size = expected.norm(dim=-1)
    errors: Tensor = (found - expected).norm(dim=-1) / size.clamp_min(1e-3 * float(size.mean()) + 1e-30)
    return errors


def _tolerance(tolerances: dict[Any, float], dtype: torch.dtype) -> float:
    # Tensor cores round float32 products to 10 bits if that is allowed.
    short = (
        dtype == torch.float32
        and torch.cuda.is_available()
        and torch.get_float32_matmul_precision() != "highest"
    )
    return 5 * tolerances[dtype] if short else tolerances.get(dtype, tolerances[torch.bfloat16])


@contextmanager
def _own_randomness(model: Any) -> Iterator[None]:
    """Restores torch's random states afterwards."""
    devices = [model.device.index or 0] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def _log_once(level: int, message: str, *values: object) -> None:
    if is_first():
        _log.log(level, message, *values)
