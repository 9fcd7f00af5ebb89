"""The pictures of the explorer at three sizes: fits models on the lab's people and photographs the page.

    python docs/scripts/explorer_pictures.py FOLDER

In: FOLDER for the models, which are fitted where they are missing (some minutes); playwright and Debian's
chromium.
Out: docs/images/explorer_{wide,tablet,phone}.png.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image
from playwright.sync_api import sync_playwright

import pluralign as pl
from pluralign.server import ServerConfig
from pluralign.server.app import build
from pluralign.server.loading import load_personas, load_scorer

IMAGES = Path(__file__).parents[1] / "images"
SIZES = {  # width, height, scale, dark
    "wide": (1440, 1600, 1, False),
    "tablet": (820, 1500, 1, True),
    "phone": (390, 1250, 2, False),
}
_COLOURS = 192  # of a stored picture


def models(folder: Path) -> dict[str, Path]:
    """The crowd's model, an ensemble with a gate, and one per persona; by name."""
    names = list(pl.lab.Crowd().population)
    places = {name: folder / name for name in ("crowd", *names)}
    backbone = None
    for name, place in places.items():
        if place.is_dir():
            continue
        people = pl.lab.Crowd(population=None if name == "crowd" else {name: 1.0})
        options: dict[str, Any] = {"config": {"baselines": False}, "progress": False}
        backbone = backbone or pl.backbones.load("minilm")
        if name == "crowd":
            asked = ("helpfulness", "safety", "courtesy", "conciseness")
            tables = {"ratings": people.ratings(1600, attributes=asked), "pairs": people.pairs(1500, seed=1)}
            pl.fit("quantile", **tables, backbone=backbone, ensemble=3, **options).save_pretrained(place)
        else:
            table = people.ratings(1600, raters_per_item=3)
            pl.fit("quantile", ratings=table, backbone=backbone, **options).save_pretrained(place)
    return places


def contested(model: pl.RewardModel) -> list[Any]:
    """Three responses to one prompt whose order by the mean is most unlike that by the worst quarter."""
    talks = pl.lab.Crowd().conversations(400)
    mean, worst = (model.score(talks, risk=measure) for measure in ("mean", "cvar:0.25"))
    triples = [range(first, first + 3) for first in range(0, len(talks), 4)]

    def change(triple: range) -> float:
        pairs = [(i, j) for i in triple for j in triple]
        return max(float(min(mean[i] - mean[j], worst[j] - worst[i])) for i, j in pairs)

    return [talks[place] for place in max(triples, key=change)]


def photograph(url: str, talks: list[Any]) -> None:
    """Fills the form as a person would, and takes a picture of what is on the screen."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (width, height, scale, dark) in SIZES.items():
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if dark else "light",
                device_scale_factor=scale,
            )
            page.goto(url)
            page.wait_for_selector("#ask[data-ready]")
            page.fill("#turns textarea", talks[0][-2]["content"])
            for number, talk in enumerate(talks, 1):
                if number > 2:
                    page.click("#add-response")
                page.fill(f"#response-{number}", talk[-1]["content"])
            page.click("#score")
            page.wait_for_selector(".chart[data-drawn]")
            if name == "phone":
                page.evaluate("document.querySelector('#settings').scrollIntoView()")
            else:
                page.evaluate("document.activeElement.blur()")
            time.sleep(1.0)
            file = IMAGES / f"explorer_{name}.png"
            page.screenshot(path=file)
            with Image.open(file) as picture:
                picture.convert("RGB").quantize(_COLOURS).save(file, optimize=True)
            page.close()
        browser.close()


def main(folder: Path) -> None:
    """Fits what is missing, serves it and takes the pictures."""
    places = models(folder)
    people = {name: str(place) for name, place in places.items() if name != "crowd"}
    model = load_scorer(str(places["crowd"]))
    app = build(
        model,
        ServerConfig(risk="cvar:0.25"),
        personas=lambda scorer: load_personas(people, scorer),
        folder="runs/crowd",
    )
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
    thread.start()
    photograph(f"http://127.0.0.1:{listening.getsockname()[1]}/", contested(model))
    server.should_exit = True
    thread.join(10)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
