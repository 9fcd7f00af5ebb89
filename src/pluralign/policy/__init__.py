"""Policies: reference completions, quantile rewards, and trainers that ask for a utility.

It stands on `losses`, `risk` and `model`, and knows nothing of evaluation, reports, the lab or the command
line: a gold reward reaches it as a callable. Names are imported when they are first used, because the
trainers need transformers.
"""

from __future__ import annotations

import importlib
from typing import Any

# name -> file that defines it; one line each, no logic.
_NAMES: dict[str, str] = {
    "ColumnReward": "rewards.sources",
    "Completion": "sampling.settings",
    "Diagnosis": "rewards.diagnostics",
    "FunctionReward": "rewards.sources",
    "LocalSampler": "sampling.local",
    "ModelReward": "rewards.sources",
    "OBJECTIVES": "offline.objectives",
    "Objective": "offline.objectives",
    "OfflineConfig": "offline.config",
    "OfflineTrainer": "offline.trainer",
    "References": "rewards.training_tables",
    "SamplingSettings": "sampling.settings",
    "ServerSampler": "sampling.server",
    "SmoothReward": "rewards.sources",
    "TrainingTable": "rewards.training_tables",
    "attach_references": "rewards.training_tables",
    "check_training_table": "rewards.columns",
    "clamp_ranks": "rewards.ranks",
    "diagnose": "rewards.diagnostics",
    "diagnose_table": "rewards.diagnostics",
    "fit_length_control": "rewards.length_control",
    "import_samples": "sampling.imported",
    "instructions": "sampling.alpaca_eval",
    "last_checkpoint": "offline.checkpoints",
    "length_bias": "rewards.length_control",
    "load_prompts": "sampling.prompt_sets",
    "load_tokenizer": "sampling.local",
    "lora_config": "logprobs.loading",
    "num_references": "rewards.ranks",
    "pad_references": "rewards.ranks",
    "pairs_table": "rewards.training_tables",
    "quantile_rewards": "rewards.ranks",
    "read_rewards": "rewards.sources",
    "read_samples": "sampling.stage",
    "reference_ranks": "rewards.ranks",
    "reward_samples": "rewards.sources",
    "sample_references": "sampling.stage",
    "smooth_quantile_rewards": "rewards.smooth_ranks",
    "smooth_reference_ranks": "rewards.smooth_ranks",
    "smooth_scores": "rewards.smooth_ranks",
    "tied_prompts": "rewards.ranks",
    "log_probs": "logprobs.sequence",
    "token_log_probs": "logprobs.chunked",
    "unpaired_table": "rewards.training_tables",
    "write_alpaca_eval": "sampling.alpaca_eval",
}

__all__: list[str] = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"pluralign.policy.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'pluralign.policy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
