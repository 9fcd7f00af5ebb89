"""Back from what a chat template wrote to messages; what is not certain is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pluralign.conversations import TemplateInverse
from pluralign.errors import ArgumentError
from tiny_tokenizers import FAMILIES, make_tokenizer

# Whether a system message has a place of its own, and whether the families' texts can be read at all.
TEMPLATED = [name for name, family in FAMILIES.items() if family.template is not None]

PROMPTS: dict[str, list[dict[str, str]]] = {
    "one question": [{"role": "user", "content": "Hello, how are you?"}],
    "lines": [{"role": "user", "content": "A list:\n\n- one\n- two: 2+2=4"}],
    "several turns": [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Good day.\nWhat is it?"},
        {"role": "user", "content": "Nothing"},
        {"role": "assistant", "content": "Fine"},
        {"role": "user", "content": "So?"},
    ],
    "system": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "Hello"}],
    "system and turns": [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": "So?"},
    ],
}
RESPONSE = "I am fine thanks.\n\nAnd (you)?"


def opened(tokenizer: Any, prompt: list[dict[str, str]]) -> str:
    text: str = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    return text


@pytest.mark.parametrize("name", TEMPLATED)
@pytest.mark.parametrize("kind", PROMPTS)
def test_what_a_policy_wrote_is_read_back(name, kind):
    tokenizer, prompt = make_tokenizer(name), PROMPTS[kind]
    inverse, before = TemplateInverse(tokenizer), opened(tokenizer, prompt)
    expected = [*prompt, {"role": "assistant", "content": RESPONSE}]
    for end in ("", FAMILIES[name].end, FAMILIES[name].end + "\n", FAMILIES[name].end + FAMILIES[name].eos):
        assert inverse.conversation(before + RESPONSE + end, before) == expected, end
        assert inverse.conversation(before + RESPONSE + end) == expected, end


@pytest.mark.parametrize("name", TEMPLATED)
def test_a_finished_conversation_is_read_back(name):
    tokenizer = make_tokenizer(name)
    talk = [*PROMPTS["several turns"], {"role": "assistant", "content": RESPONSE}]
    found = TemplateInverse(tokenizer).conversation(tokenizer.apply_chat_template(talk, tokenize=False))
    if name == "chatml-empty-thought":  # which a text cannot tell from what the model wrote
        assert found[-1]["content"] == f"<think>\n\n</think>\n\n{RESPONSE}"
        found[-1] = talk[-1]
    if name == "alpaca-without-end":  # nothing says where a finished turn ends
        assert found[-1]["content"] == RESPONSE + "\n\n"
        found[-1] = talk[-1]
    assert found == talk


@pytest.mark.parametrize("name", TEMPLATED)
@pytest.mark.parametrize("place", ["response", "prompt"])
def test_marks_inside_contents_are_refused(name, place):
    tokenizer = make_tokenizer(name)
    turn = opened(tokenizer, [{"role": "user", "content": "Rate me"}])
    asked = {"role": "user", "content": f"Hello{turn}yes" if place == "prompt" else "Hello"}
    answer = f"I am fine{turn}yes" if place == "response" else RESPONSE
    before = opened(tokenizer, [asked])
    inverse = TemplateInverse(tokenizer)
    with pytest.raises(ArgumentError, match="a marker of the"):
        inverse.conversation(before + answer, before)


def test_a_beginning_that_decoding_added_or_left_out_is_no_difference():
    tokenizer = make_tokenizer("llama-3")
    before = opened(tokenizer, PROMPTS["one question"])
    inverse = TemplateInverse(tokenizer)
    expected = [*PROMPTS["one question"], {"role": "assistant", "content": RESPONSE}]
    bare = before.removeprefix(tokenizer.bos_token)
    for text, prompt in ((before, bare), (bare, before), (bare, bare), (bare, None)):
        assert inverse.conversation(text + RESPONSE, prompt) == expected


def test_padding_on_both_sides_is_left_out():
    tokenizer = copy.deepcopy(make_tokenizer("chatml"))
    tokenizer.pad_token = "<|endoftext|>"
    before = opened(tokenizer, PROMPTS["system"])
    pad = tokenizer.pad_token * 3
    found = TemplateInverse(tokenizer).conversation(f"{pad}{before}{RESPONSE}<|im_end|>{pad}")
    assert found == [*PROMPTS["system"], {"role": "assistant", "content": RESPONSE}]


def test_a_system_prompt_that_the_template_writes_by_itself_is_no_message():
    tokenizer = copy.deepcopy(make_tokenizer("chatml"))
    own = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nbe nice<|im_end|>\n{% endif %}"
    tokenizer.chat_template = own + tokenizer.chat_template
    inverse = TemplateInverse(tokenizer)
    for prompt in (PROMPTS["one question"], PROMPTS["system"], PROMPTS["several turns"]):
        found = inverse.conversation(opened(tokenizer, prompt) + RESPONSE)
        assert found == [*prompt, {"role": "assistant", "content": RESPONSE}]


@pytest.mark.parametrize(
    ("text", "prompt", "message"),
    [
        ("hello there", None, "nothing in the text marks the start of a response"),
        ("{before}yes", "something else", "does not begin with its prompt"),
        ("junk{before}yes", None, "not what the policy's chat template writes"),
        ("<|im_start|>tool\nx<|im_end|>\n{before}yes", None, "not what the policy's chat template writes"),
        ("{before}yes<|im_end|>\n<|im_start|>user\nmore", "{before}", "not certain where it ends"),
        ("{before}ye<|endoftext|>s", "{before}", "not certain where it ends"),
    ],
)
def test_what_is_not_certain_is_refused(text, prompt, message):
    tokenizer = make_tokenizer("chatml")
    before = opened(tokenizer, PROMPTS["one question"])
    filled = [None if one is None else one.replace("{before}", before) for one in (text, prompt)]
    with pytest.raises(ArgumentError, match=message):
        TemplateInverse(tokenizer).conversation(*filled)


def test_without_a_template_a_prompt_is_plain_text():
    inverse = TemplateInverse(make_tokenizer("base-bytes"))
    found = inverse.conversation("Hello, world<|endoftext|>", "Hello,")
    assert found == [{"role": "user", "content": "Hello,"}, {"role": "assistant", "content": " world"}]
    with pytest.raises(ArgumentError, match="has no chat template"):
        inverse.conversation("Hello, world")


def test_a_template_that_hides_messages_is_refused_at_once():
    tokenizer = copy.deepcopy(make_tokenizer("chatml"))
    tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    with pytest.raises(ArgumentError, match="does not write markers around every message"):
        TemplateInverse(tokenizer)
