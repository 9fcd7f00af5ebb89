"""A backbone: conversations in, one vector for the response and one for the prompt out.

In: conversations and optionally a cache. Out: `Embeddings`. Weights are loaded in `load.py`, and trained ones
described in `tuned.py`.

    conversations -> distinct texts -> (cache | tokens -> batches -> states -> pooled vectors) -> rows

Under `accelerate launch` or `torchrun` the processes divide the texts among themselves (`distributed.py`).
"""

from __future__ import annotations

import copy
import inspect
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pluralign.backbones.cache import EmbeddingCache
from pluralign.backbones.config import CONVERSATION_FORMAT, BackboneConfig
from pluralign.backbones.distributed import ALONE, find_world
from pluralign.backbones.embeddings import Embeddings, EmbeddingStats, no_embeddings
from pluralign.backbones.filling import Filler
from pluralign.backbones.forward import Forward
from pluralign.backbones.plan import plan
from pluralign.backbones.pooling import pooled_width
from pluralign.backbones.probe import find_mode
from pluralign.backbones.progress import Progress, reporter
from pluralign.backbones.row_blocks import has_row_blocks
from pluralign.backbones.run_mode import RunMode
from pluralign.backbones.surface import COLUMNS, surface
from pluralign.backbones.threads import choose_num_threads, torch_threads
from pluralign.backbones.tokens import Reader, Tokens
from pluralign.backbones.tuned import Tuning
from pluralign.backbones.vocabulary import Vocabulary
from pluralign.checks import check_choice
from pluralign.conversations import Conversation, check, has_prompt, response_text
from pluralign.errors import ArgumentError

__all__ = ["Backbone"]

_log = logging.getLogger(__name__)

# For fewer texts than this the machine's load is not measured.
_MANY = 64


