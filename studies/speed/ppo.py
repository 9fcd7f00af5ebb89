"""Speed and memory of a step of PPO: ours beside TRL 1.12's `PPOTrainer`, its last.

The same policy with random weights, prompts of 16 to 64 tokens, answers of full length (a policy of this kind
almost never draws the end token), the same small reward model, GAE, AdamW, float32, no gradient
checkpointing. Every case is a process of its own on one thread, the cases of a round one after the other, so
that neighbours in time are compared. CPU seconds count; shares are those of wall time; memory is the highest
resident set up to the last update, above that with all models loaded and above that without any.

Cases:

    trl     a separate value model and a separate reference, which it always has
    alike   ours with `critic_model` and `ref_model`: as many models, the same work
    ours    ours as it is: a value head on the policy, whose first weights are the reference

TRL 1.12 lives in an environment of its own, whose Python the variable PPO_PEER_PYTHON names:

    PPO_PEER_PYTHON=/path/to/bin/python python -m studies speed --arms ppo
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from studies.speed.memory import resident
from studies.speed.own_process import print_case, run_case
from studies.speed.policy import make_tokenizer

CASES = ("trl", "alike", "ours")


@dataclass(frozen=True)
class Shape:
    """A model and how much is done with it."""

    name: str
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool
    batch: int
    micro_batch: int
    new_tokens: int
    epochs: int
    steps: int


SHAPES = {
    "small": Shape("4 layers, width 256", 4, 256, 688, 4, 4, 32_000, False, 16, 8, 64, 4, 2),
    "smollm2": Shape("SmolLM2-135M", 30, 576, 1536, 9, 3, 49_152, True, 8, 4, 24, 2, 2),
}
LONGEST = 64  # tokens of a prompt


def grid(seed: int) -> list[dict[str, Any]]:
    """A round: every case of every shape, every second time in reverse order."""
    order = CASES[:: -1 if seed % 2 else 1]
    return [{"shape": shape, "case": case, "seed": seed} for shape in SHAPES for case in order]


def run(shape: str, case: str, seed: int) -> dict[str, Any]:
    """One case in a process of its own, with the Python that has what it needs.

    Raises:
        SystemExit: no Python with TRL 1.12 is named.
    """
    python = sys.executable if case != "trl" else os.environ.get("PPO_PEER_PYTHON")
    if not python:
        raise SystemExit("PPO_PEER_PYTHON: name the Python of an environment with trl==1.12.* in it")
    flags = {"shape": shape, "case": case, "seed": seed}
    return run_case("studies.speed.ppo", flags, python, TRL_EXPERIMENTAL_SILENCE="1")


class Meter:
    """CPU and wall seconds of steps and their parts, and the highest resident set between start and last."""

    def __init__(self) -> None:
        self.cpu: list[float] = []
        self.wall: list[float] = []
        self.parts = {"generation": 0.0, "reward": 0.0}
        self.peak = 0
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """The first step begins."""
        self._watcher.start()
        self.step()

    def step(self) -> None:
        """A step is done."""
        self.cpu.append(time.process_time())
        self.wall.append(time.perf_counter())

    def stop(self) -> None:
        """Nothing is measured any more."""
        self._stop.set()

    def timed(self, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work`, whose time counts as a part's."""

        def wrapped(*given: Any, **named: Any) -> Any:
            start = time.perf_counter()
            found = work(*given, **named)
            self.parts[part] += time.perf_counter() - start
            return found

        return wrapped

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.peak = max(self.peak, resident())


def measure(shape: str, case: str, seed: int) -> dict[str, Any]:
    """Trains a few steps and says what they took."""
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    what, meter = SHAPES[shape], Meter()
    peer: Any = None
    if case == "trl":
        import trl
        from trl.experimental.ppo import ppo_trainer as peer
    else:
        from pluralign.policy import PPOTrainer  # noqa: F401 (its code is in memory before models are)
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification  # noqa: F401

    empty = resident()
    models = make_models(what, case)
    loaded = resident()
    with tempfile.TemporaryDirectory() as folder:
        prompts = draw_prompts(what, seed)
        if peer is not None:
            _train_peer(peer, what, models, prompts, folder, meter)
        else:
            _train_ours(what, models, prompts, folder, meter)
    wall = meter.wall[-1] - meter.wall[0]
    shares = {name: seconds / wall for name, seconds in meter.parts.items()}
    steps = [after - before for before, after in zip(meter.cpu, meter.cpu[1:], strict=False)]
    return {
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            **({"trl": trl.__version__} if peer is not None else {}),
        },
        "samples_per_cpu_second": what.batch * len(steps) / sum(steps),
        "cpu_seconds_per_step": steps,
        "shares": shares | {"update": 1 - sum(shares.values())},
        "models_mib": (loaded - empty) / 2**20,
        "grown_mib": (meter.peak - loaded) / 2**20,
        "whole_mib": (meter.peak - empty) / 2**20,
    }


