"""Every writer of the package on a disk that takes no more: it says so, and leaves only what was there.

A writer is a module that uses `pluralign.files`; all are here, and nothing else renames files. The disk is
full in two ways. A limit on the size of files makes the kernel refuse real writes, in whatever library they
happen; and fsync finds no space, as on file systems that notice late.
"""

from __future__ import annotations

import ast
import errno
import functools
import os
import resource
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from torch import nn

import pluralign as pl
import tiny_policy
from fake_backbone import FakeBackbone, ratings_rows
from pluralign.backbones import fingerprint, smollm2
from pluralign.cli import compare as cli_compare
from pluralign.cli import evaluate as cli_evaluate
from pluralign.cli import evaluate_suite, held_out, lab, sample_rewards, score
from pluralign.cli.console import Console
from pluralign.cli.run_folder import RunFolder
from pluralign.cli.sample_flags import RewardFlags
from pluralign.data import quarantine
from pluralign.data.problems import Problem
from pluralign.data.row_files import write_rows
from pluralign.engines import store_rows
from pluralign.errors import ArtifactError, PluralignError, RunError
from pluralign.evaluation import files as evaluation_files
from pluralign.evaluation import suite, suites
from pluralign.evaluation.suites import files as suite_files
from pluralign.evaluation.suites import run as suite_run
from pluralign.evaluation.suites.columns import SuiteScores
from pluralign.fitting import QuantileConfig, TuningConfig
from pluralign.fitting.train.state import TrainingState
from pluralign.fitting.tuning import run as tuning_run
from pluralign.heads import Attribute, BradleyTerryHead, QuantileHead, Reference
from pluralign.heads.scaling import ColumnScaling
from pluralign.heads.state_file import write_state
from pluralign.lab import language_model
from pluralign.model import combination_folder
from pluralign.model.quantile_map import QuantileMap
from pluralign.policy.offline import references
from pluralign.policy.online import state
from pluralign.policy.online.journal import Journal
from pluralign.policy.rewards.samples import ScoredSample
from pluralign.policy.sampling.alpaca_eval import write_alpaca_eval
from pluralign.policy.sampling.shards import ShardFolder
from pluralign.policy.selection.files import write_selection
from pluralign.policy.training import sample_files
from pluralign.report import alignment, canvas, card, comparison, page, run_page
from pluralign.training.checkpoints import written_completely
from tiny_backbones import tiny_decoder

SOURCE = Path(pl.__file__).parent
TEXT = "more than the limit leaves room for, " * 9
ROW = {"prompt": tiny_policy.user("p"), "index": 0, "completion": TEXT}
SAMPLE = ScoredSample(3, False, 0.5, None, None, None, None, text=TEXT)


def reward_model() -> pl.RewardModel:
    head = QuantileHead(
        ColumnScaling.empty(6),
        torch.ones(1, 2, 6),
        torch.zeros(1, 2),
        torch.tensor([0.25, 0.75]),
        (Attribute("a", 0.0, 4.0),),
        Reference(0.0, 1.0),
    )
    return pl.RewardModel(FakeBackbone(), head)


@functools.cache
def decoder() -> Any:
    return tiny_decoder(Path(tempfile.mkdtemp()) / "backbone")


def exported(folder: Path) -> None:
    head = BradleyTerryHead(ColumnScaling.empty(32), torch.ones(32))
    pl.RewardModel(decoder(), head).export(folder / "checkpoint")


def combination(folder: Path) -> None:
    knots = torch.arange(2.0)
    combination_folder.write(
        folder / "both", [reward_model()], [QuantileMap(knots, knots, 1.0)], [1.0], "mixture"
    )


def shards(folder: Path) -> ShardFolder:
    return ShardFolder(folder / "begun", {"settings": TEXT}, 1, pa.schema([("text", pa.string())]))


def begun_shards(folder: Path) -> None:
    ShardFolder(folder / "new", {"settings": TEXT}, 1, pa.schema([])).begin()


def training_state(folder: Path) -> None:
    module = nn.Linear(9, 9)
    TrainingState(folder / "state", "key").record(1, 0.5, module, torch.optim.SGD(module.parameters(), 0.1))


