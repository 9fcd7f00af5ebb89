"""`pluralign export`: a fitted model becomes a checkpoint, and what cannot be one says so by its flags."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import pluralign as pl
from tiny_architectures import tiny_model
from tiny_tokenizers import make_tokenizer

FIT = "fit --family bradley_terry --pairs pairs.jsonl --l2 0.01 --out bt --max_length 96 --backbone small"


@pytest.fixture
def fitted(workplace, command):
    tokenizer = make_tokenizer("chatml-eos")
    tiny_model("llama", len(tokenizer)).model.save_pretrained("small")
    tokenizer.save_pretrained("small")
    status, _, err = command(FIT)
    assert status == 0, err


def test_a_fitted_model_is_exported_and_scores_alike(fitted, command):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    status, out, err = command("export --model bt --out checkpoint --reference ratings.jsonl --json")
    assert status == 0, err
    found = json.loads(out)
    assert found["checkpoint"] == "checkpoint"
    assert found["gap"] < 1e-4
    assert f"score = output + {found['shift']!r}" in err
    talk = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes and no"}]
    tokenizer = AutoTokenizer.from_pretrained("checkpoint")
    model = AutoModelForSequenceClassification.from_pretrained("checkpoint")
    text = tokenizer.apply_chat_template(talk, tokenize=False)
    with torch.inference_mode():
        score = model(**tokenizer(text, return_tensors="pt")).logits[:, 0] + found["shift"]
    ours = pl.RewardModel.from_pretrained("bt", cache=None).score([talk])
    torch.testing.assert_close(score, ours, atol=1e-4, rtol=0)
    status, _, err = command("export --model bt --out checkpoint")
    assert (status, "--out checkpoint holds something else" in err) == (2, True)


def test_what_cannot_be_exported_names_flags_and_reason(workplace, fake, command):
    for line in (
        "fit --ratings ratings.jsonl --l1 0.003 --levels [0.1,0.3,0.5,0.7,0.9] --out quantile",
        "fit --family bradley_terry --pairs pairs.jsonl --l2 0.01 --out bt",
    ):
        status, _, err = command(line)
        assert status == 0, err
    cases = {
        "--model quantile --out a --tolerance 0": (2, "--tolerance: received 0"),
        "--model quantile --out a --risk worst": (1, "unknown risk measure 'worst'"),
        "--model quantile --out a": (1, "FakeBackbone has no weights to export"),
        "--model absent --out a": (1, "absent"),
        "--model quantile": (2, "out"),
    }
    for flags, (wanted, said) in cases.items():
        status, out, err = command(f"export {flags}")
        assert (status, out) == (wanted, ""), flags
        assert said in err
        assert "Traceback" not in err
    models = [pl.RewardModel.from_pretrained(run, cache=None) for run in ("quantile", "bt")]
    texts = [[{"role": "assistant", "content": f"{x} 0.5 w"}] for x in (-1.0, 0.0, 1.0)]
    pl.combine(models, reference=texts).save_pretrained("both")
    status, _, err = command("export --model both --out a")
    assert status == 2
    assert "both is a combination" in err
    assert not Path("a").exists()
