"""Findings are held against the records, and pages are what the records give."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from studies import findings, records, results

ROOT = Path(__file__).parents[2]


@pytest.fixture
def own_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of records, findings and pages that a test may change."""
    for pattern in ("studies/*/records.jsonl.gz", "studies/*/findings.md", "docs/**/*.md", "README.md"):
        for path in ROOT.glob(pattern):
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    monkeypatch.setattr(records, "ROOT", tmp_path)
    monkeypatch.setattr(records, "FOLDER", tmp_path / "studies")
    monkeypatch.setattr(records, "WORK", tmp_path / "work")
    return tmp_path


def test_no_sentence_contradicts_the_records() -> None:
    assert findings.problems() == []


def test_pages_are_what_the_records_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert results.main(check=True) == 0, capsys.readouterr().err


def test_a_new_result_that_contradicts_a_sentence_fails_and_names_it(own_studies: Path) -> None:
    for record in records.read("families_lab", "recovery", features="minilm", ratings=30_000, raters=1):
        changed: dict[str, Any] = {**record["results"], "rps": {**record["results"]["rps"], "w1": 0.6}}
        records.add("families_lab", {**record, "results": changed})
    found = findings.problems()
    assert any("entropy_and_rps_nearest_with_many does not hold" in one for one in found)
    assert any("From 10,000 ratings on RPS and cross-entropy are nearest" in one for one in found)
    assert all("findings.md" in one for one in found)


def test_a_number_that_moved_is_named_wherever_it_is_quoted(own_studies: Path) -> None:
    for record in records.read("brme", "choice", features="minilm"):
        gold = {**record["results"]["one head/mean"]["gold"], "32": 2.31}
        one = {**record["results"]["one head/mean"], "gold": gold}
        records.add("brme", {**record, "results": {**record["results"], "one head/mean": one}})
    found = [one for one in findings.problems() if "brme.one_head is 2.31" in one]
    assert found
    assert "gaussian_ensemble.md" in found[0]


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("Nobody checks this.", "no mark in 'Nobody checks this.'"),
        ("This is <!-- claim: no_such_claim -->", "there is no claim brme.no_such_claim"),
        ("A ratio of 0.91<!-- = heads_alike -->.", "brme.heads_alike is 0.79"),
        ("A ratio of 10.79<!-- = heads_alike -->.", "brme.heads_alike is 0.79"),
        ("So it is.<!-- claim: heads_alike -->", "brme.heads_alike does not hold"),
        ("So it is.<!-- = published_loss_forgets_the_noise -->", "is not a number in words"),
    ],
)
def test_a_mark_that_is_missing_or_wrong_is_an_error(own_studies: Path, added: str, said: str) -> None:
    with findings.file_of("brme").open("a", encoding="utf-8") as text:
        text.write(f"\n{added}\n")
    assert any(said in one for one in findings.problems())


def test_a_number_may_stand_behind_another_one_at_the_end_of_a_line(own_studies: Path) -> None:
    with findings.file_of("brme").open("a", encoding="utf-8") as text:
        text.write("\nOf 64\n0.79<!-- = heads_alike -->.\n")
    assert findings.problems() == []


def test_a_claim_that_no_sentence_names_is_an_error(own_studies: Path) -> None:
    path = findings.file_of("brme")
    path.write_text(path.read_text(encoding="utf-8").split("## Minimum")[0], encoding="utf-8")
    (found,) = findings.problems()
    assert found == "brme.minimum_is_small_beside_the_shared_error: no sentence names this claim"


def test_a_page_that_was_written_by_hand_is_found(
    own_studies: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = own_studies / "docs" / "results.md"
    page.write_text(page.read_text(encoding="utf-8").replace("0.573", "0.673"), encoding="utf-8")
    monkeypatch.setattr(results, "ROOT", own_studies)
    monkeypatch.setattr(results, "TARGET", page)
    monkeypatch.setattr(results, "README", own_studies / "README.md")
    assert results.main(check=True) == 1
    assert "docs/results.md is not what the records give" in capsys.readouterr().err


def test_text_comes_without_its_marks() -> None:
    text = findings.section("families_lab", "Recovery")
    assert "<!--" not in text
    assert text.startswith("- From 10,000 ratings on RPS and cross-entropy are nearest")
    assert len(text.splitlines()) == 5, "a line to a point"
    with pytest.raises(KeyError):
        findings.section("families_lab", "Nothing")
