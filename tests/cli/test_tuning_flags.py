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
    assert tuning_from(TuningFlags()) == TuningConfig()


def test_flags_become_settings() -> None:
    arguments = ["--tune_lr", "0.001", "--tune_bf16", "--tune_loggers", "[tensorboard]", "--tune_seed", "3"]
    (flags,) = parse("fit", "", arguments, TuningFlags)
    wanted = TuningConfig(lr=1e-3, bf16=True, loggers=("tensorboard",), tune_seed=3)
    assert tuning_from(flags) == wanted


def test_settings_of_a_tuning_that_is_not_asked_for() -> None:
    with pytest.raises(UsageError, match="need --tune lora or --tune full"):
        run(["--family", "bradley_terry", "--pairs", "pairs.jsonl", "--tune_epochs", "1"])
