"""The lab's tokenizer gives every text back; its language model learns, repeats itself and loads."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import pluralign as pl
from pluralign.errors import ConfigError
from pluralign.lab import PROMPTS, STYLES, VOCABULARY, Crowd
from pluralign.lab.language_model import LanguageModelConfig, cached_language_model, train_language_model
from pluralign.lab.tokenizer import build_tokenizer

TINY = LanguageModelConfig(
    texts=600, epochs=3, layers=1, width=32, heads=2, batch_size=20, learning_rate=1e-2
)


def test_every_text_of_the_lab_comes_back() -> None:
    tokenizer = build_tokenizer()
    texts = [talk[-1]["content"] for style in STYLES for talk in Crowd().conversations(100, style=style)]
    texts += [prompt.text for prompt in PROMPTS]
    ids = tokenizer(texts)["input_ids"]
    assert tokenizer.batch_decode(ids) == texts
    assert all(tokenizer.unk_token_id not in row for row in ids)
    assert len(tokenizer) == len(VOCABULARY) + 9


def test_template() -> None:
    tokenizer = build_tokenizer()
    talk = Crowd().conversations(1)[0]
    whole = tokenizer.apply_chat_template(talk, tokenize=False)
    opening = tokenizer.apply_chat_template(talk[:-1], tokenize=False, add_generation_prompt=True)
    assert whole == f"{opening}{talk[-1]['content']}<eos>"
    words = tokenizer.convert_ids_to_tokens(tokenizer(opening)["input_ids"])
    assert words == ["<bos>", "<user>", *talk[0]["content"].split(), "<assistant>"]
    assert tokenizer("Zebras DRY")["input_ids"] == [
        tokenizer.unk_token_id,
        tokenizer.convert_tokens_to_ids("dry"),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached_language_model(tmp_path_factory.mktemp("work"), TINY, progress=False)


def test_it_learns_and_reports(folder: Path) -> None:
    report = json.loads((folder / "training.json").read_text())
    assert report["steps"] == 90
    assert report["first_loss"] > 0.8 * math.log(210)  # it began at chance, or near
    assert report["last_loss"] < 0.5 * report["first_loss"]
    assert LanguageModelConfig(**report["config"]) == TINY


def test_it_is_trained_once_and_the_same_again(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    written = (folder / "training.json").stat().st_mtime_ns
    assert cached_language_model(folder.parent, TINY) == folder
    assert (folder / "training.json").stat().st_mtime_ns == written
    seen: list[tuple[int, int]] = []
    train_language_model(tmp_path / "again", TINY, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(step, 90) for step in range(1, 91)]
    first, again = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "again"))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_it_is_a_backbone(folder: Path) -> None:
    talks = Crowd().conversations(8)
    vectors = pl.backbones.load(str(folder), pooling="last_mean", num_threads=1).embed(talks).response
    assert vectors.shape == (8, 64)
    assert len(torch.unique(torch.as_tensor(vectors), dim=0)) == 8


def test_labels_are_the_responses(folder: Path) -> None:
    """The mean loss that training saw is transformers' own loss with the prompt masked."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pluralign.lab.language_model import _collate

    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    talks = Crowd().conversations(6)
    rows = []
    expected = []
    for talk in talks:
        opening = tokenizer.apply_chat_template(talk[:-1], tokenize=False, add_generation_prompt=True)
        start = len(tokenizer(opening)["input_ids"])
        ids = tokenizer(tokenizer.apply_chat_template(talk, tokenize=False))["input_ids"]
        rows.append((ids, start))
        with torch.no_grad():
            log_probs = model(torch.tensor([ids])).logits.log_softmax(-1)[0]
        expected += [float(-log_probs[t - 1, ids[t]]) for t in range(start, len(ids))]
    ids, labels = _collate(rows, tokenizer.pad_token_id)
    with torch.no_grad():
        loss = model(input_ids=ids, labels=labels).loss
    assert float(loss) == pytest.approx(sum(expected) / len(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"texts": 0}, "texts must be"),
        ({"epochs": 1.5}, "epochs must be"),
        ({"width": 100}, "multiple of"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_illegal_configurations(change: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        LanguageModelConfig(**change)  # type: ignore[arg-type]
