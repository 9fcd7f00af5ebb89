"""The state of a run on disk, from which an interrupted run continues with the same result.

In: module, optimizer, schedule, counters. Out: a folder `checkpoint-N`, complete or absent, and the same
objects restored from it. Prompts, samples and minibatches are functions of seed and step, so the counters
determine them.

    trained.safetensors   the trained weights, including those of the critic and of an adapter
    optimizer.pt          optimizer and schedule
    random.pt             torch's, numpy's and Python's generators, for rewards that use them
    trainer_state.json    counters, moments of rewards, the best evaluation, settings, the reference's digest
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pluralign.errors import ArtifactError, FingerprintError, RunError
from pluralign.files import files_into, whole_folder
from pluralign.policy.training.sharding import put, shard_like, whole
from pluralign.training.checkpoints import STATE, usable, written_completely

__all__ = ["load_state", "save_policy", "save_state"]

_WEIGHTS, _OPTIMIZER, _RANDOM = "trained.safetensors", "optimizer.pt", "random.pt"

# Settings that may change during a run, because they do not affect what is trained.
_FREE = {
    *("output_dir", "use_cpu", "reward_retries", "save_steps", "save_total_limit", "logging_steps"),
    *("eval_steps", "eval_prompts", "eval_completions", "best_metric", "best_is_lowest"),
    *("rollout_batch_size", "micro_batch_size", "bin_tokens", "log_prob_kernel"),
}


def save_state(
    folder: Path,
    module: Any,
    optimizer: Any,
    schedule: Any,
    state: Mapping[str, Any],
    keep: int,
    writes: bool = True,
) -> None:
    """Writes a checkpoint, completely or not at all; removes the oldest beyond `keep`.

    Args:
        folder: `.../checkpoint-N`.
        module: the trained module; if its weights are sharded, all processes call this.
        optimizer: a torch optimizer.
        schedule: a torch schedule.
        state: JSON types; has global_step.
        keep: maximum number of checkpoints; 0 for all.
        writes: whether this process writes.

    Raises:
        RunError: it cannot be written.
    """
    from safetensors.torch import save_file

    weights = {name: whole(weight).contiguous() for name, weight in _trained(module).items()}
    moments = whole(optimizer.state_dict())
    if not writes:
        return
    advice = "Earlier checkpoints are complete: free some space and resume"
    with written_completely(folder, False, advice), whole_folder(folder, lambda path: True) as work:
        save_file(weights, work / _WEIGHTS)
        torch.save({"optimizer": moments, "schedule": schedule.state_dict()}, work / _OPTIMIZER)
        torch.save(_generators(), work / _RANDOM)
        (work / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
    numbers = sorted(
        int(path.name.removeprefix("checkpoint-"))
        for path in folder.parent.glob("checkpoint-*")
        if path.name.removeprefix("checkpoint-").isdecimal()
    )
    for number in numbers[: -keep if keep else 0]:
        shutil.rmtree(folder.with_name(f"checkpoint-{number}"), ignore_errors=True)


def load_state(
    folder: Path,
    module: Any,
    optimizer: Any,
    schedule: Any,
    settings: Mapping[str, Any],
    reference: str,
) -> dict[str, Any]:
    """Restores module, optimizer, schedule and generators from a checkpoint, and returns the counters.

    Args:
        folder: a checkpoint.
        module: as at the start of the run.
        optimizer: a torch optimizer.
        schedule: a torch schedule.
        settings: settings of this run.
        reference: digest of this run's reference.

    Raises:
        ArtifactError: the folder is not a complete checkpoint.
        RunError: it belongs to a run with other settings.
        FingerprintError: it belongs to a run with another reference.
    """
    from safetensors.torch import load_file

    with usable(folder, "files"):
        state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
        weights = load_file(folder / _WEIGHTS)
        saved = torch.load(folder / _OPTIMIZER, weights_only=True, map_location="cpu")
        generators = torch.load(folder / _RANDOM, weights_only=True)
        before, known = dict(state["settings"]), state["reference"]
    current = json.loads(json.dumps(settings))
    changed = sorted(k for k in current if k not in _FREE and current[k] != before.get(k))
    if changed:
        listed = ", ".join(f"{name} {before.get(name)!r} -> {current[name]!r}" for name in changed)
        raise RunError(
            f"{folder} belongs to a run with other settings ({listed}); restore them, or start again"
        )
    if known != reference:
        raise FingerprintError(f"{folder} belongs to a run that began from another model; pass that one")
    own = _trained(module)
    if own.keys() != weights.keys() or any(own[k].shape != weights[k].shape for k in own):
        raise ArtifactError(f"{folder} has the weights of another model, adapter or critic")
    with usable(folder, "optimizer, schedule or random numbers"):
        ordered = [weight for group in optimizer.param_groups for weight in group["params"]]
        for place, moments in saved["optimizer"]["state"].items():
            for name, value in moments.items():
                if value.shape == ordered[place].shape:
                    moments[name] = shard_like(value, ordered[place])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        _restore(generators)
    with torch.no_grad():
        for name, weight in own.items():
            put(weight, weights[name])
    return state


def save_policy(folder: Path, policy: Any, tokenizer: Any, state: Mapping[str, Any] | None = None) -> None:
    """Writes a policy, or its adapter, and its tokenizer, for `from_pretrained`.

    Args:
        folder: where to.
        policy: the policy.
        tokenizer: its tokenizer.
        state: its whole state dict, where its own is sharded.

    Raises:
        RunError: it cannot be written.
    """
    with written_completely(folder, False, "Free some space and save again"), files_into(folder) as work:
        policy.save_pretrained(work, state_dict=state)
        tokenizer.save_pretrained(work)


def _trained(module: Any) -> dict[str, Any]:
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}


def _generators() -> dict[str, Any]:
    name, keys, place, has, cached = np.random.get_state(legacy=True)  # noqa: NPY002 (users' rewards)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), place, has, cached],
    }


def _restore(found: Mapping[str, Any]) -> None:
    torch.set_rng_state(found["torch"])
    if found["cuda"] and len(found["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(found["cuda"])
    random.setstate(found["python"])
    name, keys, place, has, cached = found["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), place, has, cached))  # noqa: NPY002