def make_models(shape: Shape, case: str) -> dict[str, Any]:
    """Policy and reward model; a reference and a critic's own model too, but for `ours`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=512,
        **special,
    )
    small = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_labels=1,
        **special,
    )
    found = {"policy": LlamaForCausalLM(config), "reward": LlamaForSequenceClassification(small).eval()}
    if case != "ours":
        found["reference"] = LlamaForCausalLM(config)
        found["reference"].load_state_dict(found["policy"].state_dict())
        kind = LlamaForSequenceClassification if case == "trl" else LlamaForCausalLM
        config = LlamaConfig.from_dict(config.to_dict() | {"num_labels": 1})
        found["critic"] = kind(config)
    return found


def draw_prompts(shape: Shape, seed: int) -> list[str]:
    """As many as all steps need."""
    r = random.Random(seed)
    return [
        " ".join(f"w{r.randrange(shape.vocabulary - 3)}" for _ in range(r.randint(16, LONGEST)))
        for _ in range(shape.batch * shape.steps)
    ]


def _tokenizer(shape: Shape) -> Any:
    tokenizer = make_tokenizer(shape.vocabulary)
    tokenizer.pad_token = "<unk>"  # no prompt holds it: TRL masks every token that is the pad token
    tokenizer.padding_side = "left"
    return tokenizer


def _train_ours(shape: Shape, models: dict[str, Any], prompts: list[str], folder: str, meter: Meter) -> None:
    import torch

    from pluralign.policy import PPOConfig, PPOTrainer
    from pluralign.policy.online.rollouts import draw_once

    tokenizer, scorer = _tokenizer(shape), models["reward"]

    @torch.no_grad()
    def reward(conversations: list[Any]) -> list[float]:
        texts = [" ".join(message["content"] for message in conversation) for conversation in conversations]
        batch = tokenizer(texts, return_tensors="pt", padding=True)
        found: list[float] = (
            scorer(**{k: batch[k] for k in ("input_ids", "attention_mask")}).logits[:, 0].tolist()
        )
        return found

    separate: dict[str, Any] = {}
    if "reference" in models:
        separate = {"ref_model": models["reference"], "critic_model": models["critic"]}
    trainer = PPOTrainer(
        models["policy"],
        PPOConfig(
            folder,
            steps=shape.steps,
            prompts_per_step=shape.batch,
            completions=1,
            max_new_tokens=shape.new_tokens,
            epochs=shape.epochs,
            micro_batch_size=shape.micro_batch,
            rollout_batch_size=shape.batch,
            learning_rate=1e-5,
            seed=0,
            use_cpu=True,
        ),
        prompts=prompts,
        reward=meter.timed("reward", reward),
        processing_class=tokenizer,
        draw=meter.timed("generation", draw_once),
        loggers=[
            lambda step, metrics: meter.stop() if step == shape.steps else None,
            lambda *_: meter.step(),
        ],
        **separate,
    )
    meter.start()
    trainer.train()


def _train_peer(
    module: Any, shape: Shape, models: dict[str, Any], prompts: list[str], folder: str, meter: Meter
) -> None:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    tokenizer = _tokenizer(shape)

    class Steps(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            meter.step()

    scored = module.get_reward
    of_reward = meter.timed("reward", scored)
    module.batch_generation = meter.timed("generation", module.batch_generation)
    module.get_reward = lambda model, *rest: (of_reward if model is models["reward"] else scored)(
        model, *rest
    )
    table = Dataset.from_list([{"input_ids": tokenizer(prompt).input_ids} for prompt in prompts])
    trainer = PPOTrainer(
        PPOConfig(
            folder,
            total_episodes=len(prompts),
            per_device_train_batch_size=shape.micro_batch,
            gradient_accumulation_steps=shape.batch // shape.micro_batch,
            local_rollout_forward_batch_size=shape.batch,
            response_length=shape.new_tokens,
            num_ppo_epochs=shape.epochs,
            num_mini_batches=1,
            num_sample_generations=0,
            stop_token="eos",
            missing_eos_penalty=1.0,
            temperature=1.0,
            learning_rate=1e-5,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        ),
        processing_class=tokenizer,
        model=models["policy"],
        ref_model=models["reference"],
        reward_model=models["reward"],
        value_model=models["critic"],
        train_dataset=table,
        eval_dataset=table.select(range(1)),
        callbacks=[Steps()],
    )
    meter.start()
    trainer.train()
    meter.stop()


if __name__ == "__main__":
    print_case(measure, shape=list(SHAPES), case=CASES)
