"""Warning signs: on which side of its limit each is seen, and what a log says."""

from __future__ import annotations

import math

import pytest

from pluralign.warning_signs import SIGNS, is_seen, sentence


@pytest.mark.parametrize("name", SIGNS)
def test_a_sign_is_seen_beyond_its_limit_and_not_at_it(name):
    sign = SIGNS[name]
    bad, good = (math.inf, -math.inf) if not sign.low else (-math.inf, math.inf)
    assert is_seen(name, math.nextafter(sign.limit, bad))
    assert not is_seen(name, sign.limit)
    assert not is_seen(name, math.nextafter(sign.limit, good))
    assert not is_seen(name, math.nan)  # not known is not bad


def test_sentences_have_the_number_its_limit_and_what_to_do():
    for name, sign in SIGNS.items():
        said = sentence(name, sign.limit)
        assert sign.title in said
        assert said.endswith(sign.advice)
        assert ("under" if sign.low else "over") in said
    assert "31.2 % of neighbouring levels" in sentence("crossing", 0.312)
    assert "over 30 %;" in sentence("crossing", 0.312)
    assert "3.5 times the KL" in sentence("kl_beyond_optimum", 3.5)
