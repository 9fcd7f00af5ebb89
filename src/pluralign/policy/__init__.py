"""Policies: reference completions, quantile rewards, and trainers.

Evaluation, reports, the lab and the command line are not imported here: a gold reward is passed as a
callable. Names are imported on first use, because the trainers need transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# name -> file that defines it; one line each, no logic.
_NAMES: dict[str, str] = {
    "ColumnReward": "rewards.sources",
    "Completion": "sampling.settings",
    "Diagnosis": "rewards.diagnostics",
    "Disagreement": "selection.novelty",
    "FunctionReward": "rewards.sources",
    "JudgeSource": "judges.source",
    "LocalSampler": "sampling.local",
    "ModelReward": "rewards.sources",
    "OBJECTIVES": "offline.objectives",
    "Objective": "offline.objectives",
    "OfflineConfig": "offline.config",
    "OfflineTrainer": "offline.trainer",
    "PPOConfig": "online.config",
    "PPOTrainer": "online.trainer",
    "ProgramLimits": "rewards.programs.limits",
    "ProgramReward": "rewards.programs.reward",
    "ProgramScorer": "rewards.programs.scorer",
    "ProgramTasks": "rewards.programs.tasks",
    "References": "rewards.training_tables",
    "SamplingSettings": "sampling.settings",
    "Selection": "selection.tables",
    "SelectionConfig": "selection.config",
    "ServerSampler": "sampling.server",
    "SmoothReward": "rewards.sources",
    "TrainingDistance": "selection.novelty",
    "TrainingTable": "rewards.training_tables",
    "attach_references": "rewards.training_tables",
    "check_training_table": "rewards.columns",
    "clamp_ranks": "rewards.ranks",
    "diagnose": "rewards.diagnostics",
    "diagnose_table": "rewards.diagnostics",
    "fit_length_control": "rewards.length_control",
    "import_samples": "sampling.imported",
    "instructions": "sampling.alpaca_eval",
    "last_checkpoint": "training",
    "length_bias": "rewards.length_control",
    "load_prompts": "sampling.prompt_sets",
    "load_tasks": "rewards.programs.tasks",
    "load_tokenizer": "sampling.local",
    "log_probs": "logprobs.sequence",
    "lora_config": "logprobs.loading",
    "num_references": "rewards.ranks",
    "pad_references": "rewards.ranks",
    "pairs_table": "rewards.training_tables",
    "pass_at_k": "rewards.programs.pass_at_k",
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
    "token_log_probs": "logprobs.chunked",
    "unpaired_table": "rewards.training_tables",
    "write_alpaca_eval": "sampling.alpaca_eval",
    "write_selection": "selection.files",
}

__all__ = [
    "OBJECTIVES",
    "ColumnReward",
    "Completion",
    "Diagnosis",
    "Disagreement",
    "FunctionReward",
    "JudgeSource",
    "LocalSampler",
    "ModelReward",
    "Objective",
    "OfflineConfig",
    "OfflineTrainer",
    "PPOConfig",
    "PPOTrainer",
    "ProgramLimits",
    "ProgramReward",
    "ProgramScorer",
    "ProgramTasks",
    "References",
    "SamplingSettings",
    "Selection",
    "SelectionConfig",
    "ServerSampler",
    "SmoothReward",
    "TrainingDistance",
    "TrainingTable",
    "attach_references",
    "check_training_table",
    "clamp_ranks",
    "diagnose",
    "diagnose_table",
    "fit_length_control",
    "import_samples",
    "instructions",
    "last_checkpoint",
    "length_bias",
    "load_prompts",
    "load_tasks",
    "load_tokenizer",
    "log_probs",
    "lora_config",
    "num_references",
    "pad_references",
    "pairs_table",
    "pass_at_k",
    "quantile_rewards",
    "read_rewards",
    "read_samples",
    "reference_ranks",
    "reward_samples",
    "sample_references",
    "smooth_quantile_rewards",
    "smooth_reference_ranks",
    "smooth_scores",
    "tied_prompts",
    "token_log_probs",
    "unpaired_table",
    "write_alpaca_eval",
    "write_selection",
]

if TYPE_CHECKING:  # what type checkers and the API reference see; tests/test_types.py holds it to _NAMES
    from pluralign.policy.judges.source import JudgeSource
    from pluralign.policy.logprobs.chunked import token_log_probs
    from pluralign.policy.logprobs.loading import lora_config
    from pluralign.policy.logprobs.sequence import log_probs
    from pluralign.policy.offline.config import OfflineConfig
    from pluralign.policy.offline.objectives import OBJECTIVES, Objective
    from pluralign.policy.offline.trainer import OfflineTrainer
    from pluralign.policy.online.config import PPOConfig
    from pluralign.policy.online.trainer import PPOTrainer
    from pluralign.policy.rewards.columns import check_training_table
    from pluralign.policy.rewards.diagnostics import Diagnosis, diagnose, diagnose_table
    from pluralign.policy.rewards.length_control import fit_length_control, length_bias
    from pluralign.policy.rewards.programs.limits import ProgramLimits
    from pluralign.policy.rewards.programs.pass_at_k import pass_at_k
    from pluralign.policy.rewards.programs.reward import ProgramReward
    from pluralign.policy.rewards.programs.scorer import ProgramScorer
    from pluralign.policy.rewards.programs.tasks import ProgramTasks, load_tasks
    from pluralign.policy.rewards.ranks import (
        clamp_ranks,
        num_references,
        pad_references,
        quantile_rewards,
        reference_ranks,
        tied_prompts,
    )
    from pluralign.policy.rewards.smooth_ranks import (
        smooth_quantile_rewards,
        smooth_reference_ranks,
        smooth_scores,
    )
    from pluralign.policy.rewards.sources import (
        ColumnReward,
        FunctionReward,
        ModelReward,
        SmoothReward,
        read_rewards,
        reward_samples,
    )
    from pluralign.policy.rewards.training_tables import (
        References,
        TrainingTable,
        attach_references,
        pairs_table,
        unpaired_table,
    )
    from pluralign.policy.sampling.alpaca_eval import instructions, write_alpaca_eval
    from pluralign.policy.sampling.imported import import_samples
    from pluralign.policy.sampling.local import LocalSampler, load_tokenizer
    from pluralign.policy.sampling.prompt_sets import load_prompts
    from pluralign.policy.sampling.server import ServerSampler
    from pluralign.policy.sampling.settings import Completion, SamplingSettings
    from pluralign.policy.sampling.stage import read_samples, sample_references
    from pluralign.policy.selection.config import SelectionConfig
    from pluralign.policy.selection.files import write_selection
    from pluralign.policy.selection.novelty import Disagreement, TrainingDistance
    from pluralign.policy.selection.tables import Selection
    from pluralign.policy.training import last_checkpoint
else:

    def __getattr__(name: str) -> Any:
        if name in _NAMES:
            return getattr(importlib.import_module(f"pluralign.policy.{_NAMES[name]}"), name)
        raise AttributeError(f"module 'pluralign.policy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
