"""The tokenizer of an exported decoder: its chat template writes exactly the text that the backbone reads.

In: the backbone's tokenizer. Out: a copy for the usual calls of transformers,

    tokenizer(tokenizer.apply_chat_template(messages, tokenize=False))
    tokenizer.apply_chat_template(messages)

and both give the token ids that `pluralign.conversations` reads: no second begin-of-sequence token, nothing
after the end of the last turn (most templates write a line break there, and a classifier would score it),
and the end token where a template writes none. A tokenizer without a chat template gets one.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pluralign.conversations import Conversation, ConversationReader
from pluralign.conversations.turn_end import TurnEnd

__all__ = ["exported_tokenizer", "reads_as", "save_tokenizer"]

# `plain_prompt` and `plain_response` of `pluralign.conversations.messages`, as a template.
_PLAIN = (
    "{% set prompt = messages[:-1] if messages[-1]['role'] == 'assistant' else messages %}"
    "{% set ns = namespace(text='') %}"
    "{% for m in prompt %}{% set ns.text = ns.text + (m['content'] if prompt | length == 1 else "
    "m['role'] + ': ' + m['content'] + '\\n') %}{% endfor %}"
    "{% if prompt | length > 1 %}{% set ns.text = ns.text + 'assistant:' %}{% endif %}"
    "{{ ns.text }}"
    "{% if messages[-1]['role'] == 'assistant' %}{% set said = messages[-1]['content'] %}"
    "{% if ns.text[-1:].strip() and said[:1].strip() %}{{ ' ' if prompt | length > 1 else '\\n' }}{% endif %}"
    "{{ said }}{{ eos_token }}{% endif %}"
)


def exported_tokenizer(tokenizer: Any, conversations: Sequence[Conversation], max_length: int) -> Any:
    """The copy that gives the most of these conversations the ids that we read; the first of equals.

    Args:
        tokenizer: the backbone's, fast.
        conversations: to try.
        max_length: tokens that the backbone reads.
    """
    expected = ConversationReader(tokenizer).read(conversations)
    best, most = None, -1
    for candidate in _candidates(tokenizer):
        candidate.model_max_length = max_length
        candidate.padding_side = "right"
        candidate.model_input_names = ["input_ids", "attention_mask"]
        pairs = list(zip(conversations, expected, strict=True))
        found = sum(
            reads_as(candidate, one, read.ids) + _directly(candidate, one, read.ids) for one, read in pairs
        )
        if found > most:
            best, most = candidate, found
        if most == 2 * len(pairs):
            break
    return best


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Writes it so that it is loaded as it is, whatever its class was."""
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    for key in ("add_bos_token", "add_eos_token", "add_prefix_space", "legacy"):
        settings.pop(key, None)  # classes of their own would rebuild tokenizer.json from these
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    file.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def reads_as(tokenizer: Any, conversation: Conversation, ids: Sequence[int]) -> bool:
    """Whether an exported tokenizer reads the text of a conversation as `ids`."""
    text = _templated(tokenizer, conversation, tokenize=False)
    return text is not None and list(tokenizer(text, verbose=False)["input_ids"]) == list(ids)


def _directly(tokenizer: Any, conversation: Conversation, ids: Sequence[int]) -> bool:
    """Whether it gives the same ids without the intermediate text; some tokenizers do not."""
    found = _templated(tokenizer, conversation, tokenize=True, return_dict=False)
    return found is not None and list(found) == list(ids)


def _templated(tokenizer: Any, conversation: Conversation, **options: Any) -> Any:
    try:
        return tokenizer.apply_chat_template([dict(one) for one in conversation], **options)
    except Exception:  # a template is a program of its own, and may fail as one
        return None


def _candidates(tokenizer: Any) -> Iterator[Any]:
    """Copies of a tokenizer, the one that adds nothing to a text first."""
    reader = ConversationReader(tokenizer)
    template = _default(tokenizer.chat_template)
    opens = _adds_first(tokenizer)
    if template is None:
        # SentencePiece-like tokenizers put a blank before a text, and none after a first token that is
        # written.
        for start in ("{{ bos_token }}", "{{ bos_token + ' ' }}") if opens else ("",):
            yield _copy(tokenizer, start + _PLAIN, silent=True)
        yield _copy(tokenizer, _PLAIN, silent=False)
        return
    yield _copy(tokenizer, _closed(template, reader.end, tokenizer), silent=True)
    yield _copy(tokenizer, _closed(template, reader.end, tokenizer), silent=False)


def _default(template: Any) -> str | None:
    return template.get("default") if isinstance(template, Mapping) else template


def _closed(template: str, end: TurnEnd, tokenizer: Any) -> str:
    """The template, cut after the end of the last turn and ended where it does not do so itself."""
    closing = "" if end.token_id is None else tokenizer.convert_ids_to_tokens(end.token_id)
    if not end.rest and not closing:
        return template
    body = template.removesuffix("\n")  # which a template does not write where it ends
    cut = f"{{% set text = text[:-{len(end.rest)}] %}}" if end.rest else ""
    return (
        "{% set text %}\n" + body + "{{ '' }}{% endset %}"
        "{% if not add_generation_prompt and messages[-1]['role'] == 'assistant' %}"
        f"{{% if text.endswith({end.text + end.rest!a}) %}}{cut}{{% endif %}}"
        f"{{% set text = text + {closing!a} %}}"
        "{% endif %}{{ text }}"
    )


def _adds_first(tokenizer: Any) -> bool:
    first = tokenizer.bos_token_id
    return first is not None and tokenizer("a", verbose=False)["input_ids"][:1] == [first]


def _copy(tokenizer: Any, template: str, *, silent: bool) -> Any:
    """A copy with a template; silent if it adds no special tokens to a text, which has them written in it."""
    from tokenizers import processors

    made = copy.deepcopy(tokenizer)
    made.chat_template = template
    if silent:
        made.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="$A", pair="$A $B:1", special_tokens=[]
        )
    return made
