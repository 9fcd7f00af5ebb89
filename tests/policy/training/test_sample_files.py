"""Samples of evaluations on disk: read as they were written, also when numbers are missing."""

from __future__ import annotations

import math

import pytest

from pluralign.errors import ArtifactError
from pluralign.policy.rewards.samples import ScoredSample
from pluralign.policy.training.sample_files import read_samples, write_samples


def sample(**changes):
    given = {
        "num_tokens": 4,
        "cut_off": False,
        "reward": 1.5,
        "log_ratio": 0.25,
        "k3": 0.03,
        "ref_rewards": None,
        "ref_lengths": None,
        "gold": 2.0,
        "prompt": [{"role": "user", "content": "Why\u2028so?"}],
        "text": 'Because "é"\n\ud83d',  # a lone surrogate, as a cut token may leave
        "profile": {"utility": 1.5, "std": 0.5},
    }
    return ScoredSample(**(given | changes))


def test_what_is_written_is_read(tmp_path):
    bare = sample(gold=None, reward=None, log_ratio=None, k3=None, profile={})
    path = write_samples(tmp_path, 12, [sample(), bare])
    assert path == tmp_path / "samples/step-000012.jsonl"
    one, two = read_samples(tmp_path, 12)
    assert (one["tokens"], one["cut_off"], one["reward"], one["gold"]) == (4, False, 1.5, 2.0)
    assert (one["log_ratio"], one["kl_k3"], one["profile"]) == (0.25, 0.03, {"utility": 1.5, "std": 0.5})
    assert one["prompt"] == [{"role": "user", "content": "Why\u2028so?"}]
    assert one["response"].startswith('Because "é"\n')
    assert (two["reward"], two["gold"], two["profile"]) == (None, None, {})
    write_samples(tmp_path, 12, [bare])
    assert len(read_samples(tmp_path, 12)) == 1


def test_json_has_no_nan(tmp_path):
    write_samples(tmp_path, 0, [sample(k3=math.inf, gold=math.nan, profile={"std": -math.inf})])
    (one,) = read_samples(tmp_path, 0)
    assert (one["kl_k3"], one["gold"], one["profile"]["std"]) == (None, None, None)


def test_tables_have_folders_of_their_own(tmp_path):
    write_samples(tmp_path, 3, [sample(text="one")])
    write_samples(tmp_path, 3, [sample(text="two")], table="hard")
    assert read_samples(tmp_path, 3)[0]["response"] == "one"
    assert read_samples(tmp_path, 3, "hard")[0]["response"] == "two"


def test_what_is_not_there_or_damaged_is_nothing(tmp_path):
    assert read_samples(tmp_path, 1) == []
    path = write_samples(tmp_path, 1, [sample(), sample()])
    path.write_text(path.read_text()[:-30])
    assert read_samples(tmp_path, 1) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError):
        write_samples(tmp_path / "file", 1, [sample()])