def picture(folder: Path) -> None:
    from matplotlib.figure import Figure

    canvas.save(Figure(), folder / "picture", "title")


def finished_run(folder: Path) -> None:
    with RunFolder(folder / "run", "fit", {"text": TEXT}, {}) as run:
        run.finish(text=TEXT)


def rewound_run(folder: Path) -> None:
    RunFolder(folder, "fit", {}, {}).rewind(1)


def policy_folder(folder: Path) -> None:
    with written_completely(folder / "policy", True, "Free some space"):
        tiny_policy.model().save_pretrained(folder / "policy")


def checkpoint(folder: Path) -> None:
    module = nn.Linear(9, 9)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    state.save_state(folder / "checkpoint-1", module, optimizer, schedule, {"global_step": 1}, 0)


def saved_policy(folder: Path) -> None:
    state.save_policy(folder / "policy", tiny_policy.model(), tiny_policy.tokenizer())


def tuning_settings(folder: Path) -> None:
    stage = SimpleNamespace(name="heads")
    given = SimpleNamespace(tune="lora", config=TuningConfig(), settings=QuantileConfig())
    tuning_run._check_same(folder, stage, given, {"train": 9})


def language_model_folder(folder: Path) -> None:
    language_model._save(folder / "lm", tiny_policy.model(), tiny_policy.tokenizer(), {"steps": 1})


def refused_rows(folder: Path) -> None:
    refused = [quarantine.RefusedRow("a.jsonl", 1, {"text": TEXT}, [Problem("a", 1, "b", "c", TEXT)])]
    quarantine.write_quarantine(folder / "refused.jsonl", refused)


def scored(folder: Path) -> None:
    line = ["--model", "m", "--data", str(folder.parent / "in.jsonl"), "--out", str(folder / "scores.jsonl")]
    score.run(line)


def rewarded(folder: Path) -> None:
    sample_rewards.reward(RewardFlags(beta=None), None, folder, folder, Console(True))  # type: ignore[arg-type]


class _Chosen:
    """A selection of one row."""

    counts = None

    def rows(self) -> Iterator[list[dict[str, str]]]:
        yield [{"prompt": TEXT}]

    def schema(self) -> pa.Schema:
        return pa.schema({"prompt": pa.string()})


def selected_rows(folder: Path) -> None:
    write_selection(_Chosen(), folder / "selected.parquet")  # type: ignore[arg-type]


def selected_lines(folder: Path) -> None:
    write_selection(_Chosen(), folder / "selected.jsonl")  # type: ignore[arg-type]


def rows_of_cells(folder: Path) -> None:
    write_rows(folder / "rows.csv", [[{"text": TEXT}]])


def judged(folder: Path) -> None:
    line = ["--model", "m", "--ratings", str(folder.parent / "in.jsonl"), "--out", str(folder / "judged")]
    cli_evaluate.run(line)


