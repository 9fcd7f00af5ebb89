"""The page: well formed, the same every time, nothing loaded, nothing run, every text escaped."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from pluralign.errors import ArtifactError
from pluralign.report.content import build_content
from pluralign.report.evaluations import read_evaluation
from pluralign.report.page import render_page, write_page

pytest.importorskip("jinja2")

VOID = {"meta", "br", "img", "input", "hr", "link"}
ATTACK = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)></svg></style></title>&amp;"


class Outline(HTMLParser):
    """Tags, attributes and text of a page; complains about tags that do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        self.text.append(data)

    def values(self, name):
        return [value for _, found, value in self.attributes if found == name]


def page_of(*folders):
    return render_page(build_content([read_evaluation(folder) for folder in folders]))


def bare(page):
    return " ".join(" ".join(Outline(page).text).split())


@pytest.mark.parametrize(
    "names", [["one"], ["two"], ["scores"], ["heads"], ["one", "scores"], ["two", "heads", "scores"]]
)
def test_every_page_is_well_formed_and_loads_nothing(copy, names):
    page = page_of(*[copy(name) for name in names])
    outline = Outline(page)
    assert page.startswith("<!doctype html>")
    assert not {"link", "img", "iframe", "object", "image", "use"} & set(outline.tags)
    assert list(outline.tags).count("script") == ("script-src 'sha256-" in page)  # its search, and no other
    assert not {"src", "srcset", "action", "xlink:href"} & {name for _, name, _ in outline.attributes}
    assert not [name for _, name, _ in outline.attributes if name.startswith("on")]
    assert all(value.startswith("#") for value in outline.values("href"))
    assert "http://" not in page
    assert "https://" not in page
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page
    assert not re.search(r"\b(nan|inf|undefined|None)\b", page)
    assert len(page) < 2_000_000


def test_links_lead_somewhere_and_pictures_have_words(copy):
    outline = Outline(page_of(copy("two"), copy("scores")))
    ids = outline.values("id")
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in outline.values("href")} <= set(ids)
    assert set(outline.values("aria-labelledby")) <= set(ids)
    pictures = outline.tags.count("svg")
    labelled = sum(
        tag == "svg" and name in ("aria-label", "aria-hidden") for tag, name, _ in outline.attributes
    )
    assert pictures == labelled > 10
    scopes = [value for tag, name, value in outline.attributes if tag == "th" and name == "scope"]
    assert len(scopes) == outline.tags.count("th")


def test_same_input_gives_the_same_bytes(copy, tmp_path):
    content = build_content([read_evaluation(copy("two"))])
    write_page(content, tmp_path / "a" / "one.html")
    write_page(content, tmp_path / "a" / "two.html")
    assert (tmp_path / "a" / "one.html").read_bytes() == (tmp_path / "a" / "two.html").read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["one.html", "two.html"]


def test_all_text_from_files_is_escaped(copy, change):
    folder = copy("two", "evil" + ATTACK.replace("/", "|"))
    text = "a\ud800 \x00 " + ATTACK

    def poison_results(results):
        results["family"] = text
        results["backbone"]["name_or_path"] = text
        results["evaluated_on"] = text
        results["ratings"][text] = results["ratings"].pop("a0")
        results["ratings"][text]["unit"] = text
        pairs = results["pairs"].pop("pairs_from_ratings")
        pairs["subsets"] = {text: {**next(iter(pairs["subsets"].values()))}}
        for key in ("accuracy", "ties", "difference"):
            pairs[key][text] = pairs[key].pop("length")
        pairs["difference"][text] |= {"low": None, "high": None, "reason": text}
        results["pairs"][text] = pairs

    def poison_example(example):
        example["prompt"][0]["content"] = example["response"] = example["subset"] = text
        for key in ("attributes", "scales", "ratings", "true_quantiles"):
            example[key][text] = example[key].pop("a0")

    change(folder / "results.json", poison_results)
    change(folder / "examples.jsonl", poison_example)
    change(folder / "run.json", lambda r: r["versions"].update({text: text}))
    change(folder / "run.json", lambda r: (r.update(started=text), r["inputs"].update({text: text})))
    page = page_of(folder)
    page.encode("utf-8")
    outline = Outline(page)
    assert "img" not in outline.tags
    assert list(outline.tags).count("script") == ("script-src 'sha256-" in page)
    assert not [name for _, name, _ in outline.attributes if name.startswith("on")]
    assert "<script>alert('x')</script>" in "".join(outline.text)
    assert "\x00" not in page


