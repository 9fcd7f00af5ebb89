"""What users wrote is shown in a terminal, never obeyed by it: escape sequences, hidden and reversed text."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import pytest

from fake_backbone import ratings_rows
from pluralign.cli.console import Console, shown
from pluralign.cli.main import main
from pluralign.errors import PluralignWarning

# Sets the title of the window, clears the screen, rings, overwrites the line, reverses text, ends a line.
HOSTILE = "a\x1b]0;owned\x07\x1b[2Jb\rc\x9b31m\u202ed\u2028e"
HARMLESS = r"a\u001b]0;owned\u0007\u001b[2Jb\u000dc\u009b31m\u202ed\u2028e"
OBEYED = re.compile("[^\n\t -~\u00a0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\U0010ffff]")


def test_what_a_terminal_would_obey_is_written_out():
    assert shown(HOSTILE) == HARMLESS
    assert shown("naïve 日本語 🙂 עברית\tone\ntwo") == "naïve 日本語 🙂 עברית\tone\ntwo"
    assert shown("\ud800") == r"\ud800"


def test_json_keeps_its_meaning(capsys):
    value = {HOSTILE: [HOSTILE, "é\n\t\\"]}
    Console(as_json=True).result(value, "")
    printed = capsys.readouterr().out
    assert not OBEYED.search(printed)
    assert json.loads(printed) == value


@pytest.mark.parametrize("as_json", [False, True])
def test_console(capsys, as_json):
    console = Console(as_json)
    console.say(HOSTILE)
    console.table(HOSTILE, [HOSTILE, "n"], [[HOSTILE + "\n\tnext", 1]])
    console.result({}, HOSTILE)
    captured = capsys.readouterr()
    assert captured.err == HARMLESS + "\n"
    assert not OBEYED.search(captured.out)
    if not as_json:  # a cell or title stays in its line
        assert [line.split("\\")[0] for line in captured.out.splitlines()] == ["a", "a", "a", "", "a"]


def test_warnings(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    main(["check", "nothing.jsonl"])  # installs how commands show warnings
    capsys.readouterr()
    warnings.showwarning(PluralignWarning(HOSTILE), PluralignWarning, "", 0)
    assert capsys.readouterr().err == f"warning: {HARMLESS}\n"


def test_every_message_about_a_hostile_word(workplace, command):
    for line, status in {
        "check @": 1,
        "@": 2,
        "check ratings.jsonl --@ 1": 2,
        "fit --family @ --ratings ratings.jsonl": 2,
        "fit --l1_grid @ --ratings ratings.jsonl": 2,
        "fit --ratings @ --out run": 1,
        "score --model @ --data ratings.jsonl": 1,
        "score --model ratings.jsonl --risk @ --data ratings.jsonl": 1,
        "report @": 2,
        "lab --n 4 --out /dev/null/@": 2,
        "lab --n 4 --out /dev/null/@.jsonl": 1,
    }.items():
        words = [word.replace("@", HOSTILE.replace("\u2028", "")) for word in line.split()]
        returned, out, err = command("", *words)
        assert returned == status, (line, out, err)
        assert not OBEYED.search(out + err), (line, out, err)
        assert "owned" in err, line


def test_hostile_names_in_data(workplace, fake, command):
    rows = [
        row | {"attribute": HOSTILE, "subset": HOSTILE} | {key: row[key] + HOSTILE for key in ("id", "group")}
        for row in ratings_rows(20)
    ]
    Path("ratings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    fit = "fit --ratings ratings.jsonl --l1 0.01 --levels [0.1,0.5,0.9] --out run"
    for line in (
        "check ratings.jsonl",
        fit,
        "evaluate --model run --ratings ratings.jsonl --out judged",
        "report judged",
        "score --model run --data ratings.jsonl --out scores.jsonl",
    ):
        for more in ("", " --json"):
            status, out, err = command(line + more)
            assert not OBEYED.search(out + err), line
            assert status == 0, err
    status, out, _ = command("score --model run --data ratings.jsonl")
    assert status == 0
    assert not OBEYED.search(out)
    assert out.count("owned") >= 80


def test_a_hostile_path(workplace, fake, command):
    folder = Path(HOSTILE.replace("\u2028", ""))
    folder.mkdir()
    (folder / "ratings.jsonl").write_text(json.dumps(ratings_rows(2)[0]) + "\n{broken\x1b[2J\n")
    status, _, err = command("", "check", str(folder / "ratings.jsonl"))
    assert status == 1
    assert not OBEYED.search(err)
    assert "owned" in err
