"""Every text model that transformers knows, tiny: a text's vector is the model's own for the text alone.

Whatever the company, the order, the side of padding and shared prompts; or the model is refused by name. The
oracle calls the model on one text at a time with its own defaults and pools by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import TEMPLATE, byte_tokenizer, talk, word_tokenizer

from pluralign.backbones import Backbone, load
from pluralign.errors import PluralignError
from tiny_architectures import NAMES, roughen, tiny_config
from tiny_encoders import ENCODERS, encoder_config

PROMPT = "please write a poem about rain and the moon and the cat that sat on the mat"
ROWS = [
    talk(PROMPT, "the cat sat on the mat"),
    talk(PROMPT, "no"),
    talk(PROMPT, "yes! here is a longer answer, with several words in it; the cat likes rain."),
    talk("hello", "no, I will not do that"),
    talk("hello", "a"),
    talk("the cat looked at " * 3, "yes"),
    talk("hello", "hello world", "and the moon?", "no"),
]

REFUSED = {
    "canine": "cannot read fewer than 4",  # tokens; it has texts of three here
    "nystromformer": "returns no states for token ids alone",  # only texts of a multiple of its landmarks
    "perceiver": "returns no states for token ids alone",
    "reformer": "returns different numbers each time",
} | dict.fromkeys(
    (
        "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "marian", "mbart", "mvp", "pegasus",
        "plbart",
    ),
    "encoder-decoder",
)  # fmt: skip
NO_BARE_MODEL = {"trocr"}  # transformers has no AutoModel for it

# How models are run that cannot be run in the usual way; all others share prompts and may be padded anywhere.
EQUAL_LENGTHS = {"convbert", "fnet", "funnel", "mobilebert", "yoso"}
RIGHT_ONLY = {
    "camembert",
    "data2vec-text",
    "recurrent_gemma",
    "roberta",
    "roberta-prelayernorm",
    "rwkv",
    "xlm-roberta",
}
FAST = {"gpt2", "lfm2", "llama", "roberta", "rwkv"}
FAST_ENCODERS = {"bert", "fnet", "xlm-roberta"}


def marked(names: list[str], fast: set[str]) -> list[Any]:
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in sorted(names)]


def save(folder: Path, config: Any, tokenizer: Any) -> str:
    from transformers import AutoModel

    torch.manual_seed(0)
    roughen(AutoModel.from_config(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def alone(backbone: Backbone, conversation: list[dict[str, str]]) -> torch.Tensor:
    """The response's vector by the model's own call on this text alone."""
    if backbone.config.context == "conversation":
        render = backbone.tokenizer.apply_chat_template
        ids = render(conversation, tokenize=True)["input_ids"]
    else:
        ids = backbone.tokenizer(conversation[-1]["content"])["input_ids"]
    with torch.inference_mode():
        states = backbone.model(input_ids=torch.tensor([ids])).last_hidden_state[0].float()
    return states[-1] if backbone.config.pooling == "last" else states.mean(0)


def check(folder: str) -> dict[str, Backbone]:
    """Loads a model in several ways and compares all with the oracle."""
    found = {
        "right": load(folder, num_threads=1, max_length=128),
        "left": load(folder, num_threads=1, max_length=128, padding_side="left"),
        "unshared": load(folder, num_threads=1, max_length=128, share_prompts=False, max_tokens_per_batch=64),
    }
    wanted = torch.stack([alone_without_cache(found["right"], row) for row in ROWS])
    size = wanted.norm(dim=1)
    for backbone in found.values():
        for rows in (list(range(len(ROWS))), [5, 2, 0], [4]):
            vectors = backbone.embed([ROWS[row] for row in rows], progress=False).response
            error = (vectors - wanted[rows]).norm(dim=1) / size[rows]
            assert float(error.max()) < 1e-4, (backbone.run_mode, error)
    return found


def alone_without_cache(backbone: Backbone, conversation: list[dict[str, str]]) -> torch.Tensor:
    # RecurrentGemma cannot build the cache that nobody asked for.
    config = backbone.model.config
    had, config.use_cache = getattr(config, "use_cache", None), False
    try:
        return alone(backbone, conversation)
    finally:
        config.use_cache = had


@pytest.mark.parametrize("name", marked([n for n in NAMES if n not in NO_BARE_MODEL], FAST))
def test_causal_models(name: str, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(TEMPLATE)
    folder = save(tmp_path / "model", tiny_config(name, len(tokenizer)), tokenizer)
    if name in REFUSED:
        with pytest.raises(PluralignError, match=REFUSED[name]):
            load(folder, max_length=128).embed(ROWS, progress=False)
        return
    found = check(folder)
    assert found["right"].config.context == ("response" if name == "xlnet" else "conversation")
    assert {b.run_mode.fill for b in found.values()} <= {"right", "left"}
    if name != "xlnet":
        assert (found["left"].run_mode.fill == "right") is (name in RIGHT_ONLY)


@pytest.mark.parametrize("name", marked(list(ENCODERS), FAST_ENCODERS))
def test_encoders(name: str, tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    folder = save(tmp_path / "model", encoder_config(name, len(tokenizer)), tokenizer)
    if name in REFUSED:
        with pytest.raises(PluralignError, match=REFUSED[name]):
            load(folder, max_length=128).embed(ROWS, progress=False)
        return
    found = check(folder)
    assert found["right"].config.context == "response"
    assert found["right"].run_mode.fill == ("equal" if name in EQUAL_LENGTHS else "right")


def test_there_are_more_than_sixty() -> None:
    embedded = (set(NAMES) | set(ENCODERS)) - set(REFUSED) - NO_BARE_MODEL
    assert len(embedded) >= 60, sorted(embedded)
