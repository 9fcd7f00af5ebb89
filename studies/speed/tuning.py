"""Speed and memory of tuning a reward model: ours against TRL's `RewardTrainer`, the same model and pairs.

Decoders with random weights in MiniLM's and in SmolLM2's shape, one score on the last token, Bradley-Terry,
float32, fused AdamW for both, no gradient checkpointing, whole conversations of up to 256 tokens. The same
pairs come in the same order, and the losses of the steps are kept, so that what is timed can be seen to be
the same. Every case is a process of its own on one thread. CPU seconds count; memory is the highest
resident set during training above the one before it.

Cases: `trl`; `bradley_terry`, ours on the same pairs; `gaussian`, five Gaussian heads, and `quantile`, 19
levels of 4 attributes, on the same texts as ratings.
"""

from __future__ import annotations

import random
import tempfile
import time
from typing import Any

from studies.speed.memory import watched_memory
from studies.speed.own_process import print_case, run_case
from studies.speed.policy import make_tokenizer

CASES = ("trl", "bradley_terry", "gaussian", "quantile")
# layers, width, inner width, heads, heads of keys, vocabulary, pairs per step
SHAPES = {"minilm": (6, 384, 1536, 12, 12, 30_522, 16), "smollm2": (30, 576, 1536, 9, 3, 49_152, 4)}
LENGTH, STEPS, RATE, SEED = 256, 3, 1e-4, 0
TEMPLATE = "{% for m in messages %}<s> {{ m['content'] }} </s>{% endfor %}"


def grid(seed: int) -> list[dict[str, Any]]:
    """A round: every case, every second time in reverse order."""
    return [
        {"shape": shape, "case": case, "seed": seed}
        for shape in SHAPES
        for case in CASES[:: -1 if seed % 2 else 1]
    ]


def run(shape: str, case: str, seed: int) -> dict[str, Any]:
    """One case in a process of its own."""
    return run_case("studies.speed.tuning", {"shape": shape, "case": case, "seed": seed})


def measure(shape: str, case: str, seed: int) -> dict[str, Any]:
    """Trains a few steps and says what they took."""
    import torch

    torch.set_num_threads(1)
    count = SHAPES[shape][-1] * STEPS
    pairs = draw_pairs(seed, count)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trl(shape, pairs, folder) if case == "trl" else _ours(shape, case, pairs, folder)
        with watched_memory() as memory:
            cpu = time.process_time()
            trainer.train()
            cpu = time.process_time() - cpu
    return {
        "steps": STEPS,
        "pairs": count,
        "pairs_per_cpu_second": count / cpu,
        "loaded_mib": memory.before / 2**20,
        "grown_mib": (memory.peak - memory.before) / 2**20,
        "losses": [line["loss"] for line in trainer.state.log_history if "loss" in line],
    }


def draw_pairs(seed: int, count: int) -> list[dict[str, Any]]:
    """Prompts of 8 to 48 tokens; responses of a median of 60, log-normal as people's are, up to what fits."""
    r = random.Random(seed)

    def text(words: int) -> str:
        return " ".join(f"w{r.randrange(30_000)}" for _ in range(words))

    rows = []
    for number in range(count):
        before = r.randint(8, 48)
        asked = [{"role": "user", "content": text(before)}]
        row: dict[str, Any] = {"group": str(number), "prompt": asked}
        for side in ("chosen", "rejected"):
            words = min(max(4, round(r.lognormvariate(4.1, 0.8))), LENGTH - 4 - before)
            row[side] = text(words)
        rows.append(row)
    return rows


def _conversation(row: dict[str, Any], side: str) -> list[dict[str, str]]:
    return [*row["prompt"], {"role": "assistant", "content": row[side]}]


