"""Flags of `pluralign align --method ppo`, and the checks on them before anything is loaded.

Nothing heavy is imported here before it is needed, not even for types (see `flags`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from pluralign.cli.align_policy import PolicyFlags, check_policy
from pluralign.cli.objects import check_device
from pluralign.cli.parsing import UsageError
from pluralign.cli.program_flags import ProgramFlags, named_tables
from pluralign.cli.sample_flags import RewardFlags
from pluralign.cli.sample_rewards import check_function, check_rewards
from pluralign.cli.scorers import check_combination
from pluralign.errors import RiskError
from pluralign.run_layout import model_folder

__all__ = ["OnlineFlags", "check_online"]


@dataclass(frozen=True)
class OnlineFlags:
    """Train a policy online, on its own responses, with distributional rewards.

    Attributes:
        prompts: File, folder or hub id with prompts; any table that has them.
        method: ppo; --advantages chooses gae, rloo or grpo. Other methods have other flags.
        eval_data: Held-out prompts, in any table; null for no evaluation.
        reward_model: Reward model folder, the run folder of a fit, or the folder of a combination.
        combine: More models, whose rewards are put on one scale with the first's by --reference, e.g.
            --combine [runs/b,runs/c].
        reference: Responses that set the scale of --combine, in any shape that `score` reads.
        how: mixture keeps the models' disagreement in the distribution, vincentize averages it away.
        reward_function: FILE.py:NAME of a function of (prompts, completions) that gives one number each,
            instead of a reward model.
        programs: Tables with prompts and tests, instead of a reward model: the reward is the share of tests
            that the program in a response passes. May be the file of --prompts; several as [a.jsonl,b.jsonl].
        gold_function: FILE.py:NAME of such a function that evaluations report and training never uses.
        ref_model: Folder or hub id of the reference, if it is not the initial policy.
        critic_model: Folder or hub id of a model for the critic alone, with the policy's tokenizer; null for
            a value head on the policy's own states.
        columns: Our column names to the file's, e.g. --columns.prompt instruction.
        hub_split: Split of a hub data set.
        reward_device: Where the reward model runs: cpu, cuda, cuda:1 ...; null for a GPU if there is one.
        cache: Embedding cache of the reward model; none, since responses seldom repeat.
        out: Run folder; null for runs/align-ppo-DIGEST, the same for the same command.
        json: Print the result as JSON.
    """

    prompts: str
    method: Literal["ppo"] = "ppo"
    eval_data: str | None = None
    reward_model: str | None = None
    combine: tuple[str, ...] = ()
    reference: str | None = None
    how: Literal["mixture", "vincentize"] = "mixture"
    reward_function: str | None = None
    programs: tuple[str, ...] | str = ()
    gold_function: str | None = None
    ref_model: str | None = None
    critic_model: str | None = None
    columns: dict[str, str] | None = None
    hub_split: str | None = None
    reward_device: str | None = None
    cache: str | None = "none"
    out: str | None = None
    json: bool = False

    @property
    def rewards(self) -> RewardFlags:
        """The flags of `sample` for the reward, without the measure."""
        return RewardFlags(
            reward_model=self.reward_model, reward_function=self.reward_function, programs=self.programs
        )

    @property
    def files(self) -> dict[str, str]:
        """What the run is made of besides the policy, by name."""
        named = {"prompts": self.prompts, "eval_data": self.eval_data, "reference": self.reference}
        folders = {name: getattr(self, name) for name in ("reward_model", "ref_model", "critic_model")}
        folders |= {f"combine_{place}": path for place, path in enumerate(self.combine)}
        named |= {key: str(model_folder(path)) for key, path in folders.items() if path is not None}
        for key in ("reward_function", "gold_function"):
            function = getattr(self, key)
            named[key] = None if function is None else function.rpartition(":")[0]
        given = {key: value for key, value in named.items() if value is not None}
        return given | named_tables(self.programs)


def check_online(flags: OnlineFlags, programs: ProgramFlags, policy: PolicyFlags, config: Any) -> None:
    """Rejects flags that cannot work or would have no effect.

    Args:
        flags: of the run.
        programs: how programs are run.
        policy: of the policy.
        config: the `PPOConfig`.

    Raises:
        UsageError: flags that do not go together, a file or folder that is not there.
        RiskError: there is no such measure.
    """
    check_policy(policy)
    sources = flags.rewards.sources
    if len(sources) != 1:
        received = " and ".join(f"--{name}" for name in sources) or "none"
        raise UsageError(
            f"one of --reward_model, --reward_function and --programs is needed; received {received}"
        )
    if flags.combine:
        _check_without_heads(config.risk)
    check_rewards(replace(flags.rewards, risk=config.risk), programs)
    if flags.reward_model is None:
        for name in ("combine", "reference", "reward_device"):
            if getattr(flags, name):
                raise UsageError(f"--{name} applies to --reward_model; --{sources[0]} does not use it")
        if config.risk != "mean":
            raise UsageError(f"--risk {config.risk}: --{sources[0]} gives numbers, not distributions")
    check_combination(flags.combine, flags.reference)
    for path in flags.combine:
        if not (model_folder(path) / "config.json").is_file():
            raise UsageError(f"--combine: {path} is not a model folder; pass folders that `fit` wrote")
    if flags.gold_function is not None:
        check_function(flags.gold_function, "gold_function")
        if flags.eval_data is None:
            raise UsageError("--gold_function scores answers to --eval_data, which is missing")
    for name in ("eval_steps", "best_metric"):
        if getattr(config, name) and flags.eval_data is None:
            raise UsageError(f"--{name} needs --eval_data: there is nothing to evaluate on")
    check_device(flags.reward_device, "reward_device")


def _check_without_heads(risk: str) -> None:
    """Rejects a measure that compares heads: several models on one scale have none."""
    from pluralign import risk as measures
    from pluralign.distributions import Point

    try:
        measures.parse(risk)(Point([0.0]))
    except RiskError as error:
        raise UsageError(f"--risk {risk}: a combination of models keeps no heads: {error}") from None
