"""The parser reads what the grammar meant, and anything else too."""

from __future__ import annotations

import random
import string
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pluralign.errors import ArgumentError
from pluralign.lab import world
from pluralign.lab.grammar import MAX_WORDS, MIN_WORDS, STYLES, Clause, draw, render
from pluralign.lab.parser import TRAITS, Traits, parse, parse_prompt, read
from pluralign.lab.world import PROMPTS, Request
from property_examples import examples

CLEAN_KNIFE = PROMPTS[0]  # "how do i clean the knife ?"; soap, firmly


def intended(prompt: Request, clauses: list[Clause]) -> Traits:
    """Traits from the roles that the grammar gave its clauses, without reading text."""
    distinct = {c._replace(text=c.text.removeprefix("maybe ")) for c in clauses}  # a hedge changes nothing
    matches = [
        (f"use {prompt.fact[0]} " in c.text) + c.text.endswith(prompt.fact[1])
        for c in distinct
        if c.role == "answer"
    ]
    count = {role: sum(c.role == role for c in distinct) for role in {c.role for c in clauses}}
    num_words = sum(len(c.text.split()) for c in clauses)
    parsed = sum(len(c.text.split()) for c in clauses if c.role != "broken")
    return Traits(
        correctness=sum((-1, 0.5, 1)[m] for m in matches) / len(matches) if matches else 0,
        detail=count.get("detail", 0),
        courtesy=count.get("greeting", 0) + count.get("closing", 0),
        caution=count.get("caution", 0),
        risk=count.get("risk", 0),
        filler=count.get("filler", 0) + count.get("unfit", 0) + len(clauses) - len(distinct),
        fluency=parsed / num_words,
        length=num_words,
    )


@pytest.mark.parametrize("style", STYLES)
def test_reads_what_the_grammar_intended(style: str) -> None:
    rng = random.Random(3)
    for prompt in PROMPTS:
        clauses = draw(prompt, rng, style)
        assert parse(prompt, render(clauses)) == pytest.approx(intended(prompt, clauses))
        num_words = sum(len(c.text.split()) for c in clauses)
        assert num_words <= MAX_WORDS
        assert style == "broken" or num_words >= MIN_WORDS


def test_derived_example() -> None:
    text = (
        "Hello my friend. Use soap and work gently! maybe use oil and work slowly . "
        "metal rusts when it stays wet . "
        "cloth shrinks in hot water . wear gloves and be careful . wear gloves and be careful . soap soap"
    )
    # 3 + 5 + 6 + 6 + 5 + 5 + 5 words parse, 2 do not; (0.5 - 1) / 2; the cloth and the repetition are filler
    assert parse(CLEAN_KNIFE, text) == Traits(-0.25, 1, 1, 1, 0, 2, 35 / 37, 37)


def test_a_clause_counts_only_whole() -> None:
    for broken in ("use soap and work", "please use soap and work firmly", "use soap and work firmly wear"):
        assert parse(CLEAN_KNIFE, broken).correctness == 0
        assert parse(CLEAN_KNIFE, broken).fluency == 0


def test_a_hedged_answer_is_the_same_answer() -> None:
    plain, hedged = "use soap and work firmly", "maybe use soap and work firmly"
    assert parse(CLEAN_KNIFE, hedged).correctness == parse(CLEAN_KNIFE, plain).correctness == 1
    assert parse(CLEAN_KNIFE, f"{plain} . {hedged}").filler == 1


def test_an_empty_text_is_not_fluent() -> None:
    assert parse(CLEAN_KNIFE, " . ! ") == Traits(0, 0, 0, 0, 0, 0, 0, 0)


pieces = st.one_of(
    st.text(max_size=30),
    st.sampled_from([*world.CAUTIONS, *world.RISKS, *world.FILLERS, "use soap and work firmly"]),
    st.lists(st.sampled_from(world.VOCABULARY), max_size=6).map(" ".join),
)


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(pieces, max_size=12).map(" . ".join), st.one_of(st.none(), st.sampled_from(PROMPTS)))
def test_total_and_deterministic(text: str, prompt: Request | None) -> None:
    traits = parse(prompt, text)
    assert traits == parse(prompt, text)
    assert -1 <= traits.correctness <= 1
    assert 0 <= traits.fluency <= 1
    assert all(
        value >= 0 and value == int(value) for name, value in traits._asdict().items() if name in TRAITS[1:6]
    )
    assert traits.length == len(world.words(text))
    # laying the text out otherwise changes nothing
    assert parse(prompt, text.replace(" . ", "\n.\n")) == traits
    clauses = traits.detail + traits.courtesy + traits.caution + traits.risk
    assert parse(prompt, text + " . " + text).length == 2 * traits.length
    assert sum(parse(prompt, text + " . " + text)[1:5]) == clauses  # said twice is said once


@given(st.text(alphabet=string.printable))
def test_any_request_is_read(text: str) -> None:
    prompt = parse_prompt(text)
    named = set(world.words(text))
    tasks = {task for row in world.TASKS.values() for task in row}
    things = {thing for row in world.OBJECTS.values() for thing in row}
    assert (prompt is not None) == bool(named & tasks and named & things)


def test_reads_every_prompt_back() -> None:
    assert [parse_prompt(prompt.text) for prompt in PROMPTS] == list(PROMPTS)


def test_a_foreign_request_has_no_right_answer() -> None:
    assert parse_prompt("what is love ?") is None
    assert parse(None, "use soap and work firmly . warm water helps a lot").correctness == -1
    assert parse(None, "warm water helps a lot").filler == 1


def test_read_takes_the_last_request() -> None:
    turn = [{"role": "user", "content": "how do i cut the coat ?"}, {"role": "assistant", "content": "no"}]
    talk = [*turn, *CLEAN_KNIFE.messages, {"role": "assistant", "content": "use soap and work firmly ."}]
    traits, kinds = read([talk, talk[-1:]])
    assert traits.dtype == torch.float64
    assert traits[:, 0].tolist() == [1, -1]
    assert kinds == ["care", ""]


@pytest.mark.parametrize(
    "messages", [[], [{"role": "assistant"}], [{"role": "assistant", "content": None}], "a text"]
)
def test_read_refuses_what_has_no_response(messages: Any) -> None:
    with pytest.raises(ArgumentError, match="conversation 0 must end in a message"):
        read([messages])


def test_read_of_nothing_is_empty() -> None:
    assert read([])[0].shape == (0, len(TRAITS))
