"""The lab's tokenizer: one token per word of the closed vocabulary, for any Hugging Face model.

In:  the vocabulary of `world`.
Out: a fast tokenizer with a chat template and the special tokens `<bos>`, `<eos>`, `<pad>`, `<unk>`,
     `<user>`, `<assistant>` and `<system>`.

A conversation reads `<bos> <user> how do i dry the pan ? <assistant> use steam . <eos>`. Every turn of the
assistant ends with `<eos>`, so that its log-probability includes the decision to stop. The lab's own texts
are restored exactly from their tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pluralign.lab.world import VOCABULARY

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["build_tokenizer"]

_PAD, _BOS, _EOS, _UNKNOWN = "<pad>", "<bos>", "<eos>", "<unk>"
_ROLES = ("<user>", "<assistant>", "<system>")
_MARKS = (".", "?")
_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "<{{ message['role'] }}>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def build_tokenizer(max_length: int = 256, words: Sequence[str] | None = None) -> PreTrainedTokenizerFast:
    """Builds the tokenizer, always the same.

    Args:
        max_length: maximum number of tokens of a model, stored with the tokenizer.
        words: another vocabulary, of words between spaces; None for the lab's.

    Returns:
        A tokenizer whose ids are, in order, those of the special tokens, of `.` and `?`, and of
        `VOCABULARY`. Words outside it become `<unk>`; case is ignored.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    of_task = (*_MARKS, *VOCABULARY) if words is None else tuple(words)
    entries = (_PAD, _BOS, _EOS, _UNKNOWN, *_ROLES, *of_task)
    ids = {token: index for index, token in enumerate(entries)}
    backend = Tokenizer(models.WordLevel(ids, unk_token=_UNKNOWN))
    backend.normalizer = normalizers.Lowercase()
    between = pre_tokenizers.Whitespace if words is None else pre_tokenizers.WhitespaceSplit
    backend.pre_tokenizer = between()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=_PAD,
        bos_token=_BOS,
        eos_token=_EOS,
        unk_token=_UNKNOWN,
        extra_special_tokens=list(_ROLES),
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer
