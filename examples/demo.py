"""The main job, end to end, on a crowd whose true rewards are known: `make demo`.

A simulated crowd rates responses; MiniLM embeds them; a quantile model and a Bradley-Terry model are fitted,
and evaluated on prompts that they have not seen; a report puts them side by side, and because the truth is
known, shows predicted against true distributions. Then a small policy is aligned to the quantile model
(`demo_policy`). Each step is a command that works on your own files too.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path

import numpy as np
from demo_policy import align

from pluralign.cli.main import main

RUN = Path(os.environ.get("PLURALIGN_DEMO", "runs/demo"))
NUM_RESPONSES = 4_000


def command(*words: str | Path) -> None:
    """Runs one pluralign command in this process, after showing it as one would type it."""
    line = shlex.join(map(str, words))
    print(
        f"\n\033[1m$ pluralign {line}\033[0m" if sys.stdout.isatty() else f"\n$ pluralign {line}", flush=True
    )
    status = main([str(word) for word in words])
    if status:
        sys.exit(status)


def picture(model_folder: Path, ratings_file: Path, target: Path) -> Path:
    """Predicted against true distributions of four held-out responses that one number cannot tell apart.

    They are picked by the prediction alone: like means, from the least to the most predicted disagreement.
    """
    import pluralign as pl
    from pluralign.data import conversation
    from pluralign.report.figures import distributions_figure

    model = pl.RewardModel.from_pretrained(model_folder)
    _, held_out = pl.split(pl.load_ratings(ratings_file), **model.fitted["split"])
    texts = [conversation(row["prompt"], row["response"]) for row in held_out]
    distribution = model.attribute_distributions(texts)["overall"]
    alike = np.flatnonzero((distribution.mean() - 3).abs().numpy() < 0.25)
    ranked = alike[np.argsort(distribution.std().numpy()[alike])]
    chosen = [int(ranked[round(share * (len(ranked) - 1))]) for share in (0.0, 0.33, 0.67, 1.0)]
    svg, _ = distributions_figure(
        target,
        model.head.levels.numpy(),
        distribution.quantile(model.head.levels.float()).numpy()[chosen],
        [held_out[i]["response"].replace(" .", ".") for i in chosen],
        (0.5, 5.5),  # ratings 1 to 5, each spread over its unit
        true=np.array([held_out[i]["true_quantiles"] for i in chosen]),
        title="Four texts that one number cannot tell apart",
        axis="rating",
    )
    return svg


def demo() -> None:
    """Draws, fits, evaluates, reports; ends with the path of the page."""
    started = time.monotonic()
    RUN.mkdir(parents=True, exist_ok=True)
    ratings = RUN / "ratings.jsonl"
    command("lab", "--kind", "ratings", "--n", str(NUM_RESPONSES), "--out", ratings)
    command("check", ratings)
    for family in ("quantile", "bradley_terry"):
        command("fit", "--family", family, "--ratings", ratings, "--out", RUN / family)
        command(
            "evaluate", "--model", RUN / family, "--ratings", ratings, "--out", RUN / f"{family}-evaluation"
        )
    svg = picture(RUN / "quantile" / "model", ratings, RUN / "distributions")

    results = json.loads((RUN / "quantile-evaluation" / "results.json").read_text())
    error = results["ratings"]["overall"]["quantile_error"]
    print(
        f"\nOn unseen prompts the predicted quantiles are {error['model']['estimate']:.2f} rating points "
        f"from the true ones;\npredicting the same for every text is {error['constant']['estimate']:.2f} "
        f"away. ({time.monotonic() - started:.0f} s)\n"
    )
    print(svg.resolve())
    evaluations = [RUN / f"{family}-evaluation" for family in ("quantile", "bradley_terry")]
    command("report", *evaluations, "--out", RUN.resolve() / "report.html")
    page = align(RUN, ratings, RUN / "quantile", command)
    print(f"\nReward models: {RUN.resolve() / 'report.html'}\nThe aligned policy, before and after: {page}")
    print(f"({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    demo()
