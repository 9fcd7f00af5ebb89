"""Old names of options and attributes still work, with a warning; saved files keep the old keys."""

from __future__ import annotations

import warnings

import pytest

import pluralign as pl
from pluralign.data import read_table
from pluralign.errors import PluralignWarning, RenamedWarning
from pluralign.fitting import QuantileConfig, RegressionConfig
from pluralign.fitting.config import saved_settings

RENAMED = "gate_judge_every is now gate_eval_every"


@pytest.mark.parametrize("config", [QuantileConfig, RegressionConfig])
def test_the_old_name_of_an_option_warns_and_works(config):
    with pytest.warns(RenamedWarning, match=RENAMED):
        old = config(gate_judge_every=7)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PluralignWarning)
        new = config(gate_eval_every=7)
    assert old == new
    assert new.gate_eval_every == 7


def test_saved_settings_keep_the_key_of_older_files():
    saved = saved_settings(QuantileConfig(gate_eval_every=7))
    assert saved["gate_judge_every"] == 7
    assert "gate_eval_every" not in saved
    with pytest.warns(RenamedWarning, match=RENAMED):  # what an older file says is still a configuration
        assert QuantileConfig(**saved) == QuantileConfig(gate_eval_every=7)


def test_the_old_name_as_a_flag_warns(capsys):
    from pluralign.cli.parsing import parse

    with pytest.warns(RenamedWarning, match=RENAMED):
        (config,) = parse("fit", "", ["--gate_judge_every", "7"], QuantileConfig)
    assert config.gate_eval_every == 7


def test_how_a_table_was_read_has_its_old_name():
    _, report = read_table(
        [{"prompt": "q", "response": "a", "rating": 1}], "ratings", scale=(1, 5), attribute="a"
    )
    with pytest.warns(RenamedWarning, match=r"LoadReport\.reading is now LoadReport\.read_as"):
        assert report.reading == report.read_as
    assert pl.data.LoadReport is type(report)
