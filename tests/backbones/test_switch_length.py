"""Models whose positions change with the longest text of a call: a vector depends on its text alone."""

from __future__ import annotations

import pytest
import torch
from tiny_models import TEMPLATE, byte_tokenizer, talk

from pluralign.backbones import Backbone, BackboneConfig
from pluralign.backbones.switch_length import switch_length
from tiny_architectures import LONG_ROPE, SWITCH, roughen, tiny_config


def test_only_long_rotary_embeddings_have_a_length_to_switch_at() -> None:
    assert switch_length(tiny_config("phi3", **LONG_ROPE)) == SWITCH
    assert switch_length(tiny_config("phi3")) is None
    assert switch_length(tiny_config("gemma3_text")) is None  # has parameters for each kind of layer
    assert switch_length(tiny_config("bert")) is None
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 128}
    assert switch_length(tiny_config("llama", rope_parameters=yarn)) is None


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_longer_text_in_the_batch_changes_no_vector(side: str) -> None:
    from transformers import AutoModel

    tokenizer = byte_tokenizer(TEMPLATE)
    torch.manual_seed(0)
    model = AutoModel.from_config(tiny_config("phi3", len(tokenizer), **LONG_ROPE))
    roughen(model).eval().requires_grad_(False)
    config = BackboneConfig("tiny", None, "last", "conversation", "float32", 200)
    backbone = Backbone(model, tokenizer, config, num_threads=1, padding_side=side)
    assert (backbone.run_mode.fill, backbone.run_mode.share_prompts) == (side, True)
    talks = [talk("x" * a, "y" * b) for a, b in ((2, 3), (20, 20), (20, 23), (20, 60), (40, 3), (60, 2))]
    lengths = [len(tokenizer.apply_chat_template(one, return_dict=False)) for one in talks]
    assert min(lengths) + 2 < SWITCH < max(lengths) - 2
    found = backbone.embed(talks)
    for row, one in enumerate(talks):
        alone = backbone.embed([one])
        torch.testing.assert_close(found.response[row], alone.response[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.prompt[row], alone.prompt[0], rtol=1e-4, atol=1e-4)
