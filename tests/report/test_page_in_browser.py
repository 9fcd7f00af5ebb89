"""The page in Debian's chromium: nothing overflows or overlaps, dark and light differ, nothing is fetched."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from pluralign.report.content import build_content
from pluralign.report.evaluations import read_evaluation
from pluralign.report.page import render_page
from pluralign.report.run_content import build_run_content
from pluralign.report.run_page import render_run
from pluralign.report.training_runs import read_training_run
from pluralign.warning_signs import SIGNS

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

PROBE = """<script>
addEventListener('load', () => {
  const overlaps = [];
  document.querySelectorAll('details').forEach(d => d.open = true);
  document.querySelectorAll('svg').forEach(svg => {
    const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
    texts.forEach(([a, p], i) => texts.slice(0, i).forEach(([b, q]) => {
      const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (wide > 1 && high > 3) overlaps.push(a + ' | ' + b);
    }));
  });
  const cut = [...document.querySelectorAll('main *')].filter(e => !e.parentElement.closest('.scroll'))
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80));
  const found = {width: innerWidth, page: document.documentElement.scrollWidth, overlaps, cut,
    paper: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.body).color,
    fetched: performance.getEntriesByType('resource').length};
  parent.postMessage(JSON.stringify(found), '*');
});
</script>"""
# No window is as narrow as a telephone, but a frame can be.
FRAME = """<!doctype html><body><script>
addEventListener('message', e => {
  const note = document.createElement('pre');
  note.id = 'found'; note.textContent = e.data; document.body.append(note);
});
</script><iframe src="page.html" style="width: WIDTHpx; height: 900px; border: 0"></iframe>"""


def seen_by_chromium(file, folder, dark=False):
    """The document after a while."""
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", f"--user-data-dir={folder / 'profile'}"),
        *("--window-size=1400,1000", "--virtual-time-budget=2000", "--dump-dom"),
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
    ]
    return subprocess.run(
        [str(CHROMIUM), *options, file.as_uri()], capture_output=True, text=True, timeout=120, check=True
    ).stdout


def measured(page, folder, width, dark=False, probe=PROBE):
    """What a script finds in the page; the page itself would not run this one."""
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert open_page != page
    (folder / "page.html").write_text(open_page.replace("</body>", probe + "</body>"), encoding="utf-8")
    frame = folder / "frame.html"
    frame.write_text(FRAME.replace("WIDTH", str(width)), encoding="utf-8")
    done = seen_by_chromium(frame, folder, dark)
    found = re.search(r'<pre id="found">(.*?)</pre>', done, re.DOTALL)
    assert found, done[-500:]
    return json.loads(found.group(1).replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))


def page_of(*folders):
    return render_page(build_content([read_evaluation(folder) for folder in folders]))


SEARCH = """<script>
addEventListener('load', () => {
  const rows = () => [...document.querySelectorAll('#find-rows tr')].filter(r => !r.hidden).length;
  const words = document.getElementById('find-words'), kind = document.getElementById('find-kind');
  const list = words.closest('details');
  const press = key =>
    document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
  const type = text => { words.value = text; words.dispatchEvent(new Event('input')); };
  const found = {closed: !list.open};
  press('/');
  found.focused = document.activeElement.id;
  found.open = list.open;
  found.all = rows();
  type('ANSWER 3 1');
  found.one = rows();
  found.told = document.getElementById('find-told').textContent;
  press('Escape');
  found.again = rows();
  kind.value = 'care'; kind.dispatchEvent(new Event('input'));
  found.care = rows();
  parent.postMessage(JSON.stringify(found), '*');
});
</script>"""


def test_texts_are_searched_by_keyboard(copy, tmp_path):
    page = page_of(copy("one"))
    found = measured(page, tmp_path, 800, probe=SEARCH)
    lines = [json.loads(line) for line in (copy("one", "two") / "examples.jsonl").read_text().splitlines()]
    assert found["closed"]
    assert found["open"]  # with the search
    assert found["focused"] == "find-words"
    assert found["all"] == found["again"] == len(lines)
    assert 0 < found["one"] < len(lines)
    assert found["told"] == f"{found['one']} of {len(lines)} shown"
    assert found["care"] == sum(line["subset"] == "care" for line in lines)


def test_the_policy_of_the_page_lets_its_search_run(copy, tmp_path):
    (tmp_path / "page.html").write_text(page_of(copy("one")), encoding="utf-8")
    dom = seen_by_chromium(tmp_path / "page.html", tmp_path)
    assert re.search(r'<p id="find-tools"[^>]*>', dom)
    assert "hidden" not in re.search(r'<p id="find-tools"[^>]*>', dom)[0]


@pytest.mark.parametrize("width", [400, 800, 1280])
def test_nothing_overflows_or_overlaps(copy, change, tmp_path, width):
    long = copy("two")
    text = "word " * 400 + "x" * 500
    change(long / "examples.jsonl", lambda e: e.update(response=text, subset="y" * 60))
    found = measured(page_of(long, copy("one"), copy("scores"), copy("heads")), tmp_path, width)
    assert found["width"] == width
    assert found["cut"] == []
    assert found["page"] <= found["width"]
    assert found["overlaps"] == []
    assert found["fetched"] == 0


def test_dark_and_light_follow_the_system(copy, tmp_path):
    page = page_of(copy("one"))
    light, dark = (measured(page, tmp_path, 800, dark) for dark in (False, True))
    assert (light["paper"], light["ink"]) == ("rgb(255, 255, 255)", "rgb(31, 35, 40)")
    assert (dark["paper"], dark["ink"]) == ("rgb(18, 22, 28)", "rgb(240, 243, 246)")


@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_of_a_training_run_too(tmp_path, width):
    text = "word " * 300 + "x" * 400
    run = tmp_path / "run"
    (run / "samples").mkdir(parents=True)
    lines = []
    for step in range(12):
        spread = {"reward/utility_std": 0.5, "reward/std": 1e-4 * step, "reward/disagreement": 0.3}
        line = {
            "reward/utility": -1e3 * step,
            "kl_k3": 0.01 * step,
            "cut_off": 0.01 * step,
            "value/explained": -9,
        }
        signs = {f"signs/{name}": 0.5 for name in SIGNS}
        lines.append({"step": step + 1, **line, **spread, **signs})
        lines.append(
            {"step": step + 1, "eval/reward": -1e3 * step, "eval/kl_k3": 0.01 * step, "eval/gold": 1.0}
        )
        sample = {"prompt": [{"role": "user", "content": text}], "response": text, "tokens": 9}
        numbers = {"reward": 1.0, "gold": None, "log_ratio": 0.0}
        (run / "samples" / f"step-{step:06d}.jsonl").write_text(json.dumps(sample | numbers) + "\n")
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = measured(render_run(build_run_content(read_training_run(run))), tmp_path, width)
    assert found["cut"] == []
    assert found["page"] <= found["width"]
    assert found["overlaps"] == []
    assert found["fetched"] == 0
