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
    "ColumnReward": "rewarding",
    "Completion": "sampling",
    "Diagnosis": "diagnostics",
    "FunctionReward": "rewarding",
    "LocalSampler": "sampling_local",
    "ModelReward": "rewarding",
    "OBJECTIVES": "objectives",
    "Objective": "objectives",
    "OfflineConfig": "offline_config",
    "OfflineTrainer": "offline_trainer",
    "References": "training_tables",
    "SamplingSettings": "sampling",
    "ServerSampler": "sampling_server",
    "SmoothReward": "rewarding",
    "TrainingTable": "training_tables",
    "attach_references": "training_tables",
    "check_training_table": "columns",
    "clamp_ranks": "ranks",
    "diagnose": "diagnostics",
    "diagnose_table": "diagnostics",
    "fit_length_control": "length_control",
    "import_samples": "sampling_import",
    "instructions": "alpaca_eval",
    "last_checkpoint": "checkpoints",
    "length_bias": "length_control",
    "load_prompts": "prompt_sets",
    "load_tokenizer": "sampling_local",
    "lora_config": "model_setup",
    "num_references": "ranks",
    "pad_references": "ranks",
    "pairs_table": "training_tables",
    "quantile_rewards": "ranks",
    "read_rewards": "rewarding",
    "read_samples": "sampling_stage",
    "reference_ranks": "ranks",
    "reward_samples": "rewarding",
    "sample_references": "sampling_stage",
    "smooth_quantile_rewards": "smooth_ranks",
    "smooth_reference_ranks": "smooth_ranks",
    "smooth_scores": "smooth_ranks",
    "tied_prompts": "ranks",
    "log_probs": "sequence_log_probs",
    "token_log_probs": "chunked_log_probs",
    "unpaired_table": "training_tables",
    "write_alpaca_eval": "alpaca_eval",
}

__all__: list[str] = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"pluralign.policy.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'pluralign.policy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
