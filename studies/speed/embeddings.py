"""Claim: `Backbone.embed` takes a fraction of the time of the plain loop, for the same vectors.

Measured on one thread, ours and the plain way in turn in one process; the median of the ratios of neighbours:

- texts: MiniLM on preference pairs with long dialogues (hh_rlhf_harmless), float32 and bfloat16; other pairs
  in every repeat. The plain loop takes each pair's prompt, chosen and rejected text once, in file order, in
  padded batches of 32.
- pairs: crowd comparisons (ukpconvarg), where each argument is in many pairs; then once more from the cache.
- decoder: a Llama with random weights, eight responses to each long prompt, prompts shared or not.
- sentence_transformers, an arm of its own: `encode` of the same weights on the same texts, which sorts them
  by length as ours does, and whether the vectors are the same.
- machine: the rate of a large matrix product, and which share of it the forward passes reach.

What a GPU does is measured in `studies/gpu`. Ratios are the result; times hold for the machine that is named.
"""

from __future__ import annotations

import gzip
import json
import logging
import random
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pluralign.backbones import Backbone, EmbeddingCache, load
from pluralign.backbones.locate import find_folder
from studies.shared_data import shared_data
from studies.speed.timing import Timing, rounds

SEED = 0
PLAIN_BATCH = 32
SECONDS, PAIRS = 360.0, 80  # about how long to measure, at least 3 repeats; preference pairs in each

Row = dict[str, Any]
Conversation = list[dict[str, str]]


def read_rows(file: Path) -> list[Row]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def conversations_of(row: Row, *names: str) -> list[Conversation]:
    return [[*row["prompt"], {"role": "assistant", "content": row[name]}] for name in names]


def prompt_of(row: Row) -> str:
    prompt = row["prompt"]
    return (
        prompt[0]["content"]
        if len(prompt) == 1
        else "\n".join(f"{m['role']}: {m['content']}" for m in prompt)
    )


@torch.inference_mode()
def plain_loop(backbone: Backbone, texts: Sequence[str]) -> torch.Tensor:
    """File order, batches of 32, padded to the longest, pooled by masked mean: what most scripts do."""
    vectors = []
    for at in range(0, len(texts), PLAIN_BATCH):
        batch = backbone.tokenizer(
            list(texts[at : at + PLAIN_BATCH]),
            padding=True,
            truncation=True,
            max_length=backbone.config.max_length,
            return_tensors="pt",
        ).to(backbone.model.device)
        states = backbone.model(**batch).last_hidden_state.float()
        mask = batch["attention_mask"][..., None].float()
        vectors.append((states * mask).sum(1) / mask.sum(1))
    return torch.cat(vectors).cpu()


def flops(backbone: Backbone, lengths: Sequence[int]) -> float:
    """Multiply-adds (times two) of the layers' matrices and of attention, for texts of these lengths."""
    config = backbone.model.config
    layers = sum(p.numel() for n, p in backbone.model.named_parameters() if "layer" in n and p.dim() == 2)
    attention = 4 * config.num_hidden_layers * config.hidden_size
    return sum(2.0 * layers * n + attention * n * n for n in lengths)


def matmul_rate(dtype: torch.dtype, device: str = "cpu") -> float:
    """Most floating-point operations per second of a large square product."""
    size = 1024 if device == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    timing = Timing()
    for _ in range(10):
        timing.run("matmul", lambda: a @ b)
    seconds = timing.cpu if device == "cpu" else timing.wall
    return 2 * size**3 / min(seconds["matmul"])


def sample_pairs(data: Path) -> list[Row]:
    rows = read_rows(data / "hh_rlhf_harmless" / "pairs.jsonl.gz")
    return random.Random(SEED).sample(rows, len(rows))


def conversations_and_texts(rows: Sequence[Row]) -> tuple[list[Conversation], list[str]]:
    """The same work for both: conversations for ours, their texts in file order for the plain loop."""
    conversations = [
        conversation for row in rows for conversation in conversations_of(row, "chosen", "rejected")
    ]
    return conversations, [text for row in rows for text in (prompt_of(row), row["chosen"], row["rejected"])]


