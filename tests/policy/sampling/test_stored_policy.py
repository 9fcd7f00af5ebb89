"""A policy without its weights says the same of itself as the whole one."""

from __future__ import annotations

import json

import pytest

import tiny_policy
from pluralign.errors import ArtifactError, DataError
from pluralign.policy import LocalSampler, SamplingSettings


@pytest.mark.parametrize("ends", [None, 1, [1, 40, 41]])
def test_it_describes_itself_as_the_whole(tmp_path, ends):
    folder = tiny_policy.saved(tmp_path / "policy")
    defaults = folder / "generation_config.json"
    if ends is None:
        defaults.unlink(missing_ok=True)
    else:
        defaults.write_text(json.dumps({"eos_token_id": ends, "temperature": 0.5, "do_sample": True}))
    whole = LocalSampler.from_pretrained(str(folder), device="cpu")
    found = LocalSampler.without_weights(str(folder))
    assert found.describe() == whole.describe()
    assert len(found.describe()["end_tokens"]) == (3 if ends == [1, 40, 41] else 1)
    own = LocalSampler.without_weights(str(folder), end_tokens=["e"])
    assert own.describe()["end_tokens"] == ["e"]


def test_it_checks_prompts_as_the_whole(tmp_path):
    folder = tiny_policy.saved(tmp_path / "policy")
    sampler, settings = LocalSampler.without_weights(str(folder)), SamplingSettings(max_new_tokens=20)
    sampler.check([tiny_policy.user("short")], settings)
    with pytest.raises(DataError, match="exceeds the model's 256 positions"):
        sampler.check([tiny_policy.user("long " * 60)], settings)


def test_what_is_no_policy_is_refused(tmp_path):
    folder = tiny_policy.saved(tmp_path / "policy")
    (folder / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="no causal language model"):
        LocalSampler.without_weights(str(folder))
