"""The page on a policy's training: its numbers, escaping, and files that are not what they should be."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pluralign.errors import ArtifactError
from pluralign.lab import Crowd, Samples, alignment_record
from pluralign.lab.outcomes import SCHEMA_VERSION as WRITTEN_VERSION
from pluralign.report.alignment import SCHEMA_VERSION, render_alignment, write_alignment

CROWD = Crowd()


def samples(style: str, **known: Any) -> Samples:
    talks = CROWD.conversations(40, style=style)
    prompts = [talk[:-1] for talk in CROWD.conversations(40)]
    return Samples(prompts, [talk[-1]["content"] for talk in talks], proxy=CROWD.gold(talks), **known)


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    after = samples("long", log_ratios=torch.linspace(0, 1, 120).reshape(40, 3))
    settings = {"objective": "qrpo", "learning_rate": 3e-4}
    made = alignment_record(CROWD, samples("behaviour"), after, settings=settings)
    return dict(json.loads(json.dumps(made)))


def test_it_shows_the_record(record: dict[str, Any]) -> None:
    page = render_alignment(record, "Policy <one>")
    assert SCHEMA_VERSION == WRITTEN_VERSION
    before, after = (record[side]["measures"]["gold"]["estimate"] for side in ("before", "after"))
    assert f"{before:.2f} → {after:.2f}" in page
    assert page.count("<svg") == 2
    assert page.count('<li class="card">') == 12
    assert record["examples"][3]["after"]["response"] in page
    assert "Policy &lt;one&gt;" in page
    assert "<script" not in page
    assert "learning rate</dt><dd>0.0003" in page
    assert page == render_alignment(record, "Policy <one>")


def test_a_record_without_distance_or_curve(record: dict[str, Any]) -> None:
    bare = copy.deepcopy(record)
    del bare["after"]["measures"]["kl"]
    bare |= {"best_of_n": None, "settings": {}}
    page = render_alignment(bare)
    assert "<svg" not in page
    assert "How it was trained" not in page
    only_curve_missing = render_alignment(record | {"best_of_n": None})
    assert only_curve_missing.count("<svg") == 2


def test_texts_are_escaped(record: dict[str, Any]) -> None:
    changed = copy.deepcopy(record)
    changed["examples"][0]["after"]["response"] = "<img src=x onerror=alert(1)>"
    page = render_alignment(changed)
    assert "<img" not in page
    assert "&lt;img src=x" in page


def test_it_is_written_whole(record: dict[str, Any], tmp_path: Path) -> None:
    write_alignment(record, tmp_path / "deep" / "page.html")
    assert (tmp_path / "deep" / "page.html").read_text(encoding="utf-8") == render_alignment(record)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["page.html"]
    with pytest.raises(ArtifactError, match="is a folder"):
        write_alignment(record, str(tmp_path))


def test_foreign_records(record: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="schema_version 2"):
        render_alignment(record | {"schema_version": 2})
    with pytest.raises(ArtifactError, match="after is missing"):
        render_alignment({k: v for k, v in record.items() if k != "after"})


def test_a_share_keeps_its_sign_on_its_line(record: dict[str, Any]) -> None:
    share = record["after"]["measures"]["harm"]["estimate"]
    assert f"{100 * share:.1f}\u00a0%" in render_alignment(record)
