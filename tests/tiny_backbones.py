"""Backbones of tiny decoders with random weights: `tiny_decoder(folder, "llama", "chatml")`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pluralign.backbones.load import load
from tiny_architectures import tiny_model
from tiny_tokenizers import make_tokenizer


def tiny_decoder(folder: Path, kind: str = "llama", tokenizer: str = "chatml-eos", **options: Any) -> Any:
    """A backbone of width 32, stored in a folder; its tokenizer pads with the end-of-sequence token.

    Args:
        folder: where its files are written.
        kind: of `tiny_architectures`.
        tokenizer: of `tiny_tokenizers`.
        options: of `pl.backbones.load`.
    """
    given = make_tokenizer(tokenizer)
    model = tiny_model(kind, len(given))
    getattr(model, model.base_model_prefix, model).save_pretrained(folder)
    given.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(settings | {"pad_token": settings["eos_token"]}), encoding="utf-8")
    return load(str(folder), **{"max_length": 128, **options})
