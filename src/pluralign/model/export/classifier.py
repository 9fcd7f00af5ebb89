"""A decoder as a stock `*ForSequenceClassification` of transformers with one label.

In: a backbone with `last` pooling, and a linear form. Out: the folder, and its scores as its users compute
them.

The class has one linear layer `score` without a bias, on the last token that is not padding. It finds that by
the id of the pad token, so a pad token that may end a text is replaced. `problem_type = "regression"` keeps
pipelines from applying a sigmoid.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pluralign.backbones.load import loading_bar
from pluralign.conversations import ConversationReader
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.model.export.chat_text import exported_tokenizer, reads_as, save_tokenizer
from pluralign.model.export.facts import ExportFacts, Written
from pluralign.model.export.weights import num_bytes, plain_model
from pluralign.model.inputs import Conversation

__all__ = ["write"]

_LABEL = "reward"
_PAD = "<|pad|>"
_TRIED = (
    [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hello! How are you?"}],
    [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
        {"role": "assistant", "content": "four."},
    ],
)


def write(folder: Path, facts: ExportFacts) -> Written:
    """Writes the folder, and loads it again.

    Args:
        folder: an empty folder.
        facts: what is exported; the backbone reads conversations and pools their last token.

    Raises:
        ArgumentError: transformers has no such classifier for this architecture.
    """
    backbone = facts.backbone
    model = plain_model(backbone.model)
    tokenizer = exported_tokenizer(backbone.tokenizer, _TRIED, backbone.config.max_length)
    classifier = _classifier(model, facts.form.weight)
    _set_pad_token(tokenizer, classifier, _ends(backbone.tokenizer))
    shift = facts.form.shift
    classifier.config.pluralign = facts.record(shift)
    with loading_bar(num_bytes(backbone.model)):
        classifier.save_pretrained(folder, state_dict=_tensors(classifier), max_shard_size="5GB")
    save_tokenizer(tokenizer, folder)
    return Written(
        shift,
        _reader(folder, backbone),
        "The tokenizer takes the text that its chat template writes, and adds nothing to it.",
        "from transformers import AutoModelForSequenceClassification, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")\n'
        'model = AutoModelForSequenceClassification.from_pretrained("path/to/this/folder")\n'
        "texts = [tokenizer.apply_chat_template(one, tokenize=False) for one in conversations]\n"
        f'scores = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits[:, 0] + {shift!r}',
        "Where the backbone runs in half precision, stock classifiers round scores to two or three digits: "
        "fit with dtype float32, or allow more with tolerance",
    )


def _classifier(model: Any, weight: Tensor) -> Any:
    """The stock classifier around the backbone itself, which is not copied."""
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    config = copy.deepcopy(model.config)
    kind = type(config).__name__.removesuffix("Config")
    none = (
        f"transformers has no sequence classifier for {kind} with one linear layer on the last token; "
        "export needs one. Score in Python instead: pluralign.integrations.trl.RewardFunction, "
        "RewardModel.score or `pluralign score`"
    )
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ArgumentError(none)
    config.num_labels = 1
    config.id2label, config.label2id = {0: _LABEL}, {_LABEL: 0}
    config.problem_type = "regression"
    with torch.device("meta"):
        made: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)](config)
    prefix = made.base_model_prefix
    score: Any = getattr(made, "score", None)
    fits = (
        isinstance(score, nn.Linear)
        and getattr(score, "bias", 0) is None
        and score.in_features == len(weight)
    )
    if not fits or type(getattr(made, prefix, None)) is not type(model):
        raise ArgumentError(none)
    setattr(made, prefix, model)
    made.score = nn.Linear(len(weight), 1, bias=False)
    made.score.weight = nn.Parameter(weight.float()[None].cpu(), requires_grad=False)
    absent = [name for name, one in made.named_parameters() if one.is_meta]
    if absent:
        raise ArgumentError(none)
    return made.eval()


def _ends(tokenizer: Any) -> set[int]:
    """Ids of tokens that may be the last of a text."""
    ends = {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.sep_token_id}
    ends |= {one.end_ids[-1] for one in ConversationReader(tokenizer).read(_TRIED) if one.end_ids}
    return ends - {None}


def _set_pad_token(tokenizer: Any, classifier: Any, ends: set[int]) -> None:
    """Gives tokenizer and configuration a pad token that ends no text.

    In this order: the tokenizer's own, another special token that is made for it, and a new one.
    """
    kept = tokenizer.pad_token_id
    if kept is None or kept in ends:
        named = [
            token.content
            for place, token in tokenizer.added_tokens_decoder.items()
            if token.special and "pad" in token.content.lower() and place not in ends
        ]
        tokenizer.pad_token = named[0] if named else _unused(tokenizer)
    classifier.config.get_text_config().pad_token_id = tokenizer.pad_token_id


def _unused(tokenizer: Any) -> str:
    """A name that no token has."""
    name, known = _PAD, tokenizer.get_vocab()
    while name in known:
        name = f"<|{name[2:-2]}_|>"
    tokenizer.add_special_tokens({"pad_token": name})
    return name


def _tensors(classifier: Any) -> dict[str, Tensor]:
    """The weights; with rows of zeros for a pad token beyond the model's table, which is always masked."""
    tensors: dict[str, Tensor] = classifier.state_dict()
    table = classifier.get_input_embeddings().weight
    config = classifier.config.get_text_config()
    lacking = config.pad_token_id + 1 - len(table)
    if lacking > 0:
        same = [name for name, one in tensors.items() if one.data_ptr() == table.data_ptr()]
        for name in same:
            tensors[name] = torch.cat([tensors[name], table.new_zeros(lacking, table.shape[1])])
        config.vocab_size = len(table) + lacking
    return tensors


def _reader(folder: Path, backbone: Any) -> Any:
    """The scores of the written folder, as users of transformers get them."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    with loading_bar(num_bytes(backbone.model)):
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="auto")
    model = model.to(backbone.model.device).eval()

    @torch.inference_mode()
    def score(conversations: Sequence[Conversation]) -> Tensor:
        wanted = ConversationReader(backbone.tokenizer).read(conversations)
        for one, read in zip(conversations, wanted, strict=True):
            if not reads_as(tokenizer, one, read.ids):
                said = f": {'; '.join(read.changes)}" if read.changes else ""
                raise ArtifactError(
                    "the checkpoint was not kept: the model's own chat template gives the conversation that "
                    f"ends in {str(one[-1]['content'])[:40]!r} other tokens than this model reads{said}. "
                    "Leave such conversations out of the reference if the checkpoint will not see them, or "
                    "score in Python: pluralign.integrations.trl.RewardFunction, RewardModel.score"
                )
        texts = [
            tokenizer.apply_chat_template([dict(m) for m in one], tokenize=False) for one in conversations
        ]
        batch = tokenizer(texts, padding=True, return_tensors="pt").to(model.device)
        scores: Tensor = model(**batch).logits[:, 0]
        return scores.float()

    return score
