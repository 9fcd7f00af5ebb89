"""Prompts and sides in TRL's ways of writing them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pluralign.data import conversation, load_pairs, load_ratings, read_table
from pluralign.errors import ArgumentError, DataError


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "Hi", "chosen": "A", "rejected": "B"}, [user("Hi")]),
        ({"chosen": "A", "rejected": "B"}, []),
        ({"prompt": [user("Hi")], "chosen": [assistant("A")], "rejected": [assistant("B")]}, [user("Hi")]),
        ({"chosen": [user("Hi"), assistant("A")], "rejected": [user("Hi"), assistant("B")]}, [user("Hi")]),
        ({"prompt": "Hi", "chosen": [assistant("A")], "rejected": [assistant("B")]}, [user("Hi")]),
        # the prompt that both lists repeat is said once
        (
            {
                "prompt": "Hi",
                "chosen": [user("Hi"), assistant("A")],
                "rejected": [user("Hi"), assistant("B")],
            },
            [user("Hi")],
        ),
        (
            {
                "prompt": [user("Hi")],
                "chosen": [user("Hi"), assistant("Yes?"), user("So"), assistant("A")],
                "rejected": [user("Hi"), assistant("Yes?"), user("So"), assistant("B")],
            },
            [user("Hi"), assistant("Yes?"), user("So")],
        ),
        (
            {
                "prompt": [user("Hi")],
                "chosen": [assistant("Yes?"), user("So"), assistant("A")],
                "rejected": [assistant("Yes?"), user("So"), assistant("B")],
            },
            [user("Hi"), assistant("Yes?"), user("So")],
        ),
    ],
)  # fmt: skip
def test_trl_preferences_give_prompt_chosen_rejected(
    row: dict[str, Any], prompt: list[dict[str, str]]
) -> None:
    (pair,) = load_pairs([row])
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == (prompt, "A", "B")


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (
            {"chosen": [user("Hi"), assistant("A"), user("x")], "rejected": [user("Hi"), assistant("B")]},
            "the roles",
        ),
        (
            {"chosen": [user("Hi"), assistant("A")], "rejected": "B"},
            "text on one side and messages on another",
        ),
        ({"chosen": [user("Hi"), assistant("A")], "rejected": []}, "an empty list"),
        ({"chosen": [user("Hi"), assistant("A")], "rejected": [user("Hi"), assistant("A")]}, "the same text"),
        (
            {"chosen": [user(""), assistant("A")], "rejected": [user(""), assistant("B")]},
            "no content in message 1",
        ),
        ({"chosen": [user("Hi"), assistant("A")], "rejected": [user("Hi"), assistant("")]}, "an empty text"),
    ],
)
def test_sides_that_are_not_responses_to_one_prompt_are_errors(row: dict[str, Any], found: str) -> None:
    with pytest.raises(DataError) as caught:
        load_pairs([row])
    assert found in str(caught.value)


def test_a_response_may_be_a_conversation() -> None:
    row = {
        "prompt": None,
        "response": [user("Hi"), assistant("A")],
        "ratings": 3,
        "attribute": "a",
        "scale": [1, 5],
    }
    (rating,) = load_ratings([row])
    assert (rating["prompt"], rating["response"]) == ([user("Hi")], "A")


def test_message_keys_that_no_model_sees_are_counted() -> None:
    row = {"prompt": [{**user("Hi"), "name": "Ada", "tool_calls": None}], "chosen": "A", "rejected": "B"}
    dataset, report = read_table([row], "pairs")
    assert dataset[0]["prompt"] == [user("Hi")]
    assert report.notes == {"message key 'name' left out": 1}


def test_conversation_joins_prompt_and_response() -> None:
    prompt = [user("Hi")]
    assert conversation(prompt, "A") == conversation("Hi", "A") == [user("Hi"), assistant("A")]
    assert prompt == [user("Hi")]
    assert conversation([], "A") == conversation("", "A") == [assistant("A")]
    with pytest.raises(ArgumentError, match="received list"):
        conversation(prompt, [assistant("A")])  # type: ignore[arg-type]


# ---- prompts and sides that overlap in part ---------------------------------------------------------------


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


@pytest.mark.parametrize(
    ("prompt", "before", "joined"),
    [
        ([system("s"), user("Q")], [user("Q")], [system("s"), user("Q")]),
        ([user("P"), assistant("r"), user("Q")], [user("Q")], [user("P"), assistant("r"), user("Q")]),
        ("Q ", [user("Q")], [user("Q")]),
        ("caf\u00e9?\r\nyes", [user("cafe\u0301?\nyes")], [user("cafe\u0301?\nyes")]),
        ([user("Q")], [system("s"), user("Q")], [system("s"), user("Q")]),
        ([user("Q")], [user("Q"), assistant("r"), user("Q")], [user("Q"), assistant("r"), user("Q")]),
    ],
)
def test_what_prompt_and_sides_have_in_common_is_reported_once(
    prompt: Any, before: list[dict[str, str]], joined: list[dict[str, str]]
) -> None:
    row = {"prompt": prompt, "chosen": [*before, assistant("A")], "rejected": [*before, assistant("B")]}
    (pair,) = load_pairs([row])
    assert pair["prompt"] == joined


def test_a_last_turn_behind_other_turns_is_refused() -> None:
    sides = {name: [system("t"), user("Q"), assistant(name)] for name in ("chosen", "rejected")}
    with pytest.raises(DataError, match="a last turn that the sides also contain"):
        load_pairs([{"prompt": [system("s"), user("Q")], **sides}])


# ---- messages that an export turned into text -------------------------------------------------------------

SPELLINGS = {
    "json": '[{"role": "user", "content": "hi"}]',
    "python": "[{'role': 'user', 'content': 'hi'}]",
    "content first": "[{'content': 'hi', 'role': 'user'}]",
    "numpy": "[{'role': 'user', 'content': 'hi'}\n {'role': 'assistant', 'content': 'yes'}]",
    "numpy's name": "array([{'role': 'user', 'content': 'hi'}], dtype=object)",
    "json twice": json.dumps('[{"role": "user", "content": "hi"}]'),
    "byte order mark": '\ufeff[{"role": "user", "content": "hi"}]',
    "another key first": '[{"name": null, "role": "user", "content": "hi"}]',
    "one message": '{"role": "user", "content": "hi"}',
    "in an object": '{"messages": [{"role": "user", "content": "hi"}]}',
    "sharegpt": '[{"from": "human", "value": "hi"}]',
    "sharegpt in python": "{'conversations': [{'from': 'human', 'value': 'hi'}]}",
}


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
def test_messages_stored_as_text_are_messages(text: str) -> None:
    side = '[{"role": "assistant", "content": "%s"}]'
    table, report = read_table([{"prompt": text, "chosen": side % "A", "rejected": side % "B"}], "pairs")
    assert table[0]["prompt"][0] == user("hi")
    assert (table[0]["chosen"], table[0]["rejected"]) == ("A", "B")
    assert "stored as text" in next(iter(report.notes))


@pytest.mark.parametrize(
    "text",
    [
        '[{"role": "user", "content": "hi',
        "[{'role': 'user', 'content': open('x')}]",
        "[{'role':" + "[" * 9999,
    ],
    ids=["cut off", "a call", "deep"],
)
def test_messages_spelled_illegally_are_refused_not_taken_as_text(text: str) -> None:
    with pytest.raises(DataError, match="cut off or malformed"):
        load_pairs([{"prompt": text, "chosen": "A", "rejected": "B"}])


def test_text_that_is_about_json_stays_text() -> None:
    text = '[1, 2] is a list, and [{"name": 1}] another; what is {"role": "user"}?'
    (pair,) = load_pairs([{"prompt": text, "chosen": "A", "rejected": "B"}])
    assert pair["prompt"] == [user(text)]


@pytest.mark.parametrize(
    "text",
    [
        '[{"content": "a table", "price": 3}]',
        '{"role": "engineer", "content": "builds"}',
        '[{"from": "Oslo", "value": 3}, {"from": "Rome", "value": 4}]',
        '[{"role": "admin", "name": "bob"}] - what is that?',
        '{"messages": "none", "from": "me"}',
    ],
)
def test_objects_of_users_and_programs_stay_text(text: str) -> None:
    (pair,) = load_pairs([{"prompt": "Q", "chosen": text, "rejected": "B"}])
    assert pair["chosen"] == text


@pytest.mark.parametrize(
    ("prompt", "side"),
    [
        ([{"from": "human", "value": "Q"}], {"from": "gpt", "value": "%s"}),
        ({"role": "user", "content": "Q"}, {"role": "assistant", "content": "%s"}),
        ({"conversations": [user("Q")]}, [user("Q"), {"from": "gpt", "value": "%s", "role": None}]),
    ],
)
def test_messages_with_other_keys_and_single_ones_are_messages(prompt: Any, side: Any) -> None:
    sides = {name: json.loads(json.dumps(side) % said) for name, said in (("chosen", "A"), ("rejected", "B"))}
    (pair,) = load_pairs([{"prompt": prompt, **sides}])
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == ([user("Q")], "A", "B")


# ---- parts, roles and calls of tools ----------------------------------------------------------------------


def test_text_parts_are_joined_and_other_parts_refused() -> None:
    part, sides = {"type": "text", "text": "hi"}, {"chosen": "A", "rejected": "B"}
    (pair,) = load_pairs(
        [{"prompt": [{"role": "user", "content": [part, part]}], "chosen": "A", "rejected": "B"}]
    )
    assert pair["prompt"] == [user("hihi")]
    image = {"type": "image_url", "image_url": {"url": "x"}}
    with pytest.raises(DataError, match="list of parts"):
        load_pairs([{"prompt": [{"role": "user", "content": [part, image]}], **sides}])


def test_developer_messages_are_system_messages() -> None:
    prompt = [{"role": "developer", "content": "s"}, user("Q")]
    (pair,) = load_pairs([{"prompt": prompt, "chosen": "A", "rejected": "B"}])
    assert pair["prompt"] == [system("s"), user("Q")]


def test_tool_calls_distinguish_conversations() -> None:
    def ask(city: str, arguments: Any) -> list[dict[str, Any]]:
        call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        return [user("weather?"), {"role": "assistant", "content": None, "tool_calls": [call]}, user(city)]

    rows = [
        {"prompt": ask("-", arguments), "response": "12", "attribute": "h", "ratings": [1], "scale": [1, 5]}
        for arguments in ({"city": "Oslo"}, '{"city": "Oslo"}', {"city": "Rome"})
    ]
    table, report = read_table(rows, "ratings")
    texts = [row["prompt"][1]["content"] for row in table]
    assert texts[0] == '<tool_call>\n{"name": "f", "arguments": {"city": "Oslo"}}\n</tool_call>'
    assert texts[0] == texts[1] != texts[2]
    assert report.notes == {"tool calls were written into the message's text": 3}


@pytest.mark.parametrize(
    "calls",
    [
        {"tool_calls": [{"name": "f", "arguments": {"c": 1}}]},
        {"tool_calls": '[{"function": {"name": "f", "arguments": "{\\"c\\": 1}"}}]'},
        {"tool_calls": {"name": "f", "arguments": {"c": 1}}},
        {"function_call": {"name": "f", "arguments": '{"c": 1}'}},
    ],
)
def test_calls_in_other_spellings_are_the_same_calls(calls: dict[str, Any]) -> None:
    prompt = [
        user("Q"),
        {"role": "assistant", "content": None, **calls},
        {"role": "function", "content": "2"},
    ]
    (pair,) = load_pairs([{"prompt": prompt, "chosen": "A", "rejected": "B"}])
    written = '<tool_call>\n{"name": "f", "arguments": {"c": 1}}\n</tool_call>'
    assert pair["prompt"] == [user("Q"), assistant(written), {"role": "tool", "content": "2"}]


def test_a_response_may_be_a_call() -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    sides = {
        name: [user("Q"), {"role": "assistant", "content": text, "tool_calls": [call]}]
        for name, text in (("chosen", "A"), ("rejected", None))
    }
    (pair,) = load_pairs([sides])
    written = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    assert (pair["chosen"], pair["rejected"]) == (f"A\n{written}", written)
