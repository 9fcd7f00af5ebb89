"""Speed and memory of a training step: our trainer against TRL's `DPOTrainer`, the same pairs.

A model with random weights (4 layers, width 256, vocabulary 32,000), 8 pairs per step, sequences to 512
tokens, float32, references computed beforehand, no gradient checkpointing, plain SGD. Every case is a
process of its own on one thread, the cases of a round one after the other, so that neighbours in time are
compared. CPU seconds count; memory is the highest resident set during training above the one before it, with
the model loaded and the references done.

Cases: `trl_dpo`, `dpo` (the same pairs), `qrpo` (the same responses, unpaired).
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from typing import Any

from studies.speed.memory import watched_memory
from studies.speed.own_process import print_case, run_case

CASES = ("trl_dpo", "dpo", "qrpo")
VOCABULARY, LENGTH, PAIRS, STEPS = 32_000, 512, 8, 2


def grid(seed: int) -> list[dict[str, Any]]:
    """A round: every case, every second time in reverse order."""
    return [{"case": case, "seed": seed} for case in CASES[:: -1 if seed % 2 else 1]]


def run(case: str, seed: int) -> dict[str, Any]:
    """One case in a process of its own."""
    return run_case("studies.speed.policy", {"case": case, "seed": seed})


def measure(case: str, seed: int) -> dict[str, Any]:
    """Trains a few steps and says what they took."""
    import torch

    torch.set_num_threads(1)
    pairs = draw_pairs(seed)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(case, pairs, folder)
        with watched_memory() as memory:
            cpu, wall = time.process_time(), time.perf_counter()
            trainer.train()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        shutil.rmtree(folder, ignore_errors=True)
    tokens = sum(
        2 * len(row["prompt"].split()) + len(row["chosen"].split()) + len(row["rejected"].split()) + 2
        for row in pairs
    )
    return {
        "steps": STEPS,
        "pairs_per_step": PAIRS,
        "tokens": tokens,
        "cpu_seconds_per_step": cpu / STEPS,
        "wall_seconds_per_step": wall / STEPS,
        "tokens_per_cpu_second": tokens / cpu,
        "loaded_mib": memory.before / 2**20,
        "grown_mib": (memory.peak - memory.before) / 2**20,
    }


def make_trainer(case: str, pairs: list[dict[str, Any]], folder: str) -> Any:
    from datasets import Dataset

    common = {
        "output_dir": folder,
        "max_steps": STEPS,
        "learning_rate": 1e-4,
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "max_length": LENGTH,
        "bf16": False,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    model, tokenizer = make_model(), make_tokenizer()
    if case == "trl_dpo":
        from trl import DPOConfig, DPOTrainer

        table = Dataset.from_list(pairs).select_columns(["prompt", "chosen", "rejected"])
        config = DPOConfig(**common, per_device_train_batch_size=PAIRS, precompute_ref_log_probs=True)
        return DPOTrainer(model, args=config, train_dataset=table, processing_class=tokenizer)
    from pluralign.policy import OfflineConfig, OfflineTrainer

    size = PAIRS if case == "dpo" else 2 * PAIRS
    table = Dataset.from_list(pairs if case == "dpo" else unpaired(pairs))
    config = OfflineConfig(**common, method=case, per_device_train_batch_size=size)
    trainer = OfflineTrainer(model, config, table, processing_class=tokenizer)
    trainer.ensure_reference()
    return trainer


def make_model() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=688,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=2,
        )
    )


def make_tokenizer(vocabulary: int = VOCABULARY) -> Any:
    """One token per word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(vocabulary - 3))]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **special)


def draw_pairs(seed: int) -> list[dict[str, Any]]:
    """Prompts of 16 to 128 tokens, responses of 32 up to what fits."""
    r = random.Random(seed)

    def text(count: int) -> str:
        return " ".join(f"w{r.randrange(VOCABULARY - 3)}" for _ in range(count))

    rows = []
    for _ in range(PAIRS * STEPS):
        before = r.randint(16, 128)
        rows.append(
            {
                "prompt": text(before),
                "chosen": text(r.randint(32, LENGTH - 1 - before)),
                "rejected": text(r.randint(32, LENGTH - 1 - before)),
                "reward_chosen": r.random(),
                "reward_rejected": r.random(),
                "ref_rewards": [r.random() for _ in range(8)],
            }
        )
    return rows


def unpaired(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "prompt": row["prompt"],
            "completion": row[side],
            "reward": row[f"reward_{side}"],
            "ref_rewards": row["ref_rewards"],
        }
        for row in pairs
        for side in ("chosen", "rejected")
    ]


if __name__ == "__main__":
    print_case(measure, case=CASES)
