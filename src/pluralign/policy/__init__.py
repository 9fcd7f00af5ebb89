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
    "Completion": "sampling",
    "Diagnosis": "diagnostics",
    "LocalSampler": "sampling_local",
    "OBJECTIVES": "objectives",
    "Objective": "objectives",
    "OfflineConfig": "offline_config",
    "OfflineTrainer": "offline_trainer",
    "SamplingSettings": "sampling",
    "ServerSampler": "sampling_server",
    "check_training_table": "columns",
    "clamp_ranks": "ranks",
    "diagnose": "diagnostics",
    "diagnose_table": "diagnostics",
    "import_samples": "sampling_import",
    "load_prompts": "prompt_sets",
    "pad_references": "ranks",
    "quantile_rewards": "ranks",
    "read_samples": "sampling_stage",
    "reference_ranks": "ranks",
    "sample_references": "sampling_stage",
    "smooth_quantile_rewards": "smooth_ranks",
    "smooth_reference_ranks": "smooth_ranks",
    "smooth_scores": "smooth_ranks",
    "tied_prompts": "ranks",
    "token_log_probs": "log_probs",
}

__all__: list[str] = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"pluralign.policy.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'pluralign.policy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
