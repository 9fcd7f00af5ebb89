"""Which prompts may share a batch while a model generates: `find_sharing` tests it, `batches` applies it.

In: a causal language model in evaluation mode. Out: whether prompts of different lengths, padded on the left,
get the logits that each gets alone. Recurrent models may read the padding (RecurrentGemma, MiniMax), or mix
up the states of a batch (RWKV). A model that cannot generate, or generates from other logits than those of
its forward pass, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from pluralign.backbones.row_blocks import has_row_blocks
from pluralign.errors import ArtifactError
from pluralign.policy.logprobs.loading import num_positions, ordinary_tokens

__all__ = ["Sharing", "batches", "find_sharing"]

# Which prompts share a batch: of any length, of equal length, or none.
Sharing = Literal["any", "equal", "none"]

_LENGTHS = (23, 5, 11, 2)  # tokens of the prompts
_NEW = 3  # tokens generated after each
# Of logits, relative to the largest; scans in chunks (Mamba 2) round by 1e-4, and 16 steps of bfloat16.
_ROUNDING, _HALF_ROUNDING = 1e-3, 0.06


def batches(
    lengths: Sequence[int], size: int, sharing: Sharing, switch: int | None = None, new_tokens: int = 0
) -> list[list[int]]:
    """Positions of the prompts of each batch, shortest first.

    Args:
        lengths: tokens of each prompt.
        size: most prompts of a batch.
        sharing: which prompts may share one (`find_sharing`).
        switch: length at which the model's frequencies change for all texts of a call (`switch_length`):
            prompts that reach it while they are answered share a batch with their equals only.
        new_tokens: most tokens of an answer.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for place in sorted(range(len(lengths)), key=lambda one: lengths[one]):
        length = lengths[place]
        side = 0 if switch is None or length + new_tokens <= switch else 1 if length <= switch else 2
        equal = length if side == 1 or sharing != "any" else 0
        groups.setdefault((side, equal), []).append(place)
    size = 1 if sharing == "none" else size
    return [group[at : at + size] for group in groups.values() for at in range(0, len(group), size)]


class _Dictated:
    """A logits processor that keeps what it is given and allows one token only: the next of its row."""

    def __init__(self, tokens: Tensor) -> None:
        self._tokens = tokens
        self.seen: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        wanted = self._tokens[:, len(self.seen)].to(scores.device)
        self.seen.append(scores.detach().cpu().double())
        return torch.full_like(scores, -torch.inf).scatter_(1, wanted[:, None], 0.0)


@torch.no_grad()
def find_sharing(model: Any, pad_id: int, synced: bool = False) -> Sharing:
    """Which prompts may share a batch.

    Args:
        model: a causal language model that generates with no defaults of its own.
        pad_id: what fills a batch on the left.
        synced: processes share its weights, and all of them call this.

    Raises:
        ArtifactError: the model cannot generate, or what it generates from is not what its forward pass
            gives.
    """
    prompts, answers = _texts(model)
    try:
        alone = [
            _generated(model, prompts[i : i + 1], answers[i : i + 1], pad_id, synced)[0]
            for i in range(len(prompts))
        ]
        plain = [_plain(model, prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        together = _generated(model, prompts, answers, pad_id, synced)
        mirrored = [prompts[0], prompts[0][::-1]]  # of equal length
        equal = _generated(model, mirrored, answers[:2], pad_id, synced)[:1]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # models and caches are of any make, and so is what they raise
        raise ArtifactError(
            f"{type(model).__name__} cannot generate text ({type(error).__name__}: {error}); use another "
            "model, another version of transformers, or a server (--server)"
        ) from error
    if not all(bool(one.isfinite().all()) for one in (*alone, *plain)):
        return "any"  # reported where completions are sampled
    half = torch.is_autocast_enabled(model.device.type) or model.dtype.itemsize < 4
    largest = max(float(one.abs().max()) for one in plain)
    allowed = largest * (_HALF_ROUNDING if half else _ROUNDING)
    if (gap := _gap(alone, plain, half)) > allowed:
        raise ArtifactError(
            f"{type(model).__name__} generates from other logits than its forward pass gives (they differ by "
            f"up to {gap:.2g}, rounding is {allowed:.1g}), so samples of it would not be samples of the "
            "policy that is trained; use another model, or another version of transformers"
        )
    # Blocks are longer than the prompts here.
    if _gap(together, alone, half) <= allowed and not has_row_blocks(model.config):
        return "any"
    return "equal" if _gap(equal, alone[:1], half) <= allowed else "none"


def _gap(found: list[Tensor], expected: list[Tensor], half: bool) -> float:
    """Largest difference of logits; in half precision, where a close choice of experts moves single tokens,
    that of a typical token."""
    gaps = torch.cat([(a - b).abs().amax(-1) for a, b in zip(found, expected, strict=True)])
    return float((gaps.median() if half else gaps.max()).nan_to_num(torch.inf))


def _texts(model: Any) -> tuple[list[list[int]], list[list[int]]]:
    """Random prompts and answers."""
    usable = ordinary_tokens(model)
    draw = torch.Generator().manual_seed(0)
    room = max(1, (num_positions(model) or max(_LENGTHS) + _NEW) - _NEW)
    texts = [
        torch.randint(len(usable), (min(length, room) + _NEW,), generator=draw).tolist()
        for length in _LENGTHS
    ]
    texts = [[usable[place] for place in one] for one in texts]
    return [one[:-_NEW] for one in texts], [one[-_NEW:] for one in texts]


def _generated(
    model: Any, prompts: list[list[int]], answers: list[list[int]], pad_id: int, synced: bool
) -> list[Tensor]:
    """Logits [_NEW, vocabulary] of each prompt, padded on the left to the longest."""
    from transformers import GenerationConfig, LogitsProcessorList

    width = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (width - len(one)) + one for one in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts], device=model.device)
    dictated = _Dictated(torch.tensor(answers))
    model.generate(
        ids,
        attention_mask=mask,
        generation_config=GenerationConfig(do_sample=False, max_new_tokens=_NEW, pad_token_id=pad_id),
        logits_processor=LogitsProcessorList([dictated]),
        synced_gpus=synced,
    )
    return list(torch.stack(dictated.seen, dim=1))


def _plain(model: Any, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
    """The same by one forward pass over the whole text."""
    ids = torch.tensor([[*prompt, *answer[:-1]]], device=model.device)
    try:
        output = model(input_ids=ids, use_cache=False)
    except TypeError:  # models without a cache do not know the word
        output = model(input_ids=ids)
    logits: Tensor = output.logits[0, -_NEW:]
    return logits.cpu().double()
