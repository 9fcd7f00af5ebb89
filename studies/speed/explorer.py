"""How long a person waits for the explorer: from a click on "Score" until the ranking stands there, and its
charts.

MiniLM, as `pluralign serve` serves it, and chromium on the same machine. Every texts are new; the first
click of a fresh server is a number of its own. Then the slider: from a change of the measure until the
ranking is another.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from studies.speed.serving import make_model, served, texts
from studies.speed.timing import summary

__all__ = ["run"]

SIZES = (3, 12, 100)  # responses
REPEATS = 7
_DRAWN = (
    "document.querySelectorAll('.chart').length > 0 && "
    "[...document.querySelectorAll('.chart')].every(one => one.dataset.drawn)"
)
_FILL = """texts => {
  while (document.querySelectorAll('#responses textarea').length < texts.length)
    document.querySelector('#add-response').click();
  document.querySelectorAll('#responses textarea').forEach((one, i) => one.value = texts[i]);
}"""


def run(seed: int) -> dict[str, Any]:
    """Seconds in the browser, by the number of responses."""
    from playwright.sync_api import sync_playwright

    found: dict[str, Any] = {"repeats": REPEATS}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        make_model(folder)
        with served("ours", folder) as (port, _), sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            for size in SIZES:
                page = browser.new_page()
                page.goto(f"http://127.0.0.1:{port}/")
                page.wait_for_selector("#ask[data-ready]")
                page.fill("#turns textarea", "Tell me something.")
                cells: dict[str, list[float]] = {"ranking": [], "charts": [], "measure": []}
                for repeat in range(REPEATS):
                    page.evaluate(_FILL, texts(size, 1000 * seed + 10 * repeat + size))
                    before = page.input_value("#key")
                    begun = time.perf_counter()
                    page.click("#score")
                    while page.evaluate("document.querySelector('#key').value") == before:
                        pass
                    cells["ranking"].append(time.perf_counter() - begun)
                    while not page.evaluate(_DRAWN):
                        pass
                    cells["charts"].append(time.perf_counter() - begun)
                    begun = time.perf_counter()
                    with page.expect_response("**/explorer/rank"):
                        page.fill("#risk", f"cvar:0.{repeat + 1}")
                    while not page.evaluate(
                        f"document.querySelector('#told').textContent.includes('cvar:0.{repeat + 1}')"
                    ):
                        pass
                    cells["measure"].append(time.perf_counter() - begun)
                page.close()
                if size == SIZES[0]:
                    found["first_of_all"] = cells["charts"][0]
                found[f"{size}_responses"] = {name: summary(values) for name, values in cells.items()}
            browser.close()
    return found
