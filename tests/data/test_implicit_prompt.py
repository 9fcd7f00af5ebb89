"""Plain text of Human and Assistant turns: read where it is certain, left alone where it is not."""

from __future__ import annotations

import pytest

from pluralign.data import load_pairs, read_table
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


def test_one_text_has_no_implicit_prompt() -> None:
    assert read_implicit_prompt({"response": START + " Yes."}) is None
