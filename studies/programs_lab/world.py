"""What runs of a seed share: the language model that writes programs, its 2,048 programs, held-out prompts.

In: a seed. Out: a `World`. Rewards are those of `pluralign.lab.programs`, whose interpreter is held against
`ProgramReward` by the arm `verifier`. What can be computed again lies in the work folder.
"""

from __future__ import annotations

import functools
import json
import random
from typing import Any

from pluralign.files import write_json
from pluralign.lab import LanguageModelConfig, sample_policy, train_language_model
from pluralign.lab.programs import WORDS, Instruction, behaviour, draw_instructions, right, share_passed
from studies import records

WORK = records.WORK / "programs_lab"
TRAINED, HELD_OUT, TEXTS = 256, 128, 6_000
COMPLETIONS = 8
MAX_NEW_TOKENS = 24


class World:
    """A language model and what it says.

    Attributes:
        seed: of texts, weights and samples.
        base: folder of the model.
        trained: instructions that policies are trained on.
        held_out: instructions that they are evaluated on.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.held_out = draw_instructions(HELD_OUT, 3 * seed)
        self.trained = draw_instructions(TRAINED, 3 * seed + 1, without=self.held_out)
        self.base = WORK / f"language-model-{seed}"
        if not self.base.is_dir():
            rng = random.Random(seed)
            learned = draw_instructions(TEXTS, 3 * seed + 2, without=[*self.held_out, *self.trained])
            talks = [[*one.messages, _assistant(behaviour(one, rng))] for one in learned]
            config = LanguageModelConfig(seed=seed, epochs=10, width=64, max_length=64, learning_rate=5e-3)
            train_language_model(self.base, config, conversations=talks, words=WORDS, progress=False)

    def load(self) -> tuple[Any, Any]:
        """The model and its tokenizer."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(self.base).eval()
        return model, AutoTokenizer.from_pretrained(self.base)

    @functools.cached_property
    def pool(self) -> list[list[dict[str, Any]]]:
        """The model's own programs for each trained instruction, as rows without a reward."""
        place = WORK / f"pool-{self.seed}.json"
        if not place.is_file():
            model, tokenizer = self.load()
            prompts = [one.messages for one in self.trained]
            found = sample_policy(
                model,
                model,
                tokenizer,
                prompts,
                COMPLETIONS,
                seed=self.seed,
                max_new_tokens=MAX_NEW_TOKENS,
            )
            write_json(place, {"said": found.responses, "cut_off": found.cut_off.tolist()})
        stored = json.loads(place.read_text(encoding="utf-8"))
        rows = [
            {
                "prompt_id": str(number // COMPLETIONS),
                "prompt": self.trained[number // COMPLETIONS].messages,
                "completion": text,
                "num_tokens": len(text.split()) + 1,
                "cut_off": cut_off,
            }
            for number, (text, cut_off) in enumerate(zip(stored["said"], stored["cut_off"], strict=True))
        ]
        return [rows[start : start + COMPLETIONS] for start in range(0, len(rows), COMPLETIONS)]

    def rewarded(self, reward: str, tests: int) -> Any:
        """The pool with rewards, a row per program."""
        from datasets import Dataset

        return Dataset.from_list(
            [
                row | {"reward": reward_of(instruction, row["completion"], reward, tests)}
                for instruction, rows in zip(self.trained, self.pool, strict=True)
                for row in rows
            ]
        )

    def outcome(self, policy: Any, tests: int) -> dict[str, float]:
        """A policy on the held-out instructions, eight programs each.

        Returns:
            right: share of right programs; passed: share that passes all tests; share: mean share of tests;
            kl: mean of log pi - log ref, with its estimate k3; solved: share of instructions with a right
            program; tied: share of instructions whose programs all get the same reward, passed or not.
        """
        model, tokenizer = self.load()
        found = sample_policy(
            policy,
            model,
            tokenizer,
            [one.messages for one in self.held_out],
            COMPLETIONS,
            seed=1000 + self.seed,
            max_new_tokens=MAX_NEW_TOKENS,
        )
        asked = [one for one in self.held_out for _ in range(COMPLETIONS)]
        said = list(zip(asked, found.responses, strict=True))
        shares = [share_passed(one, text, one.inputs(tests)) for one, text in said]
        correct = [right(one, text) for one, text in said]
        ratios = found.log_ratios.double()
        groups = [correct[start : start + COMPLETIONS] for start in range(0, len(correct), COMPLETIONS)]
        passed = [share == 1 for share in shares]
        by_prompt = [passed[start : start + COMPLETIONS] for start in range(0, len(passed), COMPLETIONS)]
        return {
            "right": sum(correct) / len(correct),
            "passed": sum(passed) / len(passed),
            "share": sum(shares) / len(shares),
            "kl": float(ratios.sum(1).mean()),
            "kl_k3": float((ratios.neg().expm1() + ratios).sum(1).mean()),
            "solved": sum(map(any, groups)) / len(groups),
            "tied": sum(all(one) or not any(one) for one in by_prompt) / len(by_prompt),
        }


def reward_of(instruction: Instruction, text: str, reward: str, tests: int) -> float:
    """`graded`: the share of tests passed; `binary`: 1 if all are."""
    share = share_passed(instruction, text, instruction.inputs(tests))
    return share if reward == "graded" else float(share == 1)


@functools.cache
def world(seed: int) -> World:
    """One per seed and process."""
    return World(seed)


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}