def suite_judged(folder: Path) -> None:
    flags = evaluate_suite.SuiteFlags("pairs", scores="scores.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "rescore_suite", lambda *_, **__: {"text": TEXT})
        place: Any = SimpleNamespace(path=folder)
        evaluate_suite._evaluate(Console(True), place, flags, None, None, {})


def suite_scores(folder: Path) -> None:
    one, none = np.ones(1, np.int64), np.zeros(1)
    scores = SuiteScores([TEXT], ["s"], ["g"], one, one, {"mean": np.zeros(2)}, none)
    with suite_files.scores_writer(folder / "scores.parquet", {"text": TEXT}) as writer:
        writer.write(scores)


def unpacked_model(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smollm2, "cache_folder", lambda: folder)
        patch.setattr(smollm2, "_source", lambda wheel: folder)
        patch.setattr(smollm2.importlib.util, "find_spec", lambda name: name)
        patch.setattr(smollm2, "_make", lambda source, work: (work / "model.safetensors").write_text(TEXT))
        smollm2.find_q4()


WRITERS: dict[str, list[Callable[[Path], object]]] = {
    "backbones.fingerprint": [],  # a note that is lost costs time: see below
    "backbones.smollm2": [unpacked_model],
    "cli.compare": [lambda folder: cli_compare._write(folder, [{"text": TEXT}])],
    "cli.evaluate": [judged],
    "cli.evaluate_suite": [suite_judged],
    "cli.held_out": [lambda folder: held_out.remember(folder, {"ratings": pl.load_ratings(ratings_rows(9))})],
    "cli.lab": [lambda folder: lab.run(["--n", "8", "--out", str(folder / "lab.jsonl.gz")])],
    "cli.run_folder": [finished_run, rewound_run],
    "cli.sample_rewards": [rewarded],
    "data.quarantine": [refused_rows],
    "data.row_files": [scored, selected_rows, selected_lines, rows_of_cells],
    "engines.stored_rows": [lambda folder: store_rows([pa.table({"text": [TEXT]})], folder / "rows", 1, {})],
    "evaluation.files": [
        lambda folder: evaluation_files.write_scores(folder / "scores.parquet", {"a": {"id": [TEXT]}}),
        lambda folder: evaluation_files.write_examples(folder / "examples.jsonl", [{"text": TEXT}]),
        lambda folder: evaluation_files.write_results(folder / "results.json", {"text": TEXT}),
    ],
    "evaluation.suite": [lambda folder: suite._write(folder, {}, {"text": TEXT}, [])],
    "evaluation.suites.files": [suite_scores],
    "evaluation.suites.run": [lambda folder: suite_run._write(folder, {"text": TEXT})],
    "fitting.train.state": [training_state],
    "fitting.tuning.run": [tuning_settings],
    "heads.state_file": [lambda folder: write_state(folder / "state", "x", {}, {"a": torch.ones(99)})],
    "lab.language_model": [language_model_folder],
    "model.combination_folder": [combination],
    "model.export.stage": [exported],
    "model.folder": [lambda folder: reward_model().save_pretrained(folder / "model")],
    "policy.offline.references": [lambda folder: references.save(folder / "ref", torch.zeros(99, 2), {})],
    "policy.online.journal": [lambda folder: Journal(folder / "metrics.jsonl", [], True).start(1)],
    "policy.online.state": [checkpoint, saved_policy],
    "policy.sampling.alpaca_eval": [
        lambda folder: write_alpaca_eval(Dataset.from_list([ROW]), folder / "out.json", generator="g")
    ],
    "policy.sampling.shards": [begun_shards, lambda folder: shards(folder).write(0, {"text": [TEXT]})],
    "policy.training.sample_files": [lambda folder: sample_files.write_samples(folder, 1, [SAMPLE])],
    "report.alignment": [lambda folder: alignment.write_alignment({}, folder / "page.html")],
    "report.canvas": [picture],
    "report.card": [lambda folder: card.write_card({}, folder / "card.md")],
    "report.comparison": [
        lambda folder: comparison.write_comparison([], folder / "page.html"),
        lambda folder: comparison.write_markdown([], folder / "page.md"),
    ],
    "report.page": [lambda folder: page.write_page({}, folder / "page.html")],
    "report.run_page": [lambda folder: run_page.write_run({}, folder / "page.html")],
    "training.checkpoints": [policy_folder],
}
CASES = [
    pytest.param(write, id=f"{name}-{place}")
    for name, writers in WRITERS.items()
    for place, write in enumerate(writers)
]


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to write into; what writers ask of models and of pages is short."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "in.jsonl").write_text('{"prompt": "p", "response": "r"}\n')
    decoder()  # has files of its own
    (folder / "metrics.jsonl").write_text(f'{{"step": 1, "text": "{TEXT}"}}\n{{"st')
    shards(folder).begin()
    run = SimpleNamespace(path=folder / "judged", finished=False, finish=lambda *_: None)
    table = SimpleNamespace(rows=Dataset.from_list([{"text": TEXT}]), left_out={})
    for place, name, value in [
        (page, "render_page", TEXT),
        (card, "model_card", TEXT),
        (alignment, "render_alignment", TEXT),
        (run_page, "render_run", TEXT),
        (comparison, "render_comparison", TEXT),
        (comparison, "comparison_markdown", TEXT),
        (score, "load_scorer", None),
        (score, "_lines", [[TEXT]]),
        (score, "UtilitySummary", SimpleNamespace(words=str, result=lambda *_: {})),
        (cli_evaluate, "RunFolder", nullcontext(run)),
        (cli_evaluate, "_evaluate", {"text": TEXT, "evaluated_on": "", "fitted": {}}),
        (cli_evaluate, "digest", "0"),
        (held_out, "write_json", None),
        (suite, "write_scores", None),
        (suite, "write_examples", None),
        (cli_evaluate, "print_results", None),
        (pl.policy, "reward_samples", None),
        (pl.policy, "read_rewards", None),
        (pl.policy, "References", SimpleNamespace(control=None)),
        (pl.policy, "unpaired_table", table),
    ]:
        monkeypatch.setattr(place, name, lambda *_, found=value, **__: found)
    return folder


@contextmanager
def small_files_only() -> Iterator[None]:
    """No file can grow beyond 50 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # part of it breaks imports
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def noticed_late() -> Iterator[None]:
    """What is written does not reach the disk."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        yield


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("full", "message"),
    [(small_files_only, "File too large"), (noticed_late, "No space left on device")],
)
@pytest.mark.parametrize("write", CASES)
def test_a_full_disk(prepared: Path, write: Callable[[Path], Any], full: Any, message: str) -> None:
    before = contents(prepared)
    with full(), pytest.raises(PluralignError, match=f"written.*{message}") as raised:
        write(prepared)
    assert type(raised.value) in (ArtifactError, RunError)
    assert ".partial" not in str(raised.value)
    left = contents(prepared)
    assert left == before
    write(prepared)  # and again, when there is space
    assert contents(prepared) != left


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("write", CASES)
def test_permissions_are_those_of_the_umask(prepared: Path, write: Callable[[Path], Any], umask: int) -> None:
    before, usual = contents(prepared), os.umask(umask)
    try:
        write(prepared)
    finally:
        os.umask(usual)
    made = dict(contents(prepared).items() - before.items())
    assert made
    assert {stat.S_IMODE((prepared / name).stat().st_mode) for name in made} == {0o666 & ~umask}


