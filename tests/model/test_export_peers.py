"""Exported folders inside the packages that load them: sentence-transformers, and TRL's reward trainer."""

from __future__ import annotations

import pytest
import torch

import pluralign as pl
from pluralign.heads import BradleyTerryHead, ColumnScaling, Reference
from tiny_architectures import tiny_model
from tiny_tokenizers import make_tokenizer

pytestmark = pytest.mark.peer

ANSWERS = [
    "The cat sat on the mat.",
    "No.",
    "A much longer answer, which goes on for a while and then stops; it names Paris, rain and 17 cats.",
]
TALKS = [
    [{"role": "user", "content": "hello"}, {"role": "assistant", "content": answer}] for answer in ANSWERS
]


def head(width: int) -> BradleyTerryHead:
    draw = torch.Generator().manual_seed(0)
    center, weight = torch.randn(2, width, generator=draw)
    return BradleyTerryHead(ColumnScaling(center, torch.ones(width)), weight, Reference(0.2, 1.5))


@pytest.mark.parametrize("pooling", ["mean", "last", "last_mean"])
def test_sentence_transformers_scores_as_we_do(pooling, tmp_path):
    package = pytest.importorskip("sentence_transformers")
    backbone = pl.backbones.load("minilm", pooling=pooling)
    model = pl.RewardModel(backbone, head(backbone.response_size), cache=None)
    assert model.export(tmp_path / "out") == 0.0
    long = [[{"role": "assistant", "content": "cat and rain " * 300}]]
    loaded = package.SentenceTransformer(str(tmp_path / "out"), device="cpu")
    texts = [one[-1]["content"] for one in (*TALKS, *long)]
    ours = model.score([*TALKS, *long])
    together = loaded.encode(texts)[:, 0]
    alone = [float(loaded.encode([text])[0, 0]) for text in texts]
    for found in (together, alone):
        torch.testing.assert_close(torch.tensor(found), ours, atol=1e-4, rtol=0)


def test_trl_loads_a_decoder_and_trains_on(tmp_path):
    """Its trainer sets pad token and configuration itself, which must not move the scores."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    tokenizer = make_tokenizer("chatml-eos")
    tiny_model("qwen2", len(tokenizer)).model.save_pretrained(tmp_path / "backbone")
    tokenizer.save_pretrained(tmp_path / "backbone")
    backbone = pl.backbones.load(str(tmp_path / "backbone"), max_length=128)
    model = pl.RewardModel(backbone, head(32), cache=None)
    shift = model.export(tmp_path / "out")
    rows = [{"chosen": TALKS[0], "rejected": TALKS[1]}, {"chosen": TALKS[2], "rejected": TALKS[0]}]
    trainer = trl.RewardTrainer(
        model=str(tmp_path / "out"),
        args=trl.RewardConfig(output_dir=str(tmp_path / "run"), report_to=[], use_cpu=True),
        train_dataset=Dataset.from_list(rows),
    )
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(2)])
    trainer.model.eval()
    with torch.inference_mode():
        scores = trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[
            :, 0
        ]
    ours = model.score([rows[0]["chosen"], rows[1]["chosen"], rows[0]["rejected"], rows[1]["rejected"]])
    torch.testing.assert_close(scores + shift, ours, atol=1e-4, rtol=0)
