"""`--help`: fast, since it imports nothing heavy; of `align` its own flags, and the trainer's on request."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import subprocess
import sys

import pytest

from pluralign.cli.declared import declared
from pluralign.cli.main import VERBS, main
from pluralign.cli.parsing import _parser

HEAVY = ("torch", "transformers", "datasets", "pyarrow", "pandas", "peft")
CONFIGS = {
    "OfflineConfig": "pluralign.policy.offline.config",
    "PPOConfig": "pluralign.policy.online.config",
}


def helped(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"] if "--help" not in words else list(words))
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help_imports_no_heavy_package():
    """Their import takes seconds, which is all that `--help` would take."""
    script = f"""
import contextlib, io, sys
from pluralign.cli.main import VERBS, main
for words in ([], ["align", "--method", "ppo"], *([verb] for verb in VERBS)):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    assert not loaded, (words, loaded)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_what_help_shows_of_a_configuration_is_what_it_declares(name):
    real, shown = getattr(importlib.import_module(CONFIGS[name]), name), declared(CONFIGS[name], name)
    inherited = {
        f.name for base in real.__mro__[1:] for f in getattr(base, "__dataclass_fields__", {}).values()
    }
    fields = {f.name: f for f in dataclasses.fields(real)}
    own = {f.name: f for f in dataclasses.fields(shown)}
    assert set(fields) - inherited <= set(own) <= set(fields)
    assert {n: f.default for n, f in own.items()} == {n: fields[n].default for n in own}
    assert [str(f.type).replace("<class '", "").replace("'>", "") for f in own.values()] == [
        str(fields[n].type).replace('"', "'").replace("Literal", "typing.Literal") for n in own
    ]
    assert shown.__doc__.startswith("Settings of")


def test_help_of_align_is_its_own_and_names_the_rest(capsys):
    own = helped(capsys, "align")
    assert "--beta BETA" in own
    assert "--gradient_checkpointing " not in own
    assert "pluralign align --help trainer" in " ".join(own.split())
    online = helped(capsys, "align", "--method", "ppo")
    assert "--critic_kappa" in online
    assert "--gamma_beta_ratio" not in online


def test_help_of_the_trainer_has_every_field_of_transformers(capsys):
    from transformers import TrainingArguments

    out = helped(capsys, "align", "--help", "trainer")
    own = {f.name for f in dataclasses.fields(declared(CONFIGS["OfflineConfig"], "OfflineConfig"))}
    for field in dataclasses.fields(TrainingArguments):
        if field.init and field.name != "output_dir":
            assert (f"--{field.name} " in out) == (field.name not in own), field.name


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_lists_each_flag_once(verb, capsys):
    out = helped(capsys, verb)
    assert "Attributes:" not in out
    assert out.splitlines()[0].startswith(f"usage: pluralign {verb} [--config FILE.yaml] ")
    flags = [line.split()[0] for line in out.splitlines() if line.startswith("  --")]
    assert len(set(flags)) == len(flags) > 1


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_says_what_each_flag_is(verb, capsys):
    """A docstring whose lines were run together loses the flags in their middle."""
    lines = helped(capsys, verb).splitlines()
    for place, line in enumerate(lines):
        if line.startswith("  --") and not line.startswith("  --print_config"):
            words = " ".join([line, *lines[place + 1 : place + 2]]).split()
            told = [word for word in words[1:] if not word.isupper() and word[0] not in "[{"]
            assert told
            assert told[0] != "(type:", line


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_headings_of_help_are_whole(verb, capsys, monkeypatch):
    """The heading of a group of flags is the first line of their docstring."""
    from jsonargparse import ArgumentParser

    _parser.cache_clear()
    kinds, add = [], ArgumentParser.add_class_arguments
    record = lambda parser, kind, *rest, **named: kinds.append(kind) or add(parser, kind, *rest, **named)  # noqa: E731
    monkeypatch.setattr(ArgumentParser, "add_class_arguments", record)
    out = helped(capsys, verb)
    assert kinds
    for kind in kinds:
        first = inspect.getdoc(kind).partition("\n\n")[0]
        assert "\n" not in first, f"{kind.__name__}: {first}"
        assert f"\n{first.rstrip('.')}:\n" in out


def test_help_of_a_class_that_is_not_there():
    with pytest.raises(LookupError, match="has no class Nothing"):
        declared("pluralign.policy.offline.config", "Nothing")
