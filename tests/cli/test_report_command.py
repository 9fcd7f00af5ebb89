"""`pluralign report` from end to end: one page from finished evaluations, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("jinja2")


@pytest.fixture
def judged(made_once):
    """runs/one: a fit; runs/judged: its evaluation."""
    made_once(
        "fit --ratings ratings.jsonl --l1 0.01 --levels [0.1,0.5,0.9] --out runs/one",
        "evaluate --model runs/one --ratings ratings.jsonl --out runs/judged",
    )


def test_a_page_from_an_evaluation(judged, command):
    status, out, err = command("report runs/judged")
    assert (status, out) == (0, "runs/judged/report.html\n")
    page = Path("runs/judged/report.html").read_text()
    assert "Quantile model on ratings.jsonl" in page
    assert "report on runs/judged" in err
    assert command("report runs/judged --out page.html")[:2] == (0, "page.html\n")
    assert Path("page.html").read_text() == page


def test_a_fit_stands_for_its_evaluations(judged, command):
    assert command("report runs/one")[:2] == (0, "runs/judged/report.html\n")
    shutil.move("runs", "moved")  # found by content, wherever it lies
    assert command("report moved/one")[:2] == (0, "moved/judged/report.html\n")
    assert command("evaluate --model moved/one --ratings ratings.jsonl --part all --out moved/more")[0] == 0
    status, out, _ = command("report moved/one")
    assert (status, out) == (0, "moved/report.html\n")
    assert "evaluated on different ratings" in Path("moved/report.html").read_text()


def test_the_numbers_as_json(judged, command):
    status, out, _ = command("report runs/judged --json")
    assert status == 0
    content = json.loads(out)
    results = json.loads(Path("runs/judged/results.json").read_text())
    assert content["page"] == "runs/judged/report.html"
    assert (
        content["pairs"]["parts"]["pairs_from_ratings"]["quantile"]["rows"]
        == (results["pairs"]["pairs_from_ratings"]["rows"])
    )


def test_cross_fitting_has_texts(workplace, fake, command):
    line = "evaluate --folds 2 --ratings ratings.jsonl --l1 0.01 --levels [0.1,0.5,0.9] --out folds"
    assert command(line)[0] == 0
    content = json.loads(command("report folds --json")[1])
    assert len(content["responses"]["contested"]) == 6
    assert content["runs"][0]["folds"] == 2


def test_the_page_opens_in_a_browser_only_when_asked(judged, command, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    command("report runs/judged --open false")
    assert opened == []
    command("report runs/judged --open")
    assert opened == [Path("runs/judged/report.html").resolve().as_uri()]


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("report", 2, "missing: RUNS"),
        ("report absent", 2, "absent is not a folder"),
        ("report ratings.jsonl", 2, "ratings.jsonl is not a folder"),
        ("report empty", 2, "empty is not an evaluation"),
        ("report fit", 2, "fit is not finished"),
        ("report half", 2, "half is not finished; run its `pluralign evaluate` again"),
        ("report damaged", 1, "damaged/results.json is damaged"),
        ("report runs/judged --out empty", 2, "empty is a folder"),
        ("report runs/judged --out page.txt", 2, "allowed: a file that ends in .html or .htm"),
        ("report runs/judged --ot page.html", 2, "did you mean --out"),
    ],
)
def test_mistakes_are_one_clear_message(judged, command, line, status, message):
    for name, verb in (("empty", None), ("fit", "fit"), ("half", "evaluate"), ("damaged", "evaluate")):
        Path(name).mkdir()
        if verb:
            (Path(name) / "run.json").write_text(json.dumps({"verb": verb}))
    Path("damaged/results.json").write_text("{")
    found, out, err = command(line)
    assert (found, out) == (status, "")
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err


def test_the_page_makes_its_folders(judged, command):
    status, out, _ = command("report runs/judged --out no/where/page.html")
    assert (status, out.strip()) == (0, "no/where/page.html")
    assert "<!doctype html>" in Path("no/where/page.html").read_text()[:100]


def test_a_fit_without_an_evaluation(judged, command):
    shutil.rmtree("runs/judged")
    Path("runs/other").mkdir()
    Path("runs/other/results.json").write_text("{}")
    status, _, err = command("report runs/one")
    assert status == 2
    assert "run `pluralign evaluate --model runs/one ...`" in err


def test_without_jinja_the_extra_is_named(judged, command, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    status, _, err = command("report runs/judged")
    assert status == 1
    assert "pip install 'pluralign[report]'" in err