def _parts(shape: str, folder: str) -> tuple[Any, Any]:
    """The bare model and its tokenizer, with the same weights in every case."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    layers, width, inner, heads, keys, vocabulary, _ = SHAPES[shape]
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=keys,
        max_position_embeddings=LENGTH,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    tokenizer = make_tokenizer(vocabulary)
    tokenizer.pad_token = "<unk>"
    tokenizer.chat_template = TEMPLATE
    tokenizer.model_max_length = LENGTH
    return LlamaModel(config), tokenizer


def _weight(width: int) -> Any:
    import torch

    return torch.randn(width, generator=torch.Generator().manual_seed(SEED)) / width**0.5


def _trl(shape: str, pairs: list[dict[str, Any]], folder: str) -> Any:
    import torch
    from datasets import Dataset
    from transformers import LlamaForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    bare, tokenizer = _parts(shape, folder)
    bare.config.num_labels = 1
    model = LlamaForSequenceClassification(bare.config)
    model.model = bare
    with torch.no_grad():
        model.score.weight.copy_(_weight(bare.config.hidden_size)[None])
    sides = ("chosen", "rejected")
    table = Dataset.from_list([{side: _conversation(row, side) for side in sides} for row in pairs])
    config = RewardConfig(
        folder,
        max_steps=STEPS,
        per_device_train_batch_size=SHAPES[shape][-1],
        learning_rate=RATE,
        lr_scheduler_type="cosine",
        warmup_steps=0,
        max_length=LENGTH,
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=SEED,
        disable_dropout=False,  # the model has none
    )
    return RewardTrainer(model, args=config, train_dataset=table, processing_class=tokenizer)


def _ours(shape: str, case: str, pairs: list[dict[str, Any]], folder: str) -> Any:
    from pathlib import Path

    from pluralign import backbones
    from pluralign.backbones.tuned import Tuning, open_weights
    from pluralign.fitting.tuning.config import TuningConfig
    from pluralign.fitting.tuning.module import TunedModule
    from pluralign.fitting.tuning.trainer import TuningTrainer, arguments

    bare, tokenizer = _parts(shape, folder)
    home = Path(folder, "model")
    bare.save_pretrained(home)
    tokenizer.save_pretrained(home)
    del bare
    backbone = backbones.load(str(home), pooling="last", max_length=LENGTH)
    open_weights(backbone.model, Tuning("full", backbone.fingerprint))
    head, trained, problem = _problem(case, pairs, backbone.response_size)
    embedded = {"train": backbone.embed(problem.conversations[:1], progress=False)}
    module = TunedModule(backbone, head, trained, {"train": problem}, embedded)
    size = SHAPES[shape][-1]
    config = TuningConfig(
        lr=RATE,
        head_lr=RATE,
        max_steps=STEPS,
        batch=size if case == "bradley_terry" else 2 * size,
        warmup=0.0,
        held_out=0.0,
        logging_steps=1,
        tune_seed=SEED,
    )
    args = arguments(
        config, "full", str(Path(folder, "run")), len(problem), 0, width=1, on_cpu=True, bar=False
    )
    args.save_strategy = "no"
    module.freeze_unused()
    return TuningTrainer(module, args, config)


def _problem(case: str, pairs: list[dict[str, Any]], width: int) -> tuple[Any, tuple[str, ...], Any]:
    """A head with random weights, which of its tensors are trained, and the units with their losses."""
    import torch
    from torch.nn.functional import softplus

    from pluralign import losses
    from pluralign.fitting.tuning.problem import Problem
    from pluralign.heads import BradleyTerryHead, ColumnScaling

    texts = [_conversation(row, side) for row in pairs for side in ("chosen", "rejected")]
    plain = ColumnScaling.empty(width)
    if case == "bradley_terry":
        head = BradleyTerryHead(plain, _weight(width))
        units = torch.arange(len(texts)).view(-1, 2)

        def of_pairs(own: Any, vectors: Any, rows: Any) -> Any:
            scores = (own.scaling(vectors.flatten(0, 1)) @ own.weight).view(-1, 2)
            return losses.bradley_terry(scores[:, 0], scores[:, 1])

        return head, ("weight",), Problem(texts, units, [row["group"] for row in pairs], of_pairs)

    outputs = 10 if case == "gaussian" else 76
    wide = _Wide(
        plain, torch.randn(outputs, width, generator=torch.Generator().manual_seed(SEED)) / width**0.5
    )
    target = torch.rand(len(texts), generator=torch.Generator().manual_seed(1))
    levels = torch.arange(1, 20) / 20

    def of_ratings(own: Any, vectors: Any, rows: Any) -> Any:
        raw, wanted = own.scaling(vectors[:, 0]) @ own.weight.T, target[rows]
        if case == "gaussian":
            means, stds = raw[:, :5], softplus(raw[:, 5:]) + 0.01
            return losses.gaussian_nll(means, stds, wanted[:, None].expand_as(means)).mean(1)
        each = raw.view(-1, 4, 19).flatten(0, 1)
        return losses.pinball(each, wanted.repeat_interleave(4), levels).view(-1, 4).mean(1)

    groups = [row["group"] for row in pairs for _ in range(2)]
    return wide, ("weight",), Problem(texts, torch.arange(len(texts))[:, None], groups, of_ratings)


def _Wide(scaling: Any, weight: Any) -> Any:
    """Many linear outputs on the vector; as little of a head as training needs."""
    from torch import nn

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scaling = scaling
            self.register_buffer("weight", weight)

    return Wide()


if __name__ == "__main__":
    print_case(measure, shape=list(SHAPES), case=CASES)