def work_of(backbone: Backbone, texts: Sequence[str]) -> float:
    """Floating-point operations that the distinct texts need without padding."""
    read = backbone.tokenizer(sorted(set(texts)), truncation=True, max_length=backbone.config.max_length)
    return flops(backbone, [len(one) for one in read["input_ids"]])


def measure_texts(data: Path, num_pairs: int, seconds: float) -> dict[str, Any]:
    rows = sample_pairs(data)
    exact, half = load("minilm", device="cpu"), load("minilm", dtype="bfloat16", device="cpu")
    timing, work, count = Timing(), 0.0, 0
    rates = {"float32": 0.0, "bfloat16": 0.0}
    for number in rounds(seconds):
        conversations, texts = conversations_and_texts(rows[number * num_pairs : (number + 1) * num_pairs])
        work, count = work + work_of(exact, texts), count + len(texts)
        rates = {name: max(rate, matmul_rate(getattr(torch, name))) for name, rate in rates.items()}
        for kind, backbone in (("", exact), ("_bfloat16", half)):
            timing.in_turn(
                number,
                {
                    f"plain{kind}": partial(plain_loop, backbone, texts),
                    f"ours{kind}": partial(backbone.embed, conversations),
                },
            )
    full, short = exact.embed(conversations), half.embed(conversations)
    responses = plain_loop(exact, [conversation[-1]["content"] for conversation in conversations])
    cosine = torch.nn.functional.cosine_similarity(full.response, short.response)
    return {
        "pairs_per_repeat": num_pairs,
        "texts_per_repeat": 3 * num_pairs,
        "seconds": timing.seconds(),
        "texts_per_second": {name: count / sum(values) for name, values in timing.wall.items()},
        "speedup": timing.ratio("plain", "ours"),
        "speedup_bfloat16": timing.ratio("plain_bfloat16", "ours_bfloat16"),
        "bfloat16_over_float32": timing.ratio("ours", "ours_bfloat16"),
        "largest_difference_to_plain": float((full.response - responses).abs().max()),
        "bfloat16_cosine": {"mean": float(cosine.mean()), "min": float(cosine.min())},
        "matmul_gflops": {name: rate / 1e9 for name, rate in rates.items()},
        # By CPU time: the thread's own speed, whoever else uses the machine.
        "share_of_matmul_rate": {
            "float32": work / sum(timing.cpu["ours"]) / rates["float32"],
            "bfloat16": work / sum(timing.cpu["ours_bfloat16"]) / rates["bfloat16"],
        },
    }


def run_sentence_transformers(seed: int) -> dict[str, Any]:
    """Ours against `SentenceTransformer.encode` on texts of preference pairs, other ones in every repeat."""
    from sentence_transformers import SentenceTransformer

    assert seed == SEED
    logging.getLogger("pluralign").setLevel(logging.ERROR)
    rows, timing, count = sample_pairs(shared_data()), Timing(), 0
    ours = load("minilm", device="cpu")
    peer = SentenceTransformer(str(find_folder("minilm")[0]), device="cpu")
    peer.max_seq_length = ours.config.max_length
    encode = partial(peer.encode, batch_size=PLAIN_BATCH, show_progress_bar=False, convert_to_tensor=True)
    for number in rounds(0.25 * SECONDS):
        conversations, texts = conversations_and_texts(rows[number * PAIRS : (number + 1) * PAIRS])
        count += len(texts)
        ways = {"peer": partial(encode, texts), "ours": partial(ours.embed, conversations)}
        timing.in_turn(number, ways)
    # The published model ends in a normalisation.
    found = torch.nn.functional.normalize(ours.embed(conversations).response)
    theirs = encode([conversation[-1]["content"] for conversation in conversations])
    return {
        "texts_per_repeat": 3 * PAIRS,
        "seconds": timing.seconds(),
        "texts_per_second": {name: count / sum(values) for name, values in timing.wall.items()},
        "speedup": timing.ratio("peer", "ours"),
        "largest_difference": float((found - theirs).abs().max()),
    }


