"""Chat templates that lose, move or change what people wrote: right, told, or refused by name.

The templates are written for these tests after what published ones do; they are not copies.
"""

from __future__ import annotations

from typing import Any

import pytest

from pluralign.conversations import ConversationReader, stop_token_ids, tokenize
from pluralign.errors import ArgumentError
from tiny_tokenizers import make_tokenizer

TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
BRIEF = {"role": "system", "content": "be brief"}
CHATML = make_tokenizer("chatml").chat_template

# The system prompt stands before the last message of the user, if that is the last message of all.
SYSTEM_LAST = (
    "{% set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}{{ bos_token }}"
    "{% for m in messages if m['role'] != 'system' %}{% if m['role'] == 'user' %}[INST] "
    "{% if loop.last and system %}{{ system }}\n\n{% endif %}{{ m['content'] }}[/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
# Contents are lists of parts; a text shows nothing.
PARTS = (
    "{% for m in messages %}{{ m['role'] }}: {% for part in m['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def with_template(template: Any, family: str = "chatml") -> Any:
    tokenizer = make_tokenizer.__wrapped__(family)  # not the one that other tests share
    tokenizer.chat_template = template
    return tokenizer


def text(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("family", ["mistral", "mistral-tekken"])
def test_a_system_prompt_that_a_finished_turn_loses_is_read(family: str) -> None:
    tokenizer = with_template(SYSTEM_LAST, family)
    one = tokenize([BRIEF, *TALK], tokenizer)
    assert text(tokenizer, one.ids) == "<s>[INST] be brief\n\nhi[/INST] yes</s>"
    assert text(tokenizer, one.completion_ids).strip() == "yes</s>"
    assert "prompt before a finished turn differs" in one.changes[0]
    plain = tokenize(TALK, tokenizer)  # without it a finished turn stands as it is
    assert plain.ids == tokenizer.apply_chat_template(TALK, tokenize=True, return_dict=False)
    assert plain.changes == ()


def test_a_template_of_parts_is_given_parts() -> None:
    tokenizer = with_template(PARTS)
    one = tokenize([BRIEF, *TALK], tokenizer)
    assert (
        text(tokenizer, one.ids) == "system: be brief<|im_end|>\nuser: hi<|im_end|>\nassistant: yes<|im_end|>"
    )
    assert one.end_ids == [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert stop_token_ids(tokenizer)[0] == one.end_ids[0]
    assert text(tokenizer, ConversationReader(tokenizer).prompt_ids("hi")).startswith("user: hi<|im_end|>")


@pytest.mark.parametrize("answer", ["yes", "", "s", "end", "im"])
def test_a_template_that_never_shows_a_response_is_refused_whatever_the_response(answer: str) -> None:
    tokenizer = with_template(CHATML.replace("m['content']", "m['content'] | upper"))
    talk = [TALK[0], {"role": "assistant", "content": answer}]
    with pytest.raises(ArgumentError, match="does not show the response's text unchanged"):
        tokenize(talk, tokenizer)


def test_messages_that_a_template_does_not_show_are_reported() -> None:
    each = "{% for m in messages %}"
    tokenizer = with_template(CHATML.replace(each, "{% for m in messages if m.role != 'system' %}"))
    for generated in (False, True):
        (one,) = ConversationReader(tokenizer).read([[BRIEF, *TALK]], generated=generated)
        assert one.changes == ("it does not show every message of the role system as it is",)
    assert tokenize(TALK, tokenizer).changes == ()


def test_white_space_that_a_template_leaves_out_is_reported() -> None:
    tokenizer = make_tokenizer("llama-3")
    spaced = [TALK[0], {"role": "assistant", "content": " yes\n"}]
    assert tokenize(spaced, tokenizer).ids == tokenize(TALK, tokenizer).ids
    assert tokenize(spaced, tokenizer).changes == ("it leaves out white space around the response",)
    assert tokenize(TALK, tokenizer).changes == ()
    assert tokenize(spaced, make_tokenizer("chatml")).changes == ()


def test_a_date_that_a_template_writes_is_reported() -> None:
    dated = "{{ strftime_now('%d %b %Y') }}" + CHATML
    assert tokenize(TALK, with_template(dated)).changes == (
        "it writes today's date, so another day gives other tokens",
    )
    optional = (
        "{% if strftime_now is defined and day is defined %}{{ strftime_now('%d') }}{% endif %}" + CHATML
    )
    assert tokenize(TALK, with_template(optional)).changes == ()


def test_an_end_of_turn_that_is_not_called_special_ends_a_turn() -> None:
    from transformers import AddedToken

    tokenizer = with_template(CHATML, "base-bytes")
    tokenizer.add_tokens([AddedToken(mark, special=False) for mark in ("<|im_start|>", "<|im_end|>")])
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenize(TALK, tokenizer).end_ids == [end]
    assert stop_token_ids(tokenizer) == (end, tokenizer.eos_token_id)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ messages[0]['role'] + 1 }}", "can only concatenate"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ messages[0].image.url }}", "no attribute 'image'"),
        ("{% for m in messages %}", "Unexpected end of template"),
        ({"rag": CHATML, "tool_use": CHATML}, "no default specified"),
    ],
)
def test_a_template_that_fails_is_an_error_that_says_so(template: Any, said: str) -> None:
    with pytest.raises(
        ArgumentError, match=f"refuses a conversation with the roles user, assistant: .*{said}"
    ):
        tokenize(TALK, with_template(template))
    named = with_template({"default": CHATML, "tool_use": "{{ 1 / 0 }}"})
    assert tokenize(TALK, named).ids == tokenize(TALK, make_tokenizer("chatml")).ids


@pytest.mark.parametrize("tokenizer", [None, "gpt2"])
def test_what_is_not_a_tokenizer_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ArgumentError, match="pass a tokenizer of transformers"):
        tokenize(TALK, tokenizer)


def test_text_that_is_not_unicode_is_refused() -> None:
    for talk in (
        [TALK[0], {"role": "assistant", "content": "\ud83d"}],
        [{"role": "user", "content": "\ud83d"}],
    ):
        with pytest.raises(ArgumentError, match=r"message \d of conversation 0 is not Unicode"):
            tokenize(talk, make_tokenizer("chatml"))
