"""Plain text of Human and Assistant turns: read where it is certain, left alone where it is not."""

from __future__ import annotations

import pytest

from pluralign.data import load_pairs, load_ratings, read_table
from pluralign.data.implicit_prompt import read_implicit_prompt

START = "\n\nHuman: Why?\n\nAssistant: Because.\n\nHuman: Really?\n\nAssistant:"


def test_a_conversation_of_several_turns() -> None:
    rows, report = read_table([{"chosen": START + " Yes.", "rejected": START + " No.\n"}], "pairs")
    assert rows["prompt"][0] == [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "Because."},
        {"role": "user", "content": "Really?"},
    ]
    assert (rows["chosen"][0], rows["rejected"][0]) == ("Yes.", "No.\n")
    assert report.notes == {"prompt read from the turns of Human and Assistant in the text": 1}


def test_line_ends_of_windows() -> None:
    text = START.replace("\n", "\r\n")
    rows = load_pairs([{"chosen": text + " Yes.", "rejected": text + " No."}])
    assert [len(prompt) for prompt in rows["prompt"]] == [3]


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ("Yes.", "No."),
        (START + " Yes.", "No."),
        (START + " Yes.", START),  # nothing is said
        (START + " Yes.", START.replace("Why", "How") + " No."),
        (START + " Yes.\n\nHuman: And?\n\nAssistant: Well.", START + " No."),
        (START + " Yes.\n\nHuman: And?", START + " No.\n\nHuman: And?"),
        ("Some text.\n\nHuman: Why?\n\nAssistant: A", "Some text.\n\nHuman: Why?\n\nAssistant: B"),
        ("\n\nAssistant: Hello\n\nHuman: A", "\n\nAssistant: Hello\n\nHuman: B"),
        ("\n\nHuman:\n\nAssistant: A", "\n\nHuman:\n\nAssistant: B"),
    ],
)
def test_what_is_not_certain_stays_text(chosen: str, rejected: str) -> None:
    assert read_implicit_prompt({"chosen": chosen, "rejected": rejected}) is None
    rows, report = read_table([{"chosen": chosen, "rejected": rejected}], "pairs")
    assert (rows["prompt"][0], rows["chosen"][0], rows["rejected"][0]) == ([], chosen, rejected)
    assert report.notes == {}


def test_a_given_prompt_is_not_replaced() -> None:
    rows = load_pairs([{"prompt": "p", "chosen": START + " Yes.", "rejected": START + " No."}])
    assert (rows["prompt"][0][0]["content"], rows["chosen"][0]) == ("p", START + " Yes.")


def test_one_text_is_the_conversation_that_it_is_beside_another() -> None:
    rating = {"attribute": "q", "ratings": [3], "scale": [1, 5]}
    (rated,) = load_ratings([{"prompt": None, "response": START + " Yes.", **rating}])
    (pair,) = load_pairs([{"chosen": START + " Yes.", "rejected": START + " No."}])
    assert (rated["prompt"], rated["response"], rated["group"]) == (pair["prompt"], "Yes.", pair["group"])
    (plain,) = load_ratings([{"prompt": None, "response": "Human: hi", **rating}])
    assert (plain["prompt"], plain["response"]) == ([], "Human: hi")


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected"),
    [
        (START, "Yes.", "No."),
        (START + " ", " Yes.", " No."),
        (START.replace("\n", "\r\n"), " Yes.", " No."),
        (START, START + " Yes.", START + " No."),  # and again in each side
    ],
)
def test_turns_in_a_prompt_apart_are_the_same_prompt(prompt: str, chosen: str, rejected: str) -> None:
    (pair,) = load_pairs([{"prompt": prompt, "chosen": chosen, "rejected": rejected}])
    (other,) = load_pairs([{"chosen": START + " Yes.", "rejected": START + " No."}])
    assert {key: pair[key] for key in ("prompt", "chosen", "rejected", "group")} == {
        key: other[key] for key in ("prompt", "chosen", "rejected", "group")
    }


@pytest.mark.parametrize(
    ("prompt", "side"),
    [
        ("\n\nHuman: Why?", "Because."),
        ("\n\nHuman: Why?\n\nAssistant: Let me", " think."),
        (START, "Yes.\n\nHuman: And?\n\nAssistant: No."),
        ("Answer.\n\nHuman: Why?\n\nAssistant:", "Because."),
    ],
)
def test_a_prompt_whose_turns_are_not_certain_stays_text(prompt: str, side: str) -> None:
    (pair,) = load_pairs([{"prompt": prompt, "chosen": side, "rejected": side + "!"}])
    assert (pair["prompt"][0]["content"], pair["chosen"]) == (prompt, side)


def test_responses_that_repeat_their_prompt_are_reported() -> None:
    prompt = "What is the capital of France?"
    rows = [{"prompt": prompt, "chosen": f"{prompt} {text}", "rejected": f"{prompt} No."} for text in "ab"]
    table, report = read_table(rows, "pairs")
    assert table[0]["chosen"] == f"{prompt} a"
    assert [count for note, count in report.notes.items() if "begin with the prompt's text" in note] == [2]
    _, report = read_table([{"prompt": prompt, "chosen": f"{prompt} a", "rejected": "b"}], "pairs")
    assert report.notes == {}
