"""The reader where templates, tokenizers and responses are awkward."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers.processors import ByteLevel

import pluralign as pl
from pluralign.conversations import ConversationReader, find_turn_end, stop_token_ids, tokenize
from pluralign.errors import ArgumentError
from tiny_tokenizers import make_tokenizer

ASK = [{"role": "user", "content": "hi"}]


def answered(text: str) -> list[dict[str, str]]:
    return [*ASK, {"role": "assistant", "content": text}]


def text_of(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def said(tokenizer: Any, one: Any) -> str:
    return text_of(tokenizer, one.ids[slice(*one.response_span)])


# ---- reasoning --------------------------------------------------------------------------------------------


def test_reasoning_that_a_template_strips_is_read_as_it_was_generated() -> None:
    tokenizer = make_tokenizer("r1")
    reasoned = "<think>\nhm\n</think>\nyes"
    one = tokenize(answered(reasoned), tokenizer)
    assert text_of(tokenizer, one.ids).endswith("<|Assistant|><think>\nhm\n</think>\nyes<|end_of_sentence|>")
    assert said(tokenizer, one) == "hm\n</think>\nyes"
    assert "leaves part of the response out" in one.changes[0]
    # Without the opening, which the policy was given and so did not draw.
    drawn = ConversationReader(tokenizer).read([answered("hm\n</think>\nyes")], generated=True)[0]
    assert drawn.ids == one.ids
    assert drawn.prompt_ids == ConversationReader(tokenizer).prompt_ids(ASK)
    # White space between the tag and the thought that is not the opening's.
    other = tokenize(answered("<think> hm</think>yes"), tokenizer)
    assert said(tokenizer, other) == "<think> hm</think>yes"


def test_a_short_answer_is_not_looked_for_in_the_end_mark() -> None:
    tokenizer = make_tokenizer("r1")
    for answer in ("of", "sentence", "s", "end"):
        one = tokenize(answered(answer), tokenizer)
        assert said(tokenizer, one) == answer
        assert text_of(tokenizer, one.end_ids) == "<|end_of_sentence|>"
        assert "opens a generated answer" in one.changes[0]


def test_an_empty_thought_that_a_template_adds_belongs_to_the_response() -> None:
    tokenizer = make_tokenizer("chatml-empty-thought")
    one = tokenize(answered("yes"), tokenizer)
    assert said(tokenizer, one) == "<think>\n\n</think>\n\nyes"
    assert one.prompt_ids == ConversationReader(tokenizer).prompt_ids(ASK)
    drawn = ConversationReader(tokenizer).read([answered("<think>\nhm")], generated=True, ended=False)[0]
    assert said(tokenizer, drawn) == "<think>\nhm"
    assert drawn.end_ids == []


# ---- boundaries -------------------------------------------------------------------------------------------


def test_a_drawn_response_never_changes_the_tokens_of_its_prompt() -> None:
    tokenizer = make_tokenizer("chatml")
    assert tokenizer.convert_tokens_to_ids("ĊĊ") is not None  # two line breaks make one token
    reader = ConversationReader(tokenizer)
    finished, drawn = (reader.read([answered("\n\nyes")], generated=how)[0] for how in (False, True))
    assert drawn.prompt_ids == reader.prompt_ids(ASK)
    assert said(tokenizer, drawn) == "\n\nyes"
    # A finished turn is the text's own tokens: the one that straddles the boundary is the response's.
    assert said(tokenizer, finished) == "\n\n\nyes"
    assert text_of(tokenizer, finished.ids) == text_of(tokenizer, drawn.ids)


@pytest.mark.parametrize("name", ["zephyr", "zephyr-always", "base-first"])
def test_a_response_has_the_tokens_that_it_has_behind_its_prompt(name: str) -> None:
    tokenizer = make_tokenizer(name)
    one = tokenize(answered("yes maybe"), tokenizer)
    alone = tokenizer("yes maybe", add_special_tokens=False)["input_ids"]
    assert one.ids[slice(*one.response_span)] != alone  # which begins with a blank
    assert said(tokenizer, one).strip() == "yes maybe"


@pytest.mark.parametrize("answer", ["yes", "\nyes", " \n yes", "  ", ""])
def test_a_mark_that_eats_white_space_is_not_the_responses(answer: str) -> None:
    from transformers import AddedToken

    loose = make_tokenizer("phi-3")
    both = make_tokenizer.__wrapped__("chatml")  # marks that eat it on both sides, and are not called special
    both.add_tokens([AddedToken(mark, lstrip=True, rstrip=True) for mark in ("<|user|>", "<|assistant|>")])
    both.chat_template = loose.chat_template.replace("<|end|>", "<|im_end|>")
    for tokenizer in (loose, both):
        one = tokenize(answered(answer), tokenizer)
        assert tokenizer.convert_ids_to_tokens(one.prompt_ids)[-1] == "<|assistant|>"
        assert said(tokenizer, one) == answer.lstrip()


def test_an_answer_of_one_character_is_a_response_though_its_blank_was_added() -> None:
    tokenizer = make_tokenizer.__wrapped__("mistral-tekken")
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = type(backend.pre_tokenizer)(add_prefix_space=True)
    backend.post_processor = ByteLevel(trim_offsets=True)  # says that "Ġd" begins behind the "d"
    for answer in ("d", "d e", "Es"):
        one = tokenize(answered(answer), tokenizer)
        assert said(tokenizer, one) == f" {answer}"
        assert text_of(tokenizer, one.prompt_ids).endswith("[/INST]")


def test_an_empty_response_and_an_empty_prompt() -> None:
    for name in ("chatml", "gemma", "base-bytes", "base-closes-texts"):
        tokenizer = make_tokenizer(name)
        one = tokenize(answered(""), tokenizer)
        assert one.response_span[0] == one.response_span[1]
        assert one.ids[-1] == stop_token_ids(tokenizer)[0]
        bare = tokenize(answered("yes")[1:], tokenizer)
        assert bare.prompt_span[1] > 0
        assert said(tokenizer, bare) == "yes"
    assert ConversationReader(make_tokenizer("base-bytes")).prompt_ids("") == [
        make_tokenizer("base-bytes").bos_token_id
    ]


def test_a_conversation_that_waits_for_its_answer_is_what_the_model_reads() -> None:
    tokenizer = make_tokenizer("llama-3")
    one = tokenize(ASK, tokenizer)
    assert one.ids == ConversationReader(tokenizer).prompt_ids(ASK)
    assert one.response_span == (len(one.ids), len(one.ids))
    assert one.end_ids == []


def test_a_tokenizer_without_offsets_gives_the_same_spans() -> None:
    tokenizer = make_tokenizer("chatml")

    class Slow:
        """The same tokenizer, as one that only knows texts and ids."""

        is_fast = False

        def __call__(self, texts: Any, **options: Any) -> Any:
            return tokenizer(texts, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

    for talk in (answered("yes maybe"), answered(""), answered("naïve café")):
        assert tokenize(talk, Slow()) == tokenize(talk, tokenizer)


# ---- what ends a turn -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "closes"),
    [
        ("chatml", "<|im_end|>", False),
        ("gemma", "<end_of_turn>", False),
        ("llama-2", " </s>", False),
        ("phi-3", "<|end|>", False),
        ("alpaca-without-end", "", True),
        ("base-bytes", "", True),
    ],
)
def test_what_ends_a_turn_comes_from_the_template(name: str, text: str, closes: bool) -> None:
    tokenizer = make_tokenizer(name)
    end = find_turn_end(tokenizer)
    assert end.text == text
    assert end.token_id == (tokenizer.eos_token_id if closes else None)


def test_sampling_stops_where_template_tokenizer_or_model_end_a_turn() -> None:
    tokenizer = make_tokenizer("gemma")
    turn, eos, other = (tokenizer.convert_tokens_to_ids(t) for t in ("<end_of_turn>", "<eos>", "<bos>"))
    assert stop_token_ids(tokenizer) == (turn, eos)
    assert stop_token_ids(tokenizer, SimpleNamespace(eos_token_id=[eos, other])) == (turn, eos, other)
    assert stop_token_ids(tokenizer, SimpleNamespace(eos_token_id=other)) == (turn, eos, other)
    assert stop_token_ids(tokenizer, None, ["<eos>"]) == (eos,)


def test_another_end_can_be_asked_for() -> None:
    tokenizer = make_tokenizer("gemma")
    one = ConversationReader(tokenizer, end_token="<eos>").read([answered("yes")])[0]
    assert text_of(tokenizer, one.ids).endswith("<start_of_turn>model\nyes<eos>")
    with pytest.raises(ArgumentError, match="not a token of this tokenizer"):
        ConversationReader(tokenizer, end_token="<nothing>")


# ---- what is refused, and calls of tools ------------------------------------------------------------------


@pytest.mark.parametrize(
    "messages",
    ["hi", [], {"role": "user", "content": "hi"}, [{"role": "assistant"}], [["user", "hi"]], None],
)
def test_what_is_not_a_conversation_is_refused(messages: Any) -> None:
    with pytest.raises(ArgumentError, match="conversation 0"):
        tokenize(messages, make_tokenizer("chatml"))


def test_calls_of_tools_are_read() -> None:
    def asked(city: str) -> list[dict[str, Any]]:
        call = {"type": "function", "function": {"name": "weather", "arguments": {"city": city}}}
        return [
            *ASK,
            {"role": "assistant", "content": "I look.", "tool_calls": [call]},
            {"role": "tool", "content": "12"},
            {"role": "assistant", "content": "12 degrees"},
        ]

    for name in ("chatml", "base-bytes"):
        tokenizer = make_tokenizer(name)
        first, second = (tokenize(asked(city), tokenizer) for city in ("Oslo", "Rome"))
        assert first.ids != second.ids
        assert '{"name": "weather", "arguments": {"city": "Oslo"}}' in text_of(tokenizer, first.ids)


def test_the_reader_is_public() -> None:
    assert pl.conversations.tokenize is tokenize
