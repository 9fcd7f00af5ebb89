"""What a page of the documentation takes for granted: files in the current folder, and names.

A page says `model` or `conversations` without making them, as a reader would have them. The backbone is
`fake_backbone`'s, which reads numbers at the beginning of a text, and takes a digest of any other text.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import pluralign as pl
import tiny_policy
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, votes_rows
from pluralign.backbones import Embeddings
from pluralign.data import conversation
from pluralign.heads import BradleyTerryHead, ColumnScaling
from tiny_backbones import tiny_decoder

Names = dict[str, Any]
Rows = list[dict[str, Any]]


class TextBackbone(FakeBackbone):
    """A fake backbone for any text."""

    def embed(self, conversations: Sequence[Any], *, cache: Any = None, progress: Any = None) -> Embeddings:
        readable = [[*c[:-1], c[-1] | {"content": _numbered(c[-1]["content"])}] for c in conversations]
        return super().embed(readable, cache=cache, progress=progress)


def _numbered(text: str) -> str:
    try:
        first, second = text.split()[:2]
        float(first), float(second)
    except ValueError:
        digest = hashlib.blake2b(text.encode(), digest_size=2).digest()
        return f"{digest[0] / 64 - 2:.3f} {digest[1] / 128:.3f} {text}"
    return text


def write(name: str, rows: Rows) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def ratings(attributes: tuple[str, ...], num_prompts: int = 20) -> Rows:
    rows = ratings_rows(num_prompts=num_prompts, attributes=len(attributes))
    return [row | {"attribute": attributes[int(row["attribute"][1:])]} for row in rows]


def files(attributes: tuple[str, ...] = ("helpfulness",), num_prompts: int = 20) -> Names:
    """Data files, a policy, and what a reader has after loading them."""
    rows = ratings(attributes, num_prompts)
    write("ratings.jsonl", rows)
    write("pairs.jsonl", pairs_rows(40))
    write("votes.jsonl", votes_rows(30))
    answers = [{"prompt": row["prompt"], "response": row["response"]} for row in rows[:8]]
    write("answers.jsonl", answers)
    write("responses.jsonl", answers)
    write("prompts.jsonl", [{"prompt": f"Question {i}?"} for i in range(4)])
    table = pl.load_ratings("ratings.jsonl")
    conversations = [conversation(row["prompt"], row["response"]) for row in answers]
    return {"pl": pl, "torch": torch, "ratings": table, "train": table, "conversations": conversations}


# What worlds contain before the page begins; fits of the page itself search for their penalties.
QUICK: dict[str, dict[str, Any]] = {
    "quantile": {"l1": 0.01},
    "regression": {"l2": 0.1},
    "categorical": {"l2": 0.01},
    "gaussian_ensemble": {"l2": 0.1, "std_l2": 1.0, "steps": 100},
}


def fitted(names: Names, family: str = "quantile", **options: Any) -> pl.RewardModel:
    return pl.fit(family, ratings=names["ratings"], config=QUICK[family], **options)


def run_of(family: str, folder: str, **options: str) -> None:
    """A run folder, as `pluralign fit` makes it."""
    from pluralign.cli.main import main

    flags = [word for key, value in (QUICK[family] | options).items() for word in (f"--{key}", f"{value}")]
    assert main(["fit", "--family", family, "--ratings", "ratings.jsonl", "--out", folder, *flags]) == 0


def attributes() -> Names:
    names = files(("helpfulness", "safety"))
    run_of("quantile", "runs/quality")
    return names | {"pairs": pl.load_pairs("pairs.jsonl")}


def calibrating() -> Names:
    """As many groups as calibrating needs, after those of the fit and for the evaluation."""
    names = files(num_prompts=200)
    write("votes.jsonl", votes_rows(120))
    return names


def suites() -> Names:
    names = files()
    run_of("quantile", "runs/quality")
    write("held_out.jsonl", [row | {"group": f"new {i}"} for i, row in enumerate(pairs_rows(30, seed=5))])
    return names | {"model": pl.RewardModel.from_pretrained("runs/quality/model")}


def combining() -> Names:
    names = files()
    model = fitted(names)
    references = [conversation(row["prompt"], row["response"]) for row in names["ratings"]]
    count = len(references)
    repeated = torch.randint(1, 11, (count, 2), generator=torch.Generator().manual_seed(0)).double()
    repeated[::3, 1] = math.nan
    more = {"numbers": repeated[:, 0].tolist(), "repeated": repeated.tolist()}
    probs = torch.full((count, 5), 0.2) + torch.linspace(-0.1, 0.1, count)[:, None] * torch.tensor(
        [-1, -0.5, 0, 0.5, 1]
    )
    models = {"model": model, "model_a": model, "model_b": fitted(names, "regression")}
    return names | models | more | {"probs": probs, "conversations": references, "texts": references[:3]}


def comparing() -> Names:
    """Runs of three fits, samples of two policies, and values of the same rows by three models."""
    names = files()
    for run, family in {"a": "quantile", "b": "regression", "c": "gaussian_ensemble"}.items():
        run_of(family, f"runs/{run}")
    run_of("quantile", "runs/reward")
    for policy, word in {"new": 1, "old": 0}.items():
        rows = [
            {"id": str(i), "prompt": f"Question {i}?", "response": f"{word}.{i % 7} 1 yes"} for i in range(40)
        ]
        write(f"{policy}-policy.jsonl", rows)
    values = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([0.8, 0.7, 0.0])
    scores = dict(zip(("scores_a", "scores_b", "scores_c"), values.T, strict=True))
    return names | scores | {"prompts": [f"Question {i // 3}?" for i in range(60)]}


def conversations() -> Names:
    return {"tokenizer": tiny_policy.tokenizer(), "model": tiny_policy.model(), "pl": pl}


def updating() -> Names:
    rows = ratings(("category",))
    rated = [row | {"scale": [0, 5], "ratings": [float(min(r, 5)) for r in row["ratings"]]} for row in rows]
    write("ratings.jsonl", rated)
    names = {"ratings": pl.load_ratings("ratings.jsonl")}
    texts = [conversation(row["prompt"], row["response"]) for row in rows[:20]]
    model = fitted(names, "categorical")
    probs = torch.tensor([[[0.8, 0.2], [0.3, 0.7]]]).expand(3, 2, 2)
    times = [1.0, 2.0, 3.0]
    people = {"votes": torch.tensor([0, 1, 1]), "probs": probs, "times": times, "atoms": [0.0, 1.0]}
    return {"model": model, "texts": texts, "probs_of_other_texts": probs, **people}


def categorical() -> Names:
    names = files(("overall",))
    answers = names["conversations"]
    probs = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.2, 0.2]])
    losses = {
        "probs": probs,
        "target": probs.flip(-1),
        "logits": probs.log(),
        "R": torch.tensor([0.0, 0.5, 1.0]),
    }
    cost = torch.tensor([[0.0, 1.0, 3.0], [1.0, 0.0, 1.5], [3.0, 1.5, 0.0]])
    axes = {"helpfulness": torch.tensor([2.0, 1.0, 0.0]), "harm": torch.tensor([0.0, 0.0, 1.0])}
    sides = {"chosen": answers[:3], "rejected": answers[3:6], "a": answers[:3], "b": answers[3:6]}
    return names | losses | axes | sides | {"M": cost}


def ensembles() -> Names:
    names = files()
    return names | {"references": [*names["conversations"], *names["conversations"]]}


def qrpo() -> Names:
    generator = torch.Generator().manual_seed(0)
    references = torch.randn(64, 8, generator=generator)
    log_probs = -20 * torch.rand(64, generator=generator)
    return {
        "pl": pl,
        "rewards": references[:, 0],
        "reference_rewards": references,
        "log_probs": log_probs,
        "reference_log_probs": log_probs - 0.1,
    }


def objectives() -> Names:
    names = ["chosen", "rejected", "reference_chosen", "reference_rejected"]
    names += ["reward_chosen", "reward_rejected", "mean_chosen", "mean_rejected"]
    return {name: torch.linspace(-3, -1, 4) * (1 + i / 7) for i, name in enumerate(names)} | {"pl": pl}


def risk() -> Names:
    return {"pl": pl, "d": pl.Quantiles(torch.tensor([[1.0, 2.0, 4.0]]), [0.05, 0.5, 0.95])}


def readme() -> Names:
    """A small policy with files; the page fits its reward model itself."""
    names = files()
    tiny_policy.model(positions=2048).save_pretrained("my/policy")
    tiny_policy.tokenizer().save_pretrained("my/policy")
    return names


def policy() -> Names:
    """The same, and the run `runs/quality`, which judges the policy."""
    names = readme()
    run_of("quantile", "runs/quality")
    return names


def sampling() -> Names:
    names = policy()
    sides = [
        {"prompt": f"Question {i}?", "chosen": f"1.{i} 1 yes", "rejected": f"-1.{i} 1 no"} for i in range(4)
    ]
    write("preferences.jsonl", sides)
    return names | {"preference_data": pl.load_pairs("preferences.jsonl")}


def selecting() -> Names:
    """A reward model with its ratings, and rewarded completions of another program as a run."""
    from pluralign.cli.main import main

    names = files()
    write("ratings.jsonl", ratings(("helpfulness",)))
    run_of("quantile", "runs/quality")
    answers = [
        {"prompt": f"Question {i}?", "completion": f"{j}.{i} 1 yes", "reward": i * j % 4}
        for i in range(4)
        for j in range(4)
    ]
    write("answers.jsonl", answers)
    line = "sample --shards answers.jsonl --reward_column --beta null --out runs/reference"
    assert main(line.split()) == 0
    return names


def aligning() -> Names:
    """Tables of both shapes; the objective at the end of the page is the reader's own."""
    from datasets import Dataset

    from pluralign.policy import OfflineConfig

    names = policy()
    asked = [f"Question {i}?" for i in range(4)]
    rewards = {"reward": [0.1, 0.9, 0.4, 0.6], "ref_rewards": [[0.2, 0.3, 0.7]] * 4}
    table = Dataset.from_dict({"prompt": asked, "completion": ["Yes."] * 4} | rewards)
    pairs = Dataset.from_dict({"prompt": asked, "chosen": ["Yes."] * 4, "rejected": ["No."] * 4})
    config = OfflineConfig("runs/hinge", use_cpu=True, report_to="none")
    return names | {"table": table, "pairs": pairs, "model": "my/policy", "config": config}


