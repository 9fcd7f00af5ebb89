"""Digests: the standard ones, the same in every process, and an error that names the file."""

from __future__ import annotations

import hashlib

import pytest

from pluralign.digests import file_digest, json_digest, text_seed
from pluralign.errors import ArtifactError


def test_a_file_has_the_digest_that_sha256sum_prints(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert file_digest(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"weights cannot be read \(No such file or directory\)"):
        file_digest(tmp_path / "weights")


def test_the_order_of_keys_decides_nothing_and_that_of_lists_does():
    one, other = {"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}
    assert json_digest(one) == json_digest(other) != json_digest({"a": 1, "b": [2, 1]})
    assert json_digest([]) == hashlib.sha256(b"[]").hexdigest()


def test_seeds_fit_into_63_bits_and_stay_what_they_were():
    seeds = [text_seed(str(number)) for number in range(2000)]
    assert len(set(seeds)) == 2000
    assert 2**62 < max(seeds) < 2**63
    assert text_seed("0") == int.from_bytes(hashlib.blake2b(b"0", digest_size=8).digest(), "little") // 2
