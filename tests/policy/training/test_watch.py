"""Warning signs in the log of a run."""

from __future__ import annotations

import logging

from pluralign.policy.training.watch import Watch


def test_a_sign_is_logged_once_whatever_stands_before_its_name(caplog):
    watch = Watch()
    with caplog.at_level(logging.WARNING, "pluralign"):
        watch.read({"reward": 1.0, "signs/crossing": 0.1, "signs/of_nothing": 9.0})
        assert caplog.text == ""
        watch.read({"eval/signs/crossing": 0.5})
        watch.read({"signs/crossing": 0.6, "crossing": 0.9})
        watch.read({"samples/signs/equal_stds": 0.001})
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "warning sign, crossing quantiles",
        "warning sign, equal stds",
    ]
    assert "50 %" in caplog.text


def test_other_processes_say_nothing(caplog):
    with caplog.at_level(logging.WARNING, "pluralign"):
        Watch(logs=False).read({"signs/crossing": 0.9})
    assert caplog.text == ""
