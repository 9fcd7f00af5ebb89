"""What every method of `pluralign align` shares: flags of the policy, loading it, and the run folder.

Nothing heavy is imported here before it is needed, not even for types (see `flags`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pluralign.cli.console import Console
from pluralign.cli.parsing import UsageError
from pluralign.cli.run_folder import RunFolder, default_name, digest, made_once
from pluralign.errors import ConfigError, PluralignError
from pluralign.run_layout import model_folder

__all__ = [
    "MODEL",
    "TRAINING",
    "PolicyFlags",
    "adapter",
    "check_policy",
    "in_run_folder",
    "load",
    "settings_named",
]

TRAINING, MODEL = "training", "model"  # in the run folder

_DTYPES = ("float32", "bfloat16", "float16", "auto")


@dataclass(frozen=True)
class PolicyFlags:
    """Which policy is trained, and how much of it.

    Attributes:
        model: Folder or hub id of the policy, smollm2 or smollm2-q4; it is also the reference.
        tokenizer: Folder or hub id of the tokenizer; null for the model's own.
        dtype: Precision of the weights; null for float32, or with an adapter the stored precision.
        attn_implementation: Passed on to transformers, e.g. flash_attention_2.
        lora_r: Rank of a LoRA adapter; 0 trains all weights.
        lora_alpha: Scale of the adapter; null for twice the rank.
        lora_dropout: Dropout of the adapter.
        lora_target_modules: Which layers get an adapter: all-linear, names such as q_proj,v_proj, or a
            regular expression.
    """

    model: str
    tokenizer: str | None = None
    dtype: str | None = None
    attn_implementation: str | None = None
    lora_r: int = 0
    lora_alpha: int | None = None
    lora_dropout: float = 0.0
    lora_target_modules: str = "all-linear"

    @property
    def files(self) -> dict[str, str]:
        """What the policy is made of, by name."""
        found = {"model": str(model_folder(self.model))}
        return found if self.tokenizer is None else found | {"tokenizer": self.tokenizer}


def check_policy(flags: PolicyFlags) -> None:
    """Rejects flags that cannot work or would have no effect.

    Raises:
        UsageError: flags that do not go together, or a number out of its range.
    """
    if flags.lora_r < 0:
        raise UsageError(f"--lora_r: received {flags.lora_r}; allowed: 0 for all weights, or a rank")
    if flags.lora_alpha is not None and not flags.lora_r:
        raise UsageError("--lora_alpha needs --lora_r: without an adapter it has no effect")
    if not 0 <= flags.lora_dropout < 1:
        raise UsageError(f"--lora_dropout: received {flags.lora_dropout}; allowed: 0 to below 1")
    if flags.dtype is not None and flags.dtype not in _DTYPES:
        raise UsageError(f"--dtype: received {flags.dtype!r}; allowed: {', '.join(_DTYPES)}")


def load(flags: PolicyFlags) -> tuple[Any, Any]:
    """The policy and its tokenizer.

    Raises:
        ArtifactError: one of them cannot be read.
    """
    from pluralign.policy.logprobs.loading import load_policy

    return load_policy(
        str(model_folder(flags.model)),
        flags.tokenizer,
        dtype=flags.dtype or ("auto" if flags.lora_r else "float32"),
        attn_implementation=flags.attn_implementation,
    )


def adapter(flags: PolicyFlags) -> Any:
    """The settings of the adapter; None where all weights are trained."""
    from pluralign.policy.logprobs.loading import lora_config

    if not flags.lora_r:
        return None
    alpha = 2 * flags.lora_r if flags.lora_alpha is None else flags.lora_alpha
    return lora_config(flags.lora_r, alpha, flags.lora_dropout, flags.lora_target_modules)


@contextmanager
def settings_named() -> Iterator[None]:
    """Turns errors of transformers and peft while a trainer is made into errors about its settings.

    Raises:
        ConfigError: training with these settings is not possible; it says why.
    """
    try:
        yield
    except PluralignError:
        raise
    except (ValueError, RuntimeError, ImportError) as error:
        raise ConfigError(
            f"training with these settings is not possible: {' '.join(str(error).split())}"
        ) from error


def in_run_folder(
    method: str,
    out: str | None,
    decisive: Mapping[str, Any],
    files: Mapping[str, str],
    console: Console,
    make: Callable[[Path, RunFolder | None], dict[str, Any]],
) -> None:
    """Makes a policy in a run folder, unless it is there, and prints the result.

    Args:
        method: how it is trained.
        out: the run folder; None for one that the settings name.
        decisive: settings that decide the result.
        files: what it is made of, by name.
        console: where the result is printed.
        make: called with the folder's path, and with the folder in the first process only.
    """
    inputs = {key: digest(value) for key, value in files.items()}
    path = Path(out or f"runs/align-{method}-{default_name(decisive, inputs)}")
    if int(os.environ.get("RANK", "0")) > 0:
        make(path, None)
        return
    result = made_once("align", str(path), decisive, inputs, console, lambda folder: make(path, folder))
    console.result(result, result["model"])
