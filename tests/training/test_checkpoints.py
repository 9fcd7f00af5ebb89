"""The checkpoint that a run continues from."""

from __future__ import annotations

import logging

from pluralign.training.checkpoints import last_checkpoint


def test_the_last_whole_one(tmp_path, caplog):
    assert last_checkpoint(tmp_path / "absent") is None
    for step, state in ((2, '{"global_step": 2}'), (10, '{"global_step": 10}'), (12, '{"glob'), (20, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-best").mkdir()
    with caplog.at_level(logging.WARNING):
        assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert "checkpoint-12 was not written completely" in caplog.text