def test_the_numbers_on_the_page_are_those_of_the_results(copy):
    folder = copy("one")
    evaluation = read_evaluation(folder)
    text = bare(page_of(folder))
    part = evaluation.results["ratings"]["a0"]
    for key in ("crps", "pinball", "quantile_error"):
        assert f"{part[key]['model']['estimate']:.3f} [" in text
    accuracy = evaluation.results["pairs"]["pairs_from_ratings"]["accuracy"]["model"]
    assert f"{100 * accuracy['estimate']:.1f} % [{100 * accuracy['low']:.1f}," in text
    assert f"{100 * part['crossing']['model']['estimate']:.1f} %" in text
    within = part["within_prompt"]
    told = f"Within a prompt it wins {100 * within['model']['estimate']:.1f} % ["
    assert text.count(told) == 3  # two cards, and under the table of measures


def test_more_baselines_and_attributes_have_their_own_columns_and_rows(copy, change):
    folder = copy("two")
    value = {"estimate": 0.8765, "low": 0.87, "high": 0.88, "reason": ""}
    other = {"value": value, "difference": {"estimate": -0.4321, "low": -0.5, "high": -0.4, "reason": ""}}
    change(
        folder / "results.json",
        lambda r: r["ratings"]["a0"]["pinball"].update(others={"gaussian_ensemble": other}),
    )
    accuracy = json.loads((folder / "results.json").read_text())["pairs"]["pairs_from_ratings"]
    shares = accuracy["attributes"]["a1"]["accuracy"]
    text = bare(page_of(folder))
    assert "Gaussian ensemble" in text
    assert "0.876 [0.870, 0.880]" in text or "0.877 [0.870, 0.880]" in text
    assert "\u22120.432 [\u22120.500, \u22120.400] the model is better" in text
    row = text[text.index("By attribute") :]
    assert f"{100 * shares['model']['estimate']:.1f} %" in row[row.index("a1") :][:80]
    assert "its mean of that attribute" in text


def test_an_end_of_an_interval_near_zero_does_not_look_like_zero(copy, change):
    folder = copy("one")
    ends = {"estimate": -0.002, "low": -0.0036, "high": -0.0004}
    change(folder / "results.json", lambda r: r["ratings"]["a0"]["crps"]["difference"].update(ends))
    assert "−0.0020 [−0.0036, −0.0004] the model is better" in bare(page_of(folder))


def test_a_page_says_what_is_missing(copy):
    folder = copy("one")
    for name in ("examples.jsonl", "scores.parquet", "run.json"):
        (folder / name).unlink()
    text = bare(page_of(folder))
    assert "no texts can be shown" in text
    assert "there is no run.json" in text
    assert "predicts more than one number" not in text
    assert "calibration does not apply" in bare(page_of(copy("scores")))


def test_sections_without_content_are_not_on_the_page(copy):
    outline = Outline(page_of(copy("scores")))
    links = [value for value in outline.values("href") if value.startswith("#")]
    assert links == ["#short", "#run", "#accuracy", "#crowd"]
    assert set(outline.values("id")) >= {"short", "run", "accuracy", "h-absent"}
    assert not {"calibration", "truth", "responses", "attributes", "signs"} & set(outline.values("id"))
    text = " ".join("".join(outline.text).split())
    end = text[text.index("Not on this page") :]
    assert "Calibration: Bradley-Terry: no distribution on a rating scale was evaluated" in end
    assert "Texts: No run predicts more than one number per response" in end
    full = Outline(page_of(copy("one")))
    assert "h-absent" not in full.values("id")
    assert "#truth" in full.values("href")


