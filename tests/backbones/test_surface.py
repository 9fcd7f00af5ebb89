"""Surface columns: derived values, and what must never come out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pluralign.backbones.surface import COLUMNS, surface


def columns(text: str) -> dict[str, float]:
    return dict(zip(COLUMNS, surface([text])[0].tolist(), strict=True))


def test_derived_values() -> None:
    found = columns("The cat sat. The CAT sat, 42 times!")  # 8 words: the cat sat the cat sat 42 times
    assert found["repeated_words"] == pytest.approx(3 / 8)
    assert found["repeated_trigrams"] == pytest.approx(1 / 6)
    assert found["word_length"] == pytest.approx(math.log1p((6 * 3 + 2 + 5) / 8))
    assert found["sentence_length"] == pytest.approx(math.log1p(4))
    assert found["commas"] == pytest.approx(1 / 8)
    assert found["capitals"] == pytest.approx(5 / 23)  # T, T, C, A, T
    assert found["digits"] == pytest.approx(2 / 35)
    assert found["unfinished"] == 0


@pytest.mark.parametrize(
    ("text", "unfinished"),
    [
        ("It ends.", 0),
        ('He said "it ends."', 0),
        ("It ends . ", 0),
        ("結束了。", 0),
        ("It does not", 1),
        ("A list:", 1),
        ("", 1),
    ],
)
def test_how_a_text_ends(text: str, unfinished: int) -> None:
    assert columns(text)["unfinished"] == unfinished


def test_a_repeated_sentence_shows() -> None:
    once, twice = columns("They won the match in May."), columns("They won the match in May. " * 2)
    assert once["repeated_trigrams"] == 0
    assert twice["repeated_trigrams"] == pytest.approx(1 - 6 / 10)  # 6 distinct of 10: the seam makes two new
    assert once["sentence_length"] == pytest.approx(twice["sentence_length"])


@given(st.lists(st.text(max_size=60), max_size=5))
def test_always_finite_and_small_and_the_same_for_the_same_text(texts: list[str]) -> None:
    found = surface([*texts, *texts])
    assert found.shape == (2 * len(texts), len(COLUMNS))
    assert bool(torch.isfinite(found).all())
    assert bool(((found >= 0) & (found < 10)).all())
    torch.testing.assert_close(found[: len(texts)], found[len(texts) :])
