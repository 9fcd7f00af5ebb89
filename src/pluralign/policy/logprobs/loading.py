"""A policy before training: loaded, with an adapter, without dropout, with the right tokenizer.

In: a model or its name. Out: the model and tokenizer for a trainer.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from pluralign.errors import ArgumentError, ArtifactError
from pluralign.training.adapters import lora_targets, peft
from pluralign.training.dropout import disable_dropout

__all__ = [
    "adapter_of",
    "attach_adapter",
    "check_vocabulary",
    "disable_dropout",
    "load_policy",
    "lora_config",
    "merge_adapter",
    "num_positions",
    "ordinary_tokens",
    "stop_at",
]

_log = logging.getLogger("pluralign.policy")


def load_policy(
    model: Any, tokenizer: Any = None, *, dtype: str = "float32", attn_implementation: str | None = None
) -> tuple[Any, Any]:
    """Model and tokenizer, loaded if names were given.

    Args:
        model: a causal language model, or a hub id or folder of one (safetensors, no code from the hub).
        tokenizer: its tokenizer, or the name of one; None loads the one of the model.
        dtype: dtype of the weights if the model is loaded. Weights should be trained in float32, or updates
            at a learning rate of 1e-6 are lost in rounding; `auto` keeps the stored dtype.
        attn_implementation: attention of a model that is loaded; None leaves the choice to transformers.

    Raises:
        ArgumentError: no tokenizer is given, and the model does not name its own.
        ArtifactError: the model or the tokenizer cannot be read, or the model is an adapter.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pluralign.backbones.locate import find_folder

    name = model if isinstance(model, str) else getattr(model, "name_or_path", None)
    if tokenizer is None:
        if not name:
            raise ArgumentError("pass the tokenizer as processing_class; this model does not name its own")
        tokenizer = name
    folder = find_folder(model, None)[0] if isinstance(model, str) else None
    if folder is not None and adapter_of(folder) is not None:
        raise ArtifactError(
            f"{name} is an adapter, but training starts from a full model: merge it into its base (peft's "
            "merge_and_unload), save the result and pass that"
        )
    try:
        if isinstance(tokenizer, str):
            tokenizer = AutoTokenizer.from_pretrained(
                find_folder(tokenizer, None)[0], trust_remote_code=False
            )
        if isinstance(model, str):
            model = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                attn_implementation=attn_implementation,
                use_safetensors=True,
                trust_remote_code=False,
            )
    except (OSError, ValueError, ImportError) as error:
        raise ArtifactError(f"{name}: the policy cannot be read: {error}") from error
    return model, tokenizer


def lora_config(rank: int, alpha: float, dropout: float, target_modules: str) -> Any:
    """Settings of a LoRA adapter for a causal language model.

    Args:
        rank: rank of the two matrices.
        alpha: scale; the update is alpha / rank times their product.
        dropout: dropout of the adapter's input.
        target_modules: `all-linear`, names of layers separated by commas, or a regular expression for their
            full paths.

    Raises:
        MissingDependencyError: peft is not installed.
    """
    return peft().LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=lora_targets(target_modules),
    )


def adapter_of(folder: Path) -> Path | None:
    """The weights file of the adapter in a folder; None if there is none."""
    weights = folder / "adapter_model.safetensors"
    whole = any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json"))
    return weights if weights.is_file() and not whole else None


def attach_adapter(model: Any, peft_config: Any) -> Any:
    """The model with a fresh adapter of peft.

    Raises:
        MissingDependencyError: peft is not installed.
    """
    return peft().get_peft_model(model, peft_config)


def merge_adapter(model: Any, folder: Path) -> Any:
    """The model with the adapter of a folder added to its weights.

    Raises:
        MissingDependencyError: peft is not installed.
    """
    return peft().PeftModel.from_pretrained(model, str(folder)).merge_and_unload()


def check_vocabulary(model: Any, tokenizer: Any) -> None:
    """Raises `ArgumentError` if the tokenizer has tokens that the model does not know."""
    known = model.get_input_embeddings().weight.shape[0]  # 0 if the weights are already sharded
    if known and len(tokenizer) > known:
        raise ArgumentError(
            f"the tokenizer has {len(tokenizer):,} tokens and the model knows {known:,}: it belongs to "
            "another model, or model.resize_token_embeddings was not called"
        )


def stop_at(model: Any, token_id: int) -> None:
    """Makes the model's generation defaults stop at the token that ends responses in training."""
    config = getattr(model, "generation_config", None)
    if config is None:
        return
    known = config.eos_token_id
    ids = list(known) if isinstance(known, list) else [] if known is None else [known]
    if token_id not in ids:
        config.eos_token_id = [*ids, token_id] if ids else token_id
        _log.info("generation_config of the policy now stops at the token %d, like its responses", token_id)


def num_positions(model: Any) -> int | None:
    """The number of positions of a model; None if it does not say."""
    found: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return None if found is None or found < 1 else found  # XLNet says -1 for any number


def ordinary_tokens(model: Any) -> list[int]:
    """Tokens that have an embedding and are not special; special ones may represent images."""
    config = model.config.get_text_config()
    rows = model.get_input_embeddings().weight.shape[0] or config.vocab_size  # 0 where it is sharded
    special = {
        value
        for one in (model.config, config)
        for key, value in vars(one).items()
        if key.endswith(("token_id", "token_index")) and isinstance(value, int)
    }
    return [token for token in range(min(rows, config.vocab_size)) if token not in special]