def online() -> Names:
    """A policy, a stored reward model and prompts."""
    from datasets import Dataset

    names = policy()
    fitted(names).save_pretrained("quality-model")
    prompts = Dataset.from_dict(
        {"prompt": [[{"role": "user", "content": f"Question {i}?"}] for i in range(4)]}
    )
    return {"prompts": prompts, "held_out": prompts}


def nothing() -> Names:
    return {}


def exporting() -> Names:
    """A model on a tiny decoder."""
    backbone = tiny_decoder(Path("backbone"))
    head = BradleyTerryHead(ColumnScaling.empty(32), torch.linspace(-1, 1, 32))
    talk = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}]
    return {"model": pl.RewardModel(backbone, head), "conversations": [talk]}


WORLDS: dict[str, Callable[[], Names]] = {
    "README.md": readme,
    "docs/index.md": files,
    "docs/how-to/align.md": aligning,
    "docs/how-to/attributes.md": attributes,
    "docs/how-to/calibrate.md": calibrating,
    "docs/how-to/combining.md": combining,
    "docs/how-to/compare.md": comparing,
    "docs/how-to/conversations.md": conversations,
    "docs/how-to/export.md": exporting,
    "docs/how-to/sampling.md": sampling,
    "docs/how-to/scale.md": attributes,
    "docs/how-to/select.md": selecting,
    "docs/how-to/suites.md": suites,
    "docs/how-to/updating.md": updating,
    "docs/explanations/categorical.md": categorical,
    "docs/explanations/gaussian_ensemble.md": ensembles,
    "docs/explanations/preference_objectives.md": objectives,
    "docs/explanations/qrpo.md": qrpo,
    "docs/explanations/risk.md": risk,
}
