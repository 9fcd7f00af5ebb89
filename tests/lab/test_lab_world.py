"""The world is closed, small and free of contradictions."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from pluralign.errors import ArgumentError
from pluralign.lab import world
from pluralign.lab.grammar import STYLES, draw, render
from pluralign.lab.world import FACTS, KINDS, PROMPTS, VOCABULARY, words


def test_sizes() -> None:
    assert len(PROMPTS) == len({p.text for p in PROMPTS}) == len({p.group for p in PROMPTS}) == 12 * 16 * 3
    assert 180 <= len(VOCABULARY) <= 220
    assert Counter(p.kind for p in PROMPTS) == dict.fromkeys(KINDS, 144)


def test_facts_tell_categories_apart() -> None:
    for task in {task for task, _ in FACTS}:
        assert len({FACTS[task, category] for category in world.OBJECTS}) == len(world.OBJECTS)


def test_no_clause_has_two_roles() -> None:
    details = [text for group in world.DETAILS.values() for text in group]
    clauses = [*details, *world.GREETINGS, *world.CLOSINGS, *world.CAUTIONS, *world.RISKS, *world.FILLERS]
    assert len(clauses) == len(set(clauses))
    assert not any(clause.startswith("use ") for clause in clauses)


@pytest.mark.parametrize("style", STYLES)
def test_texts_stay_in_the_vocabulary(style: str) -> None:
    rng = random.Random(0)
    for prompt in PROMPTS:
        text = render(draw(prompt, rng, style))
        assert set(words(prompt.text + " " + text)) <= set(VOCABULARY)


def test_unknown_style() -> None:
    with pytest.raises(ArgumentError, match="style must be one of behaviour, .*; got 'loud'"):
        draw(PROMPTS[0], random.Random(0), "loud")


def test_the_behaviour_policy_leaves_a_gap() -> None:
    """Long texts are rare in the data, and what optimised policies drift to does not occur at all."""
    rng = random.Random(1)
    texts = [draw(prompt, rng) for _ in range(5) for prompt in PROMPTS]
    lengths = [sum(len(c.text.split()) for c in clauses) for clauses in texts]
    assert sum(n > 36 for n in lengths) / len(lengths) < 0.10
    assert sum(n > 42 for n in lengths) / len(lengths) < 0.03
    assert all(sum(c.role == "answer" for c in clauses) <= 1 for clauses in texts)
    assert all(sum(c.role in ("filler", "unfit") for c in clauses) <= 2 for clauses in texts)
    assert not any(c.role == "broken" for clauses in texts for c in clauses)