def measure_pairs(data: Path, num_pairs: int, seconds: float) -> dict[str, Any]:
    rows = read_rows(data / "ukpconvarg" / "comparisons.jsonl.gz")[: 20 * num_pairs]
    conversations = [
        conversation for row in rows for conversation in conversations_of(row, "response_a", "response_b")
    ]
    backbone, chance, timing = load("minilm", device="cpu"), random.Random(SEED), Timing()
    for number in rounds(seconds):
        # The plain loop's cost per pair is the same throughout: a sample of the pairs stands for all.
        sample = chance.sample(rows, num_pairs)
        texts = [text for row in sample for text in (prompt_of(row), row["response_a"], row["response_b"])]
        with tempfile.TemporaryDirectory() as folder:
            embed = partial(backbone.embed, conversations, cache=EmbeddingCache(folder))
            timing.in_turn(number, {"plain": partial(plain_loop, backbone, texts), "ours": embed})
            timing.run("cached", embed)
    share = len(rows) / num_pairs
    return {
        "pairs": len(rows),
        "pairs_of_the_plain_loop": num_pairs,
        "distinct_responses": len({conversation[-1]["content"] for conversation in conversations}),
        "seconds": timing.seconds(),
        "speedup": timing.ratio("plain", "ours", share),
        "speedup_cached": timing.ratio("plain", "cached", share),
    }


def build_decoder(folder: Path, texts: Sequence[str], **sizes: int) -> str:
    """A Llama with random weights and a tokenizer of its own; returns where it is."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoModel, LlamaConfig, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4096, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")
    fast.save_pretrained(folder)
    torch.manual_seed(SEED)
    disable_progress_bar()
    config = LlamaConfig(vocab_size=4096, max_position_embeddings=2048, **sizes)
    AutoModel.from_config(config).save_pretrained(folder)
    return str(folder)


SMALL = {
    "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 4,
}  # fmt: skip


def measure_decoder(
    data: Path, num_prompts: int, seconds: float, sizes: dict[str, int], **options: Any
) -> dict[str, Any]:
    """Eight responses to each long prompt; other prompts in every repeat."""
    rows = read_rows(data / "hh_rlhf_harmless" / "pairs.jsonl.gz")
    prompts = [row["prompt"] for row in rows]
    prompts.sort(key=lambda one: -sum(len(message["content"]) for message in one))
    answers = [row["chosen"][:150] for row in rows[: 8 * num_prompts]]
    timing = Timing()
    with tempfile.TemporaryDirectory() as folder:
        texts = [message["content"] for one in prompts[:100] for message in one] + answers
        path = build_decoder(Path(folder), texts, **sizes)
        apart, shared = load(path, share_prompts=False, **options), load(path, **options)
        for number in rounds(seconds):
            conversations = [
                [*prompts[number + place * 15], {"role": "assistant", "content": answer}]
                for place in range(num_prompts)
                for answer in answers[8 * place : 8 * place + 8]
            ]
            timing.in_turn(
                number,
                {"plain": partial(apart.embed, conversations), "ours": partial(shared.embed, conversations)},
            )
        expected, found = apart.embed(conversations), shared.embed(conversations)
    return {
        "prompts": num_prompts,
        "responses": len(conversations),
        "tokens": expected.stats.tokens,
        "seconds": timing.seconds(),
        "speedup": timing.ratio("plain", "ours"),
        "largest_difference": float((expected.response - found.response).abs().max()),
    }


def run(seed: int) -> dict[str, Any]:
    """Texts, pairs and decoder; the seed is that of the pairs that are drawn, 0."""
    assert seed == SEED
    data = shared_data()
    logging.getLogger("pluralign").setLevel(logging.ERROR)  # cut texts are cut on both sides
    return {
        "texts": measure_texts(data, PAIRS, 0.5 * SECONDS),
        "pairs": measure_pairs(data, PAIRS, 0.25 * SECONDS),
        "decoder": measure_decoder(data, 5, 0.25 * SECONDS, SMALL, device="cpu"),
    }
