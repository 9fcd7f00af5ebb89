"""Run folders: one command each, whole or resumable, one process at a time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from pluralign import files
from pluralign.cli.run_folder import RunFolder, digest
from pluralign.errors import RunError
from without_privileges import forbidden_to_write

CONFIG = {"family": "quantile", "levels": (0.1, 0.9)}


def open_folder(path, config=CONFIG, inputs=None):
    return RunFolder(path, "fit", config, inputs if inputs is not None else {"ratings": "abc"})


def test_a_run_remembers_what_it_is_and_what_it_made(tmp_path):
    with open_folder(tmp_path / "a" / "run") as folder:
        assert not folder.finished
        folder.log(loss=0.5)
        folder.log(loss=0.25)
        folder.finish(model="model")
    record = json.loads((folder.path / "run.json").read_text())
    assert record["config"] == {"family": "quantile", "levels": [0.1, 0.9]}
    assert record["versions"]["pluralign"]
    lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [0.5, 0.25]
    with open_folder(folder.path) as again:
        assert again.finished


def test_another_configuration_is_refused_and_says_what_differs(tmp_path):
    with open_folder(tmp_path / "run"):
        pass
    with pytest.raises(RunError, match="family: 'quantile' in that run, 'bradley_terry' in this one"):
        open_folder(tmp_path / "run", CONFIG | {"family": "bradley_terry"}).__enter__()
    with pytest.raises(RunError, match="different inputs: ratings: 'abc' in that run, 'abd' in this one"):
        open_folder(tmp_path / "run", inputs={"ratings": "abd"}).__enter__()
    with open_folder(tmp_path / "run"):  # the refusals released the lock
        pass


def test_foreign_folders_and_files_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="is a file"):
        open_folder(tmp_path / "file").__enter__()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="not a run folder"):
        open_folder(tmp_path / "home").__enter__()
    assert (tmp_path / "home" / "thesis.tex").read_text() == "x"


def test_a_second_process_is_refused(tmp_path):
    other = (
        "import sys\nfrom pluralign.cli.run_folder import RunFolder\n"
        "from pluralign.errors import RunError\n"
        "try:\n    RunFolder(sys.argv[1], 'fit', {}, {}).__enter__()\n"
        "except RunError as error:\n    print(error)\n"
    )
    with RunFolder(tmp_path / "run", "fit", {}, {}):
        done = subprocess.run(
            [sys.executable, "-c", other, str(tmp_path / "run")], capture_output=True, text=True, check=True
        )
        assert "in use by another process" in done.stdout
    done = subprocess.run(
        [sys.executable, "-c", other, str(tmp_path / "run")], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""


def test_what_a_killed_process_left_is_not_an_obstacle_and_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_GRACE", 0.0)
    left = [tmp_path / "run" / f".{name}.{files._machine()}-{10**30}-00000000.partial" for name in "ab"]
    (tmp_path / "run").mkdir()
    left[0].touch()
    with open_folder(tmp_path / "run"):
        assert not left[0].exists()
        left[1].mkdir()
    with open_folder(tmp_path / "run"):
        assert not left[1].exists()


def test_digest_is_of_the_content(tmp_path):
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("1")
    assert digest(str(tmp_path / "a")) == digest(str(tmp_path / "b"))
    whole = digest(str(tmp_path))
    (tmp_path / "b").write_text("2")
    assert digest(str(tmp_path)) != whole
    assert digest("owner/set") == "owner/set"


def test_measurements_of_later_steps_are_dropped_where_a_run_goes_back(tmp_path):
    with open_folder(tmp_path / "run") as folder:
        folder.rewind(0)
        for step in (1, 2, 3):
            folder.log(step=step)
        log = folder.path / "metrics.jsonl"
        with log.open("a") as file:
            file.write('{"step": 2, "lo')
        folder.rewind(2)
        assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2]
        folder.rewind(0)
        assert log.read_text() == ""


def finished_run(path):
    with open_folder(path) as folder:
        (path / "model").mkdir()
        (path / "model" / "weights").write_bytes(b"x" * 100)
        (path / "model" / "README.md").write_text("card")
        folder.finish("model", result={"run": str(path), "model": str(path / "model")})
    return path


def test_a_damaged_artefact_is_not_a_finished_run(tmp_path):
    path = finished_run(tmp_path / "run")
    (path / "model" / "README.md").write_text("what the owner wrote on the card")
    (path / "model" / "notes").write_text("and beside it")
    with open_folder(path) as folder:
        assert folder.finished
    (path / "model" / "weights").write_bytes(b"x" * 99)
    with pytest.raises(RunError, match="model/weights is not as the run left it.*Remove .*run/model,"):
        _ = open_folder(path).finished
    (path / "model" / "weights").unlink()
    with pytest.raises(RunError, match="damaged or changed"), open_folder(path) as folder:
        assert not folder.finished
    shutil.rmtree(path / "model")
    with open_folder(path) as folder:
        assert not folder.finished


@pytest.mark.parametrize("content", ["[1]", '{"made": [], "result": 3}', '{"made": []}', "{"])
def test_a_damaged_record_of_the_end(tmp_path, content):
    path = finished_run(tmp_path / "run")
    (path / "done.json").write_text(content)
    with open_folder(path) as folder:
        assert folder.finished == content.startswith('{"made')
        with pytest.raises(RunError, match=r"done.json is damaged: it has no result. Remove it"):
            _ = folder.result


def test_a_finished_run_serves_where_nothing_may_be_written(tmp_path):
    finished_run(tmp_path / "run")
    with forbidden_to_write(tmp_path / "run") as path:
        with open_folder(path) as folder:
            assert folder.finished
            assert folder.result == {"run": str(path), "model": str(path / "model")}
        with pytest.raises(RunError, match="belongs to another run"):
            open_folder(path, inputs={}).__enter__()
        with pytest.raises(
            RunError, match=r"run/new cannot be made: writing is refused .Permission denied.; choose"
        ):
            open_folder(path / "new").__enter__()
    (tmp_path / "run" / "done.json").unlink()
    (tmp_path / "run" / ".lock").unlink()
    with forbidden_to_write(tmp_path / "run") as path, pytest.raises(RunError, match="is read-only"):
        open_folder(path).__enter__()
