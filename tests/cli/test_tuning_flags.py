"""The flags of `fit --tune`: one for each setting, under a name that no family has."""

from __future__ import annotations

import dataclasses

import pytest

from pluralign.cli.fit import FitFlags, run
from pluralign.cli.flags import BackboneFlags, DataFlags
from pluralign.cli.parsing import UsageError, parse
from pluralign.cli.tuning_flags import TuningFlags, tuning_from
from pluralign.families import CONFIGS
from pluralign.fitting import TuningConfig


def test_every_setting_has_a_flag_of_its_own() -> None:
    names = {field.name for field in dataclasses.fields(TuningFlags)}
    assert all(name.startswith("tune_") for name in names)
    assert len(names) == len(dataclasses.fields(TuningConfig))
    others = [FitFlags, DataFlags, BackboneFlags, *(CONFIGS[family] for family in CONFIGS)]
    assert not names & {field.name for kind in others for field in dataclasses.fields(kind)}
    assert tuning_from(TuningFlags(), "lora", 1) == TuningConfig()
    assert tuning_from(TuningFlags(), None, 1) is None


def test_flags_become_settings() -> None:
    arguments = ["--tune_lr", "0.001", "--tune_bf16", "--tune_loggers", "[tensorboard]", "--tune_seed", "3"]
    (flags,) = parse("fit", "", arguments, TuningFlags)
    wanted = TuningConfig(lr=1e-3, bf16=True, loggers=("tensorboard",), tune_seed=3)
    assert tuning_from(flags, "full", 1) == wanted


def test_settings_of_a_tuning_that_is_not_asked_for() -> None:
    with pytest.raises(UsageError, match="need --tune lora or --tune full"):
        run(["--family", "bradley_terry", "--pairs", "pairs.jsonl", "--tune_epochs", "1"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tune_lr", "-1"], "--tune_lr = -1.0: a finite number above 0 is needed"),
        (["--tune_held_out", "1"], "--tune_held_out = 1.0: at least 0 and below 1 is needed"),
        (["--tune_eval_every", "0"], "--tune_eval_every = 0: null or a whole number of at least 1"),
        (["--tune_targets", " "], "--tune_targets is empty"),
        (["--ensemble", "0"], "--ensemble: received 0; allowed: a whole number, at least 1"),
    ],
)
@pytest.mark.parametrize("verb", ["fit", "evaluate --folds 2"])
def test_what_is_out_of_range_is_named_by_its_flag(verb, arguments, said, workplace, fake, command):
    status, out, err = command(f"{verb} --ratings ratings.jsonl --tune lora", *arguments)
    assert (status, out) == (2, "")
    assert said in err


def test_flags_of_fitting_need_folds(workplace, fake, command):
    for flag in ("--ensemble 2", "--tune lora", "--tune_epochs 1"):
        status, _, err = command(f"evaluate --model nowhere --ratings ratings.jsonl {flag}")
        assert status == 2
        assert "it is valid only with --folds" in err
    status, _, err = command("evaluate --folds 2 --ratings ratings.jsonl --tune_epochs 1")
    assert (status, "need --tune lora or --tune full" in err) == (2, True)