def test_few_rows_have_no_curves_and_no_shares(copy, change):
    folder = copy("one")
    marks = ('role="img" aria-label="Observed share', "Histogram of where ratings", "Share of ratings below")
    page = page_of(folder)
    assert all(mark in page for mark in marks)

    def one_dot(results):
        part = results["pairs"]["pairs_from_ratings"]
        count = part["reliability"]["count"]
        part["reliability"]["count"] = [max(count)] + [0] * (len(count) - 1)
        for table in results["pairwise"].values():
            curve = table["by"]["model"]["curve"]
            curve["count"] = [max(curve["count"])] + [0] * (len(curve["count"]) - 1)

    change(folder / "results.json", one_dot)
    page = page_of(folder)
    assert marks[0] not in page
    assert marks[1] in page

    def few(results):
        results["ratings"]["a0"].update(rows=3, groups=3)
        kinds = results["pairs"]["pairs_from_ratings"]["subsets"]
        kinds["care"] |= {"rows": 1, "model": 1.0}
        results["pairwise"] = {}

    change(folder / "results.json", few)
    page = page_of(folder)
    assert not any(mark in page for mark in marks)
    row = re.search(r'<th scope="row">care</th>(.*?)</tr>', page, re.DOTALL)
    assert re.sub(r"<.*?>|\s", "", row[1]) == "1" + "–" * row[1].count("–")
    assert "By kind of prompt; – for fewer than 10 pairs" in page
    Outline(page)


def test_one_level_equal_quantiles_and_one_response_can_be_drawn(copy, change):
    folder = copy("one")
    lines = (folder / "examples.jsonl").read_text().splitlines()
    (folder / "examples.jsonl").write_text(lines[0] + "\n")
    Outline(page_of(folder))
    change(folder / "examples.jsonl", lambda e: e["attributes"].update(a0=[3.0] * 18 + [3.5]))
    Outline(page_of(folder))
    change(folder / "examples.jsonl", lambda e: e["ratings"].update(a0=[5] * 40))
    Outline(page_of(folder))
    (folder / "examples.jsonl").write_text("")
    Outline(page_of(folder))


def test_results_on_an_edge_can_be_drawn(copy, change):
    folder = copy("one")

    def edge(results):
        pairs = results["pairs"]["pairs_from_ratings"]
        sure = {"estimate": 1.0, "low": None, "high": None, "reason": "one group"}
        pairs["accuracy"] = dict.fromkeys(pairs["accuracy"], sure)
        pairs["reliability"] = {"predicted": [None], "observed": [None], "count": [0]}
        pairs["expected_calibration_error"] = None
        part = results["ratings"]["a0"]
        part["pit"] = {"edges": [0.0, 1.0], "share": [1.0]}
        part["spearman_mean"] = None
        for key in ("crps", "coverage", "crossing"):
            part[key].pop("constant")

    change(folder / "results.json", edge)
    assert "100.0 %" in bare(page_of(folder))  # well formed, which `bare` finds out


def test_a_folder_is_not_a_page(copy, tmp_path):
    content = build_content([read_evaluation(copy("one"))])
    with pytest.raises(ArtifactError, match="is a folder"):
        write_page(content, tmp_path)


def test_reading_and_writing_needs_no_torch(copy, tmp_path):
    code = (
        "import sys, pathlib\n"
        "from pluralign.report.content import build_content\n"
        "from pluralign.report.evaluations import read_evaluation\n"
        "from pluralign.report.page import render_page\n"
        "render_page(build_content([read_evaluation(pathlib.Path(sys.argv[1]))]))\n"
        "print([m for m in ('torch', 'transformers', 'matplotlib', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(copy("one"))], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_heads_of_an_ensemble_are_explained_with_their_intervals(copy, change):
    folder = copy("heads")
    found = json.loads((folder / "results.json").read_text())["ensemble"]
    text = bare(page_of(folder))
    assert "3 heads, with 95 % intervals over groups" in text
    assert "The std of a head means the spread of the ratings around the head's mean." in text
    for part in (found["ratings"]["a0"], found["pairs_from_ratings"]):
        shown = part["intervals"]["spearman_between_error"]
        ends = ", ".join(f"{shown[key]:.3f}" for key in ("low", "high"))
        assert f"{shown['estimate']:.3f} [{ends}]".replace("-", "\u2212") in text
    # As earlier versions wrote it, without intervals.
    change(folder / "results.json", lambda r: r["ensemble"]["ratings"]["a0"].pop("intervals"))
    assert f"{found['ratings']['a0']['correlation']:.3f}" in bare(page_of(folder))
    assert "heads of an ensemble" not in bare(page_of(copy("one")))


def test_warnings_of_the_fit_stand_on_the_page(copy):
    plain = copy("one")
    page = page_of(plain, copy("heads"))
    assert "Warnings of the fit of Gaussian ensemble" in bare(page)
    assert "The fit of Gaussian ensemble gave warnings" in bare(page)
    assert "<li>the heads of &lt;a0&gt; are nearly equal</li>" in page
    assert "Warnings of the fit" not in bare(page_of(plain))
