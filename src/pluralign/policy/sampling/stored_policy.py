"""A policy on disk before its weights are read: where it lies, its tokenizer, and what identifies it.

In: a folder or hub id. Out: a `StoredPolicy`, and from it a model of the same architecture without weights,
which is enough to know its positions and the tokens that end a response.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pluralign.backbones.config import DTYPES
from pluralign.backbones.fingerprint import file_sha256, fingerprint
from pluralign.backbones.locate import find_folder
from pluralign.checks import check_choice
from pluralign.errors import ArtifactError
from pluralign.policy.logprobs.loading import adapter_of

__all__ = ["StoredPolicy", "find_policy", "load_tokenizer", "model_without_weights"]


@dataclass(frozen=True)
class StoredPolicy:
    """A policy that was found.

    Attributes:
        folder: where it lies.
        whole: folder of the model; another one where `folder` holds an adapter for it.
        is_adapter: whether it does.
        tokenizer: of the policy.
        identity: name, commit, fingerprint and precision; JSON types.
    """

    folder: Path
    whole: Path
    is_adapter: bool
    tokenizer: Any
    identity: Mapping[str, Any]


def find_policy(name_or_path: str, revision: str | None = None, dtype: str = "float32") -> StoredPolicy:
    """Finds a policy; arguments as for `LocalSampler.from_pretrained`.

    Raises:
        ArtifactError: there is none, or it has no tokenizer.
    """
    check_choice("dtype", dtype, DTYPES)
    folder, commit = find_folder(name_or_path, revision)
    tokenizer = load_tokenizer(str(folder))
    adapter = adapter_of(folder)
    whole = folder if adapter is None else _base_of(folder)
    identity = {
        "kind": "transformers",
        "model": name_or_path,
        "revision": commit,
        "fingerprint": fingerprint(whole),
        **({} if adapter is None else {"adapter": file_sha256(adapter)}),
        "dtype": dtype,
    }
    return StoredPolicy(folder, whole, adapter is not None, tokenizer, identity)


def model_without_weights(policy: StoredPolicy) -> Any:
    """The architecture of a policy on the meta device, with its generation defaults.

    Raises:
        ArtifactError: it is not a causal language model.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    try:
        config = AutoConfig.from_pretrained(policy.whole, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{policy.whole} has no causal language model that can be read: {error}"
        ) from error
    with suppress(OSError):  # it has none of its own
        model.generation_config = GenerationConfig.from_pretrained(policy.whole)
    return model


def load_tokenizer(name_or_path: str, *, revision: str | None = None) -> Any:
    """The tokenizer of a policy, from a folder or the hub.

    Raises:
        ArtifactError: there is none.
    """
    from transformers import AutoTokenizer

    folder, _ = find_folder(name_or_path, revision)
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise ArtifactError(f"{folder} has no tokenizer that can be read: {error}") from error


def _base_of(folder: Path) -> Path:
    """The location of an adapter's base model."""
    try:
        name = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        base = name["base_model_name_or_path"]
        return find_folder(base)[0]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{folder} has an adapter whose base cannot be found: base_model_name_or_path of its "
            f"adapter_config.json ({error})"
        ) from error
