"""The pictures of the tutorial, from its own steps: run it in a folder where its pages were followed.

    python docs/scripts/tutorial_pictures.py FOLDER

In: `ratings.jsonl`, `runs/quality`, `runs/quality-evaluation/report.html` and `policy.html` of FOLDER. Out:
docs/images/tutorial_*. The two pages are photographed by Debian's chromium where it is installed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

import pluralign as pl
from pluralign.data import conversation
from pluralign.report.figures import distributions_figure

mpl.use("agg")
IMAGES = Path(__file__).parents[1] / "images"


def distributions(model: pl.RewardModel, rows: Any, answers: list[Any]) -> None:
    """Four answers of like means, from the least to the most predicted disagreement, beside the truth."""
    levels = model.head.levels
    predicted = model.attribute_distributions(answers)["overall"]
    alike = np.flatnonzero((predicted.mean() - 3).abs().numpy() < 0.25)
    ranked = alike[np.argsort(predicted.std().numpy()[alike])]
    chosen = [int(ranked[round(share * (len(ranked) - 1))]) for share in (0.0, 0.33, 0.67, 1.0)]
    _, png = distributions_figure(
        IMAGES / "tutorial_distributions",
        levels.numpy(),
        predicted.quantile(levels.float()).numpy()[chosen],
        [rows[i]["response"].replace(" .", ".") for i in chosen],
        (0.5, 5.5),
        true=np.array([rows[i]["true_quantiles"] for i in chosen]),
        title="Four answers that one number cannot tell apart",
        axis="rating",
    )
    png.unlink()


def risk(model: pl.RewardModel, answers: list[Any]) -> None:
    """Mean against the worst quarter, and the two answers that change places by most."""
    from matplotlib import pyplot

    mean, tail = (model.score(answers, risk=measure).numpy() for measure in ("mean", "cvar:0.25"))
    gained, lost = mean[:, None] - mean[None, :], tail[None, :] - tail[:, None]
    first, second = np.unravel_index(np.argmax(np.minimum(gained, lost)), gained.shape)
    figure, axes = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")
    axes.scatter(mean, tail, s=14, color="#9aa4b2", linewidths=0)
    for index, colour, name in (
        (first, "#a5548a", "better on average"),
        (second, "#2f7fb8", "better for the least happy"),
    ):
        axes.scatter(mean[index], tail[index], s=60, color=colour, label=name)
    axes.set(xlabel="mean", ylabel="mean of the least happy quarter")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    mpl.rcParams["svg.hashsalt"] = "pluralign"
    figure.savefig(IMAGES / "tutorial_risk.svg", metadata={"Date": None})


def photograph(page: Path, name: str, height: int) -> None:
    """The top of a page."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print(f"no chromium: {name} stays as it is")
        return
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *(f"--user-data-dir={profile}", f"--window-size=1000,{height}"),
                *(f"--screenshot={IMAGES / name}", page.resolve().as_uri()),
            ],
            check=True,
            capture_output=True,
        )


def main(folder: Path) -> None:
    """All pictures."""
    model = pl.RewardModel.from_pretrained(folder / "runs" / "quality" / "model")
    _, rows = pl.split(pl.load_ratings(folder / "ratings.jsonl"), **model.fitted["split"])
    answers = [conversation(row["prompt"], row["response"]) for row in rows]
    distributions(model, rows, answers)
    risk(model, answers)
    photograph(folder / "runs" / "quality-evaluation" / "report.html", "tutorial_report.png", 900)
    photograph(folder / "policy.html", "tutorial_policy.png", 900)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
