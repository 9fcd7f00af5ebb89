"""Rows that fill up an epoch, FSDP's precision, and weights that are put back for a moment."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny_policy
from pluralign.errors import ConfigError
from pluralign.policy.logprobs.kept_weights import KeptWeights
from pluralign.policy.training.sharding import keep_float32
from pluralign.training.distributed import new_rows


@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 4))
def test_every_row_of_an_epoch_is_new_once(rows, size, world):
    """Against accelerate's own way of dealing batches to processes."""
    from accelerate.data_loader import BatchSamplerShard
    from torch.utils.data import BatchSampler, SequentialSampler

    sampler = BatchSampler(SequentialSampler(range(rows)), size, drop_last=False)
    shards = [list(BatchSamplerShard(sampler, world, rank)) for rank in range(world)]
    seen = []
    for rank, batches in enumerate(shards):
        for place, batch in enumerate(batches):
            end = place == len(batches) - 1
            state = SimpleNamespace(end_of_dataloader=end, remainder=rows % (size * world))
            kept = new_rows(state, len(batch), rank).tolist()
            seen += [row for row, new in zip(batch, kept, strict=True) if new]
    assert sorted(seen) == list(range(rows))


def test_a_loader_that_drops_its_last_batch_repeats_nothing():
    state = SimpleNamespace(end_of_dataloader=True, remainder=-1)
    assert new_rows(state, 3, 1).tolist() == [True, True, True]


def test_fsdp_returns_and_reduces_in_float32():
    from torch.distributed.fsdp import MixedPrecisionPolicy

    half = torch.bfloat16
    plugin = SimpleNamespace(fsdp_version=2, mixed_precision_policy=MixedPrecisionPolicy(half, half, half))
    keep_float32(plugin)
    policy = plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype, policy.output_dtype) == (half, torch.float32, None)
    plugin = SimpleNamespace(fsdp_version=2, mixed_precision_policy=None)
    keep_float32(plugin)
    assert plugin.mixed_precision_policy is None
    with pytest.raises(ConfigError, match="allowed: 2"):
        keep_float32(SimpleNamespace(fsdp_version=1, mixed_precision_policy=None))


def test_kept_weights_come_back_for_a_moment():
    model = tiny_policy.model()
    ids = torch.tensor([[3, 4, 5]])
    before = model(ids).logits
    kept = KeptWeights(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)
    after = model(ids).logits
    with kept.restored(model):
        assert torch.equal(model(ids).logits, before)
    assert torch.equal(model(ids).logits, after)
    with pytest.raises(KeyboardInterrupt), kept.restored(model):
        raise KeyboardInterrupt
    assert torch.equal(model(ids).logits, after)
