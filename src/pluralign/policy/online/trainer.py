"""`PPOTrainer`: a policy samples, a reward model returns distributions, and the policy is updated.

In: a causal language model, prompts, a reward. Out: a trained model, checkpoints, metrics.jsonl. This file
has only the loop: what is drawn is in `drawing`, how the policy learns from it in `updates`, the steps from a
response to its advantages in `shaping`, the loss in `update_loss`, formulas in `losses.online`.

A step: sample -> reward -> log-probabilities under policy and reference -> shape -> epochs of minibatches.
All random numbers are functions of the seed and the number of the step, so the result does not depend on
interruptions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pluralign.errors import ArgumentError, ConfigError, RunError
from pluralign.model.profiles import heads_of, sign_values
from pluralign.policy.online.config import PPOConfig
from pluralign.policy.online.drawing import Drawing, step_seed
from pluralign.policy.online.evaluation import kl_beyond_gain, scored_samples
from pluralign.policy.online.interrupts import Interrupts
from pluralign.policy.online.journal import Best, Journal, Log
from pluralign.policy.online.models import Models, make_accelerator
from pluralign.policy.online.normalization import Moments
from pluralign.policy.online.processes import agreed, gathered, is_agreed, mean_over
from pluralign.policy.online.robust_weight import RobustWeight
from pluralign.policy.online.rollouts import Draw, Rollout, draw_once, keep_masks, prompt_rows
from pluralign.policy.online.scoring import Gold, RolloutScorer, gold_of
from pluralign.policy.online.state import load_state, save_policy, save_state
from pluralign.policy.online.updates import Updates
from pluralign.policy.rewards.samples import ScoredSample, summarize
from pluralign.policy.rewards.scoring import ResponseScores
from pluralign.policy.training.sample_files import write_samples
from pluralign.policy.training.sharding import whole
from pluralign.policy.training.watch import Watch
from pluralign.training.checkpoints import checkpoint_at, usable

__all__ = ["PPOTrainer"]

_log = logging.getLogger("pluralign.policy")


class PPOTrainer:
    """Trains a policy on its own samples.

    Args:
        model: a causal language model, or a hub id or folder of one; or a peft model, whose reference is its
            base with the adapter off.
        config: the settings; None for the defaults.
        prompts: a table with a column `prompt` (text or messages), or a list of texts; other columns are
            passed to a `RewardSource`.
        reward: a reward model (with `config.risk` of its distributions), a `RewardSource`, or a function of
            conversations that returns one number each.
        processing_class: the tokenizer; None loads the model's own.
        eval_prompts: held-out prompts; None for no evaluation.
        gold: a second reward for evaluations, a function of conversations; never trained on.
        peft_config: train this adapter instead of the whole model.
        ref_model: the reference or its name, where it is not the model as given.
        critic_model: a model for the critic alone, or its name, with the policy's tokenizer; all of it is
            trained, at `critic_learning_rate`. None for a value head on the policy's own states.
        draw: samples rollouts of prompts; None for one turn each (see `rollouts`).
        loggers: called with the step and its metrics, in addition to metrics.jsonl.

    Attributes:
        step: number of steps done.
        policy: the trained model.
        history: the lines of metrics of this run, including those before an interruption.
        best: the best evaluation so far: step, metric and value; None before the first.

    Raises:
        ConfigError: settings are not compatible with each other or with the reward.
        DataError: a table has no prompts, or a prompt is too long for the model.
        ArgumentError: model, tokenizer or reward do not fit, or nothing ends a response.
    """

    def __init__(
        self,
        model: Any,
        config: PPOConfig | None = None,
        *,
        prompts: Any,
        reward: Any,
        processing_class: Any = None,
        eval_prompts: Any = None,
        gold: Gold | None = None,
        peft_config: Any = None,
        ref_model: Any = None,
        critic_model: Any = None,
        draw: Draw = draw_once,
        loggers: Sequence[Log] = (),
    ) -> None:
        self.config = config = PPOConfig() if config is None else config
        self._scorer, self._gold = RolloutScorer(reward, config.risk, config.reward_retries), gold
        rows = prompt_rows(prompts)
        held_out = [] if eval_prompts is None else prompt_rows(eval_prompts, "eval_prompts")
        held_out = held_out[: config.eval_prompts or None]
        self.accelerator = make_accelerator(config)
        world = self.accelerator.num_processes
        if config.prompts_per_step % world:
            raise ConfigError(
                f"prompts_per_step: received {config.prompts_per_step}; allowed: a multiple of the {world} "
                "processes"
            )
        torch.manual_seed(config.seed)
        self._models = Models(
            model, processing_class, config, self.accelerator, peft_config, ref_model, critic_model
        )
        self.policy, self.processing_class = self._models.policy, self._models.tokenizer
        self._drawing = Drawing(self._models, config, self.accelerator, rows, held_out, draw)
        self._updates = Updates(self._models, config, self.accelerator)
        self.step = 0
        self._moments = Moments()
        self._reference_heads: Tensor | None = None  # by each head of an ensemble, [N, H]
        self._robust_weight = RobustWeight(config, self._scorer, self.accelerator)
        self._whole = True  # false while weights change; then the state is not saved
        self._interrupts = Interrupts(self._any_process if self._models.sharded else bool)
        folder, first = Path(config.output_dir), self.accelerator.is_main_process
        self._journal = Journal(folder / "metrics.jsonl", loggers, first)
        self._best = Best(config.best_metric, config.best_is_lowest)
        self._watch = Watch(first)

    @property
    def log_prob_kernel(self) -> str:
        """Kernels for the logits, plain or compiled."""
        return self._models.log_prob_kernel

    @property
    def history(self) -> list[dict[str, Any]]:
        """All lines of metrics."""
        return self._journal.lines

    @property
    def best(self) -> dict[str, Any] | None:
        """The best evaluation so far."""
        return self._best.found

    # ---- the run ------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: bool | str | Path | None = None) -> dict[str, float]:
        """Trains to the last step, and evaluates before the first and after the last.

        Ctrl-C, and a reward that fails, end the run with its state saved.

        Args:
            resume_from_checkpoint: a checkpoint, or True for the last complete one in output_dir.

        Returns:
            The last evaluation, or the last line of metrics if there are no held-out prompts.

        Raises:
            RunError: there is nothing to resume from, the checkpoint is of another run, or a disk is full.
            ArtifactError: the checkpoint is damaged; with True, a damaged one is skipped.
            DataError: a reward is not finite.
            KeyboardInterrupt: Ctrl-C, after the state was saved.
        """
        if resume_from_checkpoint:
            self._resume(resume_from_checkpoint)
        elif self.step == 0:
            self._journal.start(0)
        resumed = self.step
        with self._interrupts:
            try:
                while True:
                    if self._evaluation_is_due():
                        with self._interrupts.deferred_if(self._models.sharded):
                            self._evaluate_and_keep()
                    if self.step >= self.config.steps:
                        break
                    every = self.config.save_steps
                    if every and self.step % every == 0 and self.step > resumed:
                        self._save_checkpoint()
                    with self._interrupts.deferred_if(self._models.sharded):
                        self._one_step()
            except (Exception, KeyboardInterrupt) as error:
                # Between updates nothing is half done; a disk that is full stays so.
                if self._whole and self.step and not isinstance(error, RunError) and self._in_all(error):
                    self._save_checkpoint()
                    _log.warning("stopped; the state after step %d is saved", self.step)
                raise
            self._save_checkpoint()
        last = self._journal.lines[-1] if self._journal.lines else {}
        return {k.removeprefix("eval/"): v for k, v in last.items() if k != "step"}

    def _any_process(self, here: bool) -> bool:
        """Whether something is so in any process; all call this."""
        return any(gathered(self.accelerator, [here]))

    def _in_all(self, error: BaseException) -> bool:
        """Whether every process has this error, so that all can save their parts of sharded weights."""
        return not self._models.sharded or isinstance(error, KeyboardInterrupt) or is_agreed(error)

    def _evaluation_is_due(self) -> bool:
        """Before the first step, after the last and in between, unless already done."""
        step, every = self.step, self.config.eval_steps
        due = step in (0, self.config.steps) or (every and step % every == 0)
        return bool(self._drawing.held_out and due and not self._journal.evaluation(step))

    def _one_step(self) -> None:
        """Samples, computes rewards, updates."""
        start = time.perf_counter()
        rollouts = agreed(self.accelerator, lambda: self._drawing.of_step(self.step))
        self._check_equal(rollouts)
        drawn_at = time.perf_counter()
        scores = agreed(self.accelerator, lambda: self._scorer(rollouts))
        scored_at = time.perf_counter()
        with self._interrupts.deferred():
            self._whole = False
            signs = self._signs(scores)
            seed = step_seed(self.config.seed, self.step, "minibatches")
            metrics, moments = self._updates.learn(rollouts, scores, self._moments, seed)
            metrics |= self._robust_weight.after(scores)
            self._moments = moments
            self.step += 1
            self._whole = True
            seconds = {"draw": drawn_at - start, "score": scored_at - drawn_at}
            seconds["learn"] = time.perf_counter() - scored_at
            metrics |= signs | {f"seconds/{key}": value for key, value in seconds.items()}
            metrics = mean_over(self.accelerator, metrics)
            self._watch.read(metrics)
            if self.step % self.config.logging_steps == 0 or self.step == self.config.steps:
                self._journal.write(self.step, metrics)

    def _signs(self, scores: ResponseScores) -> dict[str, float]:
        """Warning signs in the rewards of a step; in the first step the policy is still the reference."""
        if self.step == 0:
            heads = heads_of(scores.columns)
            listed = None if heads is None else gathered(self.accelerator, heads.tolist())
            self._reference_heads = None if listed is None else torch.tensor(listed, dtype=torch.float64)
        found = sign_values(scores.columns, self._reference_heads)
        return {f"signs/{name}": value for name, value in found.items()}

    def _check_equal(self, rollouts: Sequence[Rollout]) -> None:
        """Processes that share weights update them together, so they need as many rollouts as each other."""
        counts = set(gathered(self.accelerator, [len(rollouts)])) if self._models.sharded else set()
        if len(counts) > 1:
            raise ArgumentError(
                f"draw returned {min(counts)} rollouts in one process and {max(counts)} in another; "
                "with FSDP all need the same number"
            )

    # ---- measurements -------------------------------------------------------------------------------------

    def evaluate(self) -> dict[str, float]:
        """The policy on the held-out prompts: rewards, gold, KL, lengths. The seed is the same each time.

        Raises:
            ArgumentError: the trainer was made without eval_prompts.
        """
        return self._evaluated()[0]

    def _evaluated(self) -> tuple[dict[str, float], list[ScoredSample]]:
        if not self._drawing.held_out:
            raise ArgumentError("evaluate needs held-out prompts: pass eval_prompts to the trainer")
        rollouts = agreed(self.accelerator, self._drawing.of_held_out)
        scores, gold = agreed(
            self.accelerator,
            lambda: (
                self._scorer(rollouts, trained_on=False),
                None if self._gold is None else gold_of(self._gold, rollouts),
            ),
        )
        keep = keep_masks(rollouts, self.accelerator.device)
        with self._interrupts.deferred():
            log_probs, _ = self._models.scores(rollouts, keep.shape[1])
            reference = self._models.reference_scores(rollouts, keep.shape[1])
        ratios = (log_probs - reference).cpu()
        samples = gathered(self.accelerator, scored_samples(rollouts, scores, gold, ratios, keep.cpu()))
        found = summarize(samples, self._reference_heads)
        start = self._journal.evaluation(0)
        if "reward" in start:
            beta = self.config.beta * (self._moments.std if self.config.normalize_rewards else 1.0)
            sign = kl_beyond_gain(samples, found, start, beta, self.config.missing_end_penalty)
            found["signs/kl_beyond_optimum"] = sign
        return found, samples

    def _evaluate_and_keep(self) -> None:
        """Evaluates, keeps the policy if it is the best so far, and writes a line and the samples."""
        found, samples = self._evaluated()
        folder = Path(self.config.output_dir)
        if self._best.offer(self.step, found):
            self.save_model(folder / "best")
        if self.accelerator.is_main_process:
            write_samples(folder, self.step, samples)
        self._watch.read(found)
        self._journal.write(self.step, {f"eval/{key}": value for key, value in found.items()})

    # ---- checkpoints --------------------------------------------------------------------------------------

    def save_model(self, output_dir: str | Path | None = None) -> None:
        """Writes the policy, or its adapter, and the tokenizer, for `from_pretrained`.

        If its weights are sharded, every process must call this.

        Args:
            output_dir: None for the output_dir of the settings.

        Raises:
            RunError: it cannot be written.
        """
        state = whole(self.policy.state_dict()) if self._models.sharded else None
        if not self.accelerator.is_main_process:
            return
        save_policy(Path(output_dir or self.config.output_dir), self.policy, self.processing_class, state)

    def _save_checkpoint(self) -> None:
        first = self.accelerator.is_main_process
        if not first and not self._models.sharded:
            return
        state = {
            "global_step": self.step,
            "moments": asdict(self._moments),
            "best": self._best.found,
            "reference_heads": None if self._reference_heads is None else self._reference_heads.tolist(),
            "settings": asdict(self.config),
            "reference": self._models.digest,
        } | self._robust_weight.state()
        folder = Path(self.config.output_dir, f"checkpoint-{self.step}")
        keep = self.config.save_total_limit
        optimizer, schedule = self._updates.optimizer, self._updates.schedule
        save_state(folder, self._models.plain, optimizer, schedule, state, keep, first)

    def _resume(self, source: bool | str | Path) -> None:
        folder = checkpoint_at(self.config.output_dir, source)
        settings, digest = asdict(self.config), self._models.digest
        state = load_state(
            folder, self._models.plain, self._updates.optimizer, self._updates.schedule, settings, digest
        )
        with usable(folder, "state"):
            self.step = int(state["global_step"])
            self._moments = Moments(**state["moments"])
            self._best.found = state["best"]
            self._robust_weight.restore(state)
            heads = state.get("reference_heads")
            self._reference_heads = None if heads is None else torch.tensor(heads, dtype=torch.float64)
        self._journal.start(self.step)
