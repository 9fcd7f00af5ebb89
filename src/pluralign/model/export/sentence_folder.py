"""An encoder as a folder of sentence-transformers: Transformer, Pooling, Dense with a bias.

In: a backbone that reads the response alone, and a linear form. Out: the folder, and its scores as
sentence-transformers computes them, though that package is not needed here.

Stock classifiers of encoders read the first token through a dense layer and tanh, which is another model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pluralign.backbones.load import loading_bar
from pluralign.conversations import response_text
from pluralign.model.export.facts import ExportFacts, Written
from pluralign.model.export.weights import num_bytes, plain_model
from pluralign.model.inputs import Conversation

__all__ = ["write"]

# The pooled vectors of sentence-transformers for our pooling, in its order.
_MODES = {"mean": ("mean_tokens",), "last": ("lasttoken",), "last_mean": ("mean_tokens", "lasttoken")}
_ALL_MODES = (
    "cls_token",
    "mean_tokens",
    "max_tokens",
    "mean_sqrt_len_tokens",
    "weightedmean_tokens",
    "lasttoken",
)


def write(folder: Path, facts: ExportFacts) -> Written:
    """Writes the folder, and loads it again; arguments as in `classifier.write`."""
    from safetensors.torch import save_file

    backbone = facts.backbone
    pooling, limit = backbone.config.pooling, backbone.config.max_length
    weight = facts.form.weight.float().cpu()
    if pooling == "last_mean":  # ours is the other way round
        last, mean = weight.chunk(2)
        weight = torch.cat([mean, last])
    with loading_bar(num_bytes(backbone.model)):
        plain_model(backbone.model).save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    _mend(folder / "config.json", {"pluralign": facts.record(0.0)})
    _mend(folder / "tokenizer_config.json", {"model_max_length": limit})
    (folder / "2_Dense").mkdir()
    save_file(
        {"linear.weight": weight[None].contiguous(), "linear.bias": torch.tensor([facts.form.shift])},
        folder / "2_Dense" / "model.safetensors",
        metadata={"format": "pt"},
    )
    modes = {f"pooling_mode_{mode}": mode in _MODES[pooling] for mode in _ALL_MODES}
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": place, "type": f"sentence_transformers.models.{name}"}
            for i, (place, name) in enumerate(
                (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"))
            )
        ],
        "config_sentence_transformers.json": {"model_type": "SentenceTransformer", "prompts": {}},
        "sentence_bert_config.json": {"max_seq_length": limit, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": backbone.prompt_size, **modes},
        "2_Dense/config.json": {
            "in_features": len(weight),
            "out_features": 1,
            "bias": True,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    }
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return Written(
        0.0,
        _reader(folder, backbone),
        "The tokenizer takes the text of the response alone, without its prompt.",
        "from sentence_transformers import SentenceTransformer\n\n"
        'scores = SentenceTransformer("path/to/this/folder").encode(responses)[:, 0]',
        "Check the backbone's tokenizer, and its dtype: half precision rounds scores to two or three digits",
    )


def _reader(folder: Path, backbone: Any) -> Any:
    """The scores of the written folder, module by module as its files say."""
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoTokenizer

    pooling, limit, device = backbone.config.pooling, backbone.config.max_length, backbone.model.device
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with loading_bar(num_bytes(backbone.model)):
        model = AutoModel.from_pretrained(folder, dtype="auto").to(device).eval()
    dense = load_file(folder / "2_Dense" / "model.safetensors")

    @torch.inference_mode()
    def score(conversations: Sequence[Conversation]) -> Tensor:
        texts = [response_text(one) for one in conversations]
        batch = tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt").to(
            device
        )
        states = model(**batch).last_hidden_state
        mask = batch["attention_mask"].to(states.dtype)
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        places = (mask * torch.arange(mask.shape[1], device=device)).argmax(1)
        parts = {"mean_tokens": mean, "lasttoken": states[torch.arange(len(states), device=device), places]}
        pooled = torch.cat([parts[mode] for mode in _MODES[pooling]], 1).float().cpu()
        scores: Tensor = pooled @ dense["linear.weight"][0] + dense["linear.bias"]
        return scores

    return score


def _mend(file: Path, values: dict[str, Any]) -> None:
    """Sets keys of a JSON file."""
    content = json.loads(file.read_text(encoding="utf-8")) | values
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