class Backbone:
    """A language model that embeds conversations. Usually made by `load`.

    Args:
        model: a Hugging Face model without a task head, in evaluation mode.
        tokenizer: its fast tokenizer.
        config: everything that determines the vectors.
        fingerprint: identity of the weights and tokenizer; None for a model that exists only in memory,
            whose embeddings cannot be cached.
        num_threads: torch threads on a CPU while embedding; `auto` for the cores that are idle then (see
            `choose_num_threads`), None for torch's current setting.
        max_tokens_per_batch: maximum tokens of a padded batch; None for 4,096 on a CPU, 32,768 elsewhere.
        padding_side: `right` or `left`, for decoders; changes vectors only by rounding. Models that would
            read the padding are run in another way, which is logged (`probe`).
        share_prompts: run a prompt once for all its responses (decoders whose cache allows it).
        distributed: if `accelerate launch` or `torchrun` started several processes, divide the texts among
            them; False to let each process embed its own conversations. May be changed at any time.

    Attributes:
        prompt_size: D, the width of the prompt's vector.
        response_size: W, the width of the response's vector.
        tuning: how its weights were trained on from those of its name; None where they were not.

    Raises:
        ArgumentError: an option is invalid, or the model's states are not finite.
        ArtifactError: the model does not return states for token ids, returns different ones each time, or
            looks ahead although `config.context` needs a causal model.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        config: BackboneConfig,
        *,
        fingerprint: str | None = None,
        num_threads: int | Literal["auto"] | None = None,
        max_tokens_per_batch: int | None = None,
        padding_side: str = "right",
        share_prompts: bool = True,
        distributed: bool = True,
    ) -> None:
        check_choice("padding_side", padding_side, ("right", "left"))
        if num_threads not in (None, "auto") and not (isinstance(num_threads, int) and num_threads >= 1):
            raise ArgumentError(f"num_threads is {num_threads!r}; allowed: at least 1, 'auto', None")
        if max_tokens_per_batch is not None and max_tokens_per_batch < 1:
            raise ArgumentError(f"max_tokens_per_batch is {max_tokens_per_batch}; at least 1 is needed")
        self.model = model
        self.tokenizer = tokenizer
        self.config = config
        self.fingerprint = fingerprint
        self.distributed = distributed
        self.tuning: Tuning | None = None
        self._on_cpu = model.device.type == "cpu"
        self._num_threads = num_threads
        self._threads = num_threads if isinstance(num_threads, int) else None
        causal = config.context == "conversation"
        takes = inspect.signature(model.forward).parameters
        typed = not causal and "token_type_ids" in tokenizer.model_input_names and _has_segments(model, takes)
        self._reader = Reader(tokenizer, config.max_length, with_types=typed)
        self._vocabulary = Vocabulary(model, tokenizer)
        blocks = has_row_blocks(model.config)  # which start with the text where nothing precedes it
        mode = RunMode(
            "left" if causal and padding_side == "left" and not blocks else "right",
            mask="attention_mask" in takes,
            positions=causal and "position_ids" in takes,
            share_prompts=share_prompts
            and causal
            and not blocks
            and "past_key_values" in takes
            and not getattr(model, "_is_stateful", False),
        )
        self._may_share = mode.share_prompts
        self._forward = Forward(
            model,
            pooling=config.pooling,
            causal=causal,
            typed=typed,
            pad_id=self._vocabulary.pad_id,
            max_tokens=max_tokens_per_batch or (4096 if self._on_cpu else 32768),
            mode=mode,
        )
        with torch_threads(self._threads) if self._on_cpu and self._threads else nullcontext():
            found = find_mode(
                self._forward, mode, self._vocabulary.ordinary_ids(), config.max_length, config.name_or_path
            )
        self.prompt_size, self._vocabulary.shortest = found.width, found.shortest
        self._pooled_size = pooled_width(self.prompt_size, config.pooling)
        self.response_size = self._pooled_size + config.surface * len(COLUMNS) + config.length

    @property
    def run_mode(self) -> RunMode:
        """How the model is run, as determined by the probe."""
        return self._forward.mode

    def describe(self) -> dict[str, Any]:
        """The description stored in a model folder; `load(**description)` returns the same backbone, or
        refuses."""
        reading = {"reading": CONVERSATION_FORMAT} if self.config.context == "conversation" else {}
        return {**asdict(self.config), "fingerprint": self.fingerprint, **reading}

    def with_model(self, model: Any, *, fingerprint: str | None, tuning: Tuning | None) -> Backbone:
        """The same backbone with other weights of the same architecture; it is not probed again.

        Args:
            model: as for the class.
            fingerprint: of its weights; None where they still change.
            tuning: how they were trained.
        """
        new = copy.copy(self)
        new.model, new.fingerprint, new.tuning = model, fingerprint, tuning
        new._forward = copy.copy(self._forward)
        new._forward.model = model
        return new

    def read(self, conversations: Sequence[Conversation]) -> list[tuple[str, Tokens]]:
        """What the model reads for the response of each conversation: the kind of text and its tokens.

        Args:
            conversations: as for `embed`.

        Raises:
            ArgumentError: a conversation does not have the right shape, or has tokens unknown to the model.
        """
        listed = [check(one, row) for row, one in enumerate(conversations)]
        context = self.config.context
        kinds = ["response" if context == "pair" and not has_prompt(one) else context for one in listed]
        found: dict[int, tuple[str, Tokens]] = {}
        for kind in dict.fromkeys(kinds):
            rows = [row for row, own in enumerate(kinds) if own == kind]
            for row, text in zip(rows, self._reader.read(kind, [listed[row] for row in rows]), strict=True):
                found[row] = (kind, self._vocabulary.checked(text, kind, row))
        return [found[row] for row in range(len(listed))]

    def pooled(self, texts: Sequence[tuple[str, Tokens]], max_tokens: int | None = None) -> Tensor:
        """Pooled vectors of responses, with gradients where they are on; each batch has texts of like length.

        Args:
            texts: from `read`.
            max_tokens: maximum tokens of a padded batch; None for that of this object.

        Returns:
            `[N, P]` float32 where the model is: the first columns of `embed`'s response vectors.
        """
        order: list[int] = []
        parts = []
        for kind in dict.fromkeys(kind for kind, _ in texts):
            rows = [row for row, (own, _) in enumerate(texts) if own == kind]
            tokens = [texts[row][1] for row in rows]
            for batch in self._forward.batches(tokens, max_tokens):
                parts.append(
                    self._forward.pooled(kind, [tokens[one] for one in batch])[:, : self._pooled_size]
                )
                order += [rows[one] for one in batch]
        return torch.cat(parts)[torch.tensor(order, device=parts[0].device).argsort()]

    @property
    def pooled_size(self) -> int:
        """P, the width of a response's vector without the columns for surface and length."""
        return self._pooled_size

    def embed(
        self,
        conversations: Sequence[Conversation],
        *,
        cache: EmbeddingCache | None = None,
        progress: Progress | bool | None = None,
    ) -> Embeddings:
        """Vectors of conversations; each distinct text is run at most once.

        Decoders read prompt and response in one pass: the response's vector is pooled from the response's
        tokens, the prompt's is the state of its last token. Encoders read the prompt on its own and pool
        it by mean; the response alone or as a pair with its prompt (`config.context`). A prompt without
        text gets the zero vector.

        With several processes (see `distributed`) all must call this with the same conversations; each runs
        and caches its share, and all get the whole result.

        Args:
            conversations: message lists `[{"role": ..., "content": ...}, ...]` that end in the response.
            cache: where vectors are looked up and stored, batch by batch; None for no cache.
            progress: called with (done, total) texts, only in the first process; True for a bar, False for
                none, None for a bar on a terminal if it takes longer than a few seconds.

        Returns:
            `Embeddings` in the order of `conversations`, float32 on the CPU.

        Raises:
            ArgumentError: a conversation does not have this shape, the model's states are not finite,
                or the processes were given different conversations.
            CacheError: the cache cannot be read or written.
            RunError: another process failed.
        """
        started = time.perf_counter()
        if cache is not None and self.fingerprint is None:
            raise ArgumentError(
                "this backbone has no fingerprint, so its embeddings cannot be cached; use cache=None"
            )
        world = find_world() if self.distributed else ALONE
        with world.step():
            conversations = [check(one, row) for row, one in enumerate(conversations)]
            tables = plan(conversations, self.config, self._identity())
            result = no_embeddings(len(conversations), self.response_size, self.prompt_size)
            pooled = replace(result, response=result.response[:, : self._pooled_size])
            filler = Filler(
                self.config,
                self._reader,
                self._vocabulary,
                self._forward,
                cache,
                world,
                sizes=(self._pooled_size, self.prompt_size),
                may_share=self._may_share,
            )
            absent = [filler.look_up(table, pooled) for table in tables]
        world.check_same(key for table in tables for key in table.keys)
        missing = [np.flatnonzero(world.any(one)) for one in absent]
        stats = result.stats
        stats.texts = sum(len(table) for table in tables)
        stats.computed = sum(len(texts) for texts in missing)
        stats.cached = stats.texts - stats.computed
        if stats.computed:
            shown = progress if world.rank == 0 else False
            with self._use_threads(stats), reporter(stats.computed, shown) as advance:
                for table, texts in zip(tables, missing, strict=True):
                    filler.compute(table, texts, conversations, pooled, advance)
        if self.config.context == "conversation":
            empty = [not has_prompt(one) for one in conversations]
            result.prompt[torch.tensor(empty, dtype=torch.bool)] = 0.0
        if self.config.surface:
            columns = surface([response_text(one) for one in conversations])
            result.response[:, self._pooled_size : self._pooled_size + len(COLUMNS)] = columns
        if self.config.length:  # the cache stores the number of tokens with each vector
            result.response[:, -1] = result.num_tokens.float().log1p()
        stats.truncated = int(result.truncated.sum())
        changes, self._reader.changes = self._reader.changes, Counter()
        if changes and world.rank == 0:
            how = "; ".join(f"{count} times, {change}" for change, count in changes.items())
            _log.warning("the chat template of %s changes conversations: %s", self.config.name_or_path, how)
        if stats.truncated and world.rank == 0:
            _log.warning(
                "%d of %d conversations have a text longer than max_length=%d tokens and were truncated",
                stats.truncated, stats.conversations, self.config.max_length,
            )  # fmt: skip
        stats.seconds = time.perf_counter() - started
        return result

    def _identity(self) -> str:
        """The fingerprint for cache keys: vectors stored before such models were probed are not used."""
        fill = self._forward.mode.fill
        return (self.fingerprint or "") + (f" {fill}" if fill in ("equal", "alone") else "")

    def _use_threads(self, stats: EmbeddingStats) -> AbstractContextManager[None]:
        if not self._on_cpu:
            return nullcontext()
        if self._num_threads == "auto" and (self._threads is None or stats.computed >= _MANY):
            self._threads = choose_num_threads()
        stats.num_threads = self._threads or torch.get_num_threads()
        return torch_threads(stats.num_threads)


def _has_segments(model: Any, takes: Mapping[str, Any]) -> bool:
    """Whether the model has segment embeddings; without them, GPT-2 and XLM would read segment ids as
    words."""
    size = getattr(model.config, "type_vocab_size", None)
    return "token_type_ids" in takes and isinstance(size, int) and size > 1