@pytest.mark.parametrize("full", [small_files_only, noticed_late])
def test_a_note_that_cannot_be_kept_costs_nothing_but_time(tmp_path: Path, full: Any) -> None:
    (tmp_path / "weights").write_bytes(b"x" * 99)
    notes = fingerprint.cache_folder() / "fingerprints"
    with full():
        digest = fingerprint.file_sha256(tmp_path / "weights")
    assert not list(notes.iterdir())
    assert fingerprint.file_sha256(tmp_path / "weights") == digest
    assert len(list(notes.iterdir())) == 1


def test_every_writer_is_here_and_nothing_else_renames_files() -> None:
    writers = set()
    for path in SOURCE.rglob("*.py"):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        text = path.read_text(encoding="utf-8")
        if not any(word in text for word in ("pluralign.files", "replace", "rename", "fsync")):
            continue
        for node in ast.walk(ast.parse(text)):
            if _imports(node) - {"append_line", "why_not"}:  # for which see test_files
                writers.add(name)
            if name != "files":
                assert not _renames(node), f"{name}, line {node.lineno}: pluralign.files does that"
    assert writers == set(WRITERS)


def _imports(node: ast.AST) -> set[str]:
    """What code imports of `pluralign.files`."""
    if not isinstance(node, ast.ImportFrom) or node.module != "pluralign.files":
        return set()
    return {alias.name for alias in node.names}


def _renames(node: ast.AST) -> bool:
    """Whether code renames files: `a.replace(b)`, where text has `a.replace(b, c)`."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    name, whose = node.func.attr, getattr(node.func.value, "id", "")
    if name == "replace":
        return whose == "os" or (len(node.args) == 1 and not node.keywords)
    return name in ("rename", "fsync")
