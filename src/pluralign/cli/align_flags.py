"""Flags of `pluralign align`, and the checks on them before anything is read.

Nothing heavy is imported here, not even for types (see `flags`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from pluralign.cli.align_policy import PolicyFlags, check_policy
from pluralign.cli.parsing import UsageError
from pluralign.cli.program_flags import ProgramFlags
from pluralign.cli.sample_flags import RewardFlags
from pluralign.cli.sample_rewards import check_rewards

__all__ = ["AlignFlags", "check_flags"]

_LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "learning_rate": 0,
    "num_train_epochs": 0,
    "seed": 0,
}
_OF_RANKS = ("transform", "partition", "estimator", "leave_one_out", "pair_responses")


@dataclass(frozen=True)
class AlignFlags:
    """Fit a policy to rewards or preferences that were collected beforehand.

    Attributes:
        data: Training table: a file, a run folder of `sample`, or a hub id.
        eval_data: Evaluation table of the same shape; null for no evaluation.
        reward_model: Scores samples at each evaluation: a reward model folder, or the run folder of a fit.
        risk: Risk measure that turns the reward model's distributions into numbers.
        reward_function: FILE.py:NAME of a function of (prompts, completions) that scores samples instead.
        programs: Tables with prompts and tests; samples are scored by the share of tests that they pass.
        cache: Embedding cache of the reward model; null for the default one, none for no cache.
        hub_split: Split of a hub data set.
        out: Run folder; null for runs/align-METHOD-DIGEST, the same for the same command.
        json: Print the result as JSON.
    """

    data: str
    eval_data: str | None = None
    reward_model: str | None = None
    risk: str = "mean"
    reward_function: str | None = None
    programs: tuple[str, ...] | str = ()
    cache: str | None = None
    hub_split: str | None = None
    out: str | None = None
    json: bool = False

    @property
    def rewards(self) -> RewardFlags:
        """The flags of `sample` for the reward of evaluation samples."""
        return RewardFlags(
            reward_model=self.reward_model,
            risk=self.risk,
            reward_function=self.reward_function,
            programs=self.programs,
            cache=self.cache,
        )


def check_flags(flags: AlignFlags, programs: ProgramFlags, policy: PolicyFlags, config: Any) -> None:
    """Rejects flags that cannot work or would have no effect.

    Raises:
        UsageError: flags that do not go together, or a number out of its range.
    """
    from pluralign.policy.offline.objectives import find_objective

    check_rewards(flags.rewards, programs)
    if flags.rewards.sources and flags.eval_data is None:
        raise UsageError(
            f"--{flags.rewards.sources[0]} scores samples for the prompts of --eval_data, which is missing"
        )
    if config.resume_from_checkpoint is not None:
        raise UsageError("--resume_from_checkpoint: the same command continues from the last checkpoint")
    check_policy(policy)
    if config.eval_strategy != "no" and flags.eval_data is None:
        raise UsageError(f"--eval_strategy {config.eval_strategy.value} needs --eval_data")
    for name, least in _LEAST.items():
        if not getattr(config, name) >= least:
            raise UsageError(f"--{name}: received {getattr(config, name)}; allowed: {least} or more")
    if not find_objective(config.method).ranks:
        defaults = {field.name: field.default for field in fields(config)}
        unread = [name for name in _OF_RANKS if getattr(config, name) != defaults[name]]
        if unread:
            raise UsageError(f"--{unread[0]} applies to quantile rewards; {config.method} does not use them")
