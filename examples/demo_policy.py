"""The second half of `make demo`: a small policy is aligned to the reward model of the first half.

The policy is a language model of 0.4 million weights that learns the simulated crowd's texts from scratch. It
answers prompts, the reward model scores the answers by the mean of the worst quarter of its predicted
distribution, and QRPO moves the policy. Because the crowd's true rewards are known, the page at the end shows
what people would really think: gold beside proxy, before and after, on prompts that training did not see.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

BETA, RATE = 0.3, 3e-4
NUM_TRAIN, NUM_HELD_OUT = 160, 64
RISK = "cvar:0.25"


def align(run: Path, ratings_file: Path, reward_model: Path, command: Callable[..., None]) -> Path:
    """Samples, aligns and evaluates; returns the page.

    Args:
        run: folder of the demo.
        ratings_file: rows whose prompts are asked.
        reward_model: run folder of `pluralign fit`.
        command: runs one pluralign command.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import pluralign as pl
    from pluralign.lab import Crowd, alignment_record, cached_language_model, sample_policy
    from pluralign.report.alignment import write_alignment

    print("\nA small language model learns the crowd's texts from scratch ...", flush=True)
    start = cached_language_model(run, progress=True)
    prompts = list({repr(p): p for p in pl.load_ratings(ratings_file)["prompt"]}.values())
    asked, held_out = prompts[:NUM_TRAIN], prompts[NUM_TRAIN : NUM_TRAIN + NUM_HELD_OUT]
    lines = [json.dumps({"prompt": prompt}) + "\n" for prompt in asked]
    (run / "prompts.jsonl").write_text("".join(lines), encoding="utf-8")
    command(
        *("sample", "--prompts", run / "prompts.jsonl", "--model", start, "--completions", "8"),
        *("--max_new_tokens", "64", "--reward_model", reward_model, "--risk", RISK, "--beta", str(BETA)),
        *("--device", "cpu", "--out", run / "references"),
    )
    command(
        *("align", "--method", "qrpo", "--beta", str(BETA), "--learning_rate", str(RATE), "--model", start),
        *("--data", run / "references", "--out", run / "aligned", "--per_device_train_batch_size", "32"),
        *("--num_train_epochs", "1", "--save_strategy", "no", "--use_cpu", "true", "--report_to", "none"),
    )
    tokenizer = AutoTokenizer.from_pretrained(start)
    policies = [AutoModelForCausalLM.from_pretrained(path) for path in (start, run / "aligned" / "model")]
    model = pl.RewardModel.from_pretrained(reward_model / "model")
    before, after = (
        sample_policy(
            policy,
            policies[0],
            tokenizer,
            held_out,
            8,
            max_new_tokens=64,
            score=lambda c: model.score(c, RISK),
        )
        for policy in policies
    )
    settings = {
        "method": "qrpo",
        "beta": BETA,
        "learning rate": RATE,
        "proxy": f"{RISK} of the quantile model",
    }
    page = run / "policy.html"
    write_alignment(alignment_record(Crowd(seed=0), before, after, settings=settings), page)
    return page.resolve()
