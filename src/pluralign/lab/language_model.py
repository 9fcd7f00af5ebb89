"""The lab's language model: a tiny decoder that learns the behaviour policy's texts from scratch.

In:  a seed and sizes.
Out: a model folder (weights, configuration, tokenizer) for transformers and `pl.backbones.load`; the model is
     the frozen backbone of reward models and the policy that is optimised.

Two Llama layers of width 128, 0.4 million weights, cross-entropy on the tokens of responses and their end
token, not on those of prompts. As in Hugging Face models, texts are formatted by the chat template.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pluralign.backbones.progress import Progress, reporter
from pluralign.checks import is_whole
from pluralign.errors import ConfigError
from pluralign.files import whole_folder
from pluralign.lab.sampling import draw_items
from pluralign.lab.tokenizer import build_tokenizer
from pluralign.lab.world import Message

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["LanguageModelConfig", "cached_language_model", "train_language_model"]


_REPORT = "training.json"
_WARM_UP = 0.05
_SORTED_TOGETHER = 32  # batches whose texts are sorted by length together, to reduce padding


@dataclass(frozen=True)
class LanguageModelConfig:
    """The size of the language model and its training.

    Attributes:
        seed: random seed of the texts, the initial weights and the order of batches.
        texts: number of responses of the behaviour policy, equally many for each of the 576 prompts.
        epochs: passes over them.
        batch_size: texts per step.
        learning_rate: maximum learning rate of AdamW, after a warm-up and before a cosine decay to 0.
        layers: number of layers of the decoder.
        width: width of its states.
        heads: number of attention heads; the width must be a multiple of twice this number.
        max_length: maximum number of tokens of prompt and response together.
    """

    seed: int = 0
    texts: int = 20_000
    epochs: int = 2
    batch_size: int = 64
    learning_rate: float = 2e-3
    layers: int = 2
    width: int = 128
    heads: int = 4
    max_length: int = 128

    def __post_init__(self) -> None:
        lowest = dict.fromkeys(asdict(self), 1) | {"seed": 0, "max_length": 64}
        for name, least in lowest.items():
            value = getattr(self, name)
            if name == "learning_rate":
                if not 0 < value < 1:
                    raise ConfigError(f"learning_rate must be in (0, 1); got {value}")
            elif not is_whole(value, least):
                raise ConfigError(f"{name} must be a whole number of at least {least}; got {value!r}")
        if self.width % (2 * self.heads):
            raise ConfigError(f"width must be a multiple of 2 x heads; got {self.width} and {self.heads}")


def cached_language_model(
    work: str | Path,
    config: LanguageModelConfig | None = None,
    *,
    progress: Progress | bool | None = None,
) -> Path:
    """Returns the folder of a trained model under `work`; trains the model if there is none.

    Args:
        work: a folder for files that can be computed again; it is created if necessary.
        config: None is the default.
        progress: as in `train_language_model`.

    Returns:
        A folder whose name is a digest of `config`. It is complete or does not exist.
    """
    config = config or LanguageModelConfig()
    described = json.dumps(asdict(config), sort_keys=True)
    folder = Path(work) / f"language-model-{hashlib.sha256(described.encode()).hexdigest()[:12]}"
    if not folder.is_dir():
        train_language_model(folder, config, progress=progress)
    return folder


def train_language_model(
    folder: str | Path,
    config: LanguageModelConfig | None = None,
    *,
    conversations: Sequence[Sequence[Message]] | None = None,
    words: Sequence[str] | None = None,
    progress: Progress | bool | None = None,
) -> dict[str, Any]:
    """Trains a language model from scratch on texts of the behaviour policy.

    The same configuration gives the same model, up to rounding if the number of threads differs. On two idle
    cores the default takes a minute or two.

    Args:
        folder: output folder; replaced if it exists.
        config: None is the default.
        conversations: other texts to learn, each of one turn; `texts` of the configuration has no effect
            then.
        words: their vocabulary, as in `build_tokenizer`.
        progress: called with (steps done, total steps); True for a bar; None for a bar on a terminal; False
            for nothing.

    Returns:
        The content of `training.json` in the folder: the configuration, the number of weights and of training
        tokens, and the mean cross-entropy per token over the first and the last tenth of the steps, in nats.
    """
    config = config or LanguageModelConfig()
    tokenizer = build_tokenizer(config.max_length, words)
    model = _build(config, tokenizer)
    sequences = _sequences(_texts(config) if conversations is None else conversations, tokenizer)
    losses, num_tokens = _train(model, sequences, config, progress)
    tenth = max(1, len(losses) // 10)
    report = {
        "config": asdict(config),
        "weights": model.num_parameters(),
        "steps": len(losses),
        "tokens": num_tokens,
        "first_loss": sum(losses[:tenth]) / tenth,
        "last_loss": sum(losses[-tenth:]) / tenth,
    }
    _save(Path(folder), model, tokenizer, report)
    return report


def _build(config: LanguageModelConfig, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    architecture = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.width,
        intermediate_size=8 * config.width // 3,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        max_position_embeddings=config.max_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model: PreTrainedModel = LlamaForCausalLM(architecture)
    return model


def _texts(config: LanguageModelConfig) -> list[list[Message]]:
    """The behaviour policy's responses to the lab's prompts."""
    items = draw_items(config.texts, "language model", config.seed, 0, 4, "behaviour")
    return [
        [*prompt.messages, {"role": "assistant", "content": response}]
        for prompt, response in zip(items.prompts, items.responses, strict=True)
    ]


def _sequences(
    conversations: Sequence[Sequence[Message]], tokenizer: PreTrainedTokenizerFast
) -> list[tuple[list[int], int]]:
    """Token ids of each conversation, and the start of its response."""
    rendered = tokenizer.apply_chat_template(list(conversations), tokenize=False)
    opening = tokenizer.convert_tokens_to_ids("<assistant>")
    rows: list[list[int]] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    return [(ids, ids.index(opening) + 1) for ids in rows]


def _train(
    model: PreTrainedModel,
    sequences: list[tuple[list[int], int]],
    config: LanguageModelConfig,
    progress: Progress | bool | None,
) -> tuple[list[float], int]:
    """Trains in place; returns the loss of each step and the number of training tokens."""
    pad_id = int(model.config.pad_token_id)
    batches = [
        batch
        for epoch in range(config.epochs)
        for batch in _batches([len(ids) for ids, _ in sequences], config, epoch)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
    warm_up = max(1, round(_WARM_UP * len(batches)))
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warm_up, total_iters=warm_up),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, len(batches) - warm_up)),
        ],
        milestones=[warm_up],
    )
    losses: list[float] = []
    num_tokens = 0
    model.train()
    with reporter(len(batches), progress, unit="steps", what="language model") as advance:
        for batch in batches:
            ids, labels = _collate([sequences[row] for row in batch], pad_id)
            # Padding is on the right, where a decoder does not attend to it: no mask is needed.
            loss = torch.nn.functional.cross_entropy(
                model(input_ids=ids, use_cache=False).logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            num_tokens += int((labels[:, 1:] >= 0).sum())
            advance(1)
    model.eval()
    return losses, num_tokens


def _batches(lengths: list[int], config: LanguageModelConfig, epoch: int) -> list[list[int]]:
    """Rows of each batch: random, but of similar length within a batch."""
    rng = random.Random(f"{config.seed}/{epoch}")
    order = rng.sample(range(len(lengths)), len(lengths))
    window = _SORTED_TOGETHER * config.batch_size
    batches = []
    for start in range(0, len(order), window):
        rows = sorted(order[start : start + window], key=lengths.__getitem__)
        batches += [rows[i : i + config.batch_size] for i in range(0, len(rows), config.batch_size)]
    rng.shuffle(batches)
    return batches


def _collate(rows: list[tuple[list[int], int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids padded on the right, and labels that are -100 outside the responses."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([row + [pad_id] * (longest - len(row)) for row, _ in rows])
    labels = [[-100] * start + row[start:] + [-100] * (longest - len(row)) for row, start in rows]
    return ids, torch.tensor(labels)


def _save(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, report: dict[str, Any]
) -> None:
    """Writes the folder completely or not at all."""
    with whole_folder(folder, may_replace=lambda path: True) as work:
        model.save_pretrained(work)
        tokenizer.save_pretrained(work)
        (work / _REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
