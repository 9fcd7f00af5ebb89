"""The checkpoint that a run continues from: complete, undamaged, and never executed."""

from __future__ import annotations

import json
import logging
import pickle
import random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pluralign.errors import ArtifactError, RunError
from pluralign.training.checkpoints import checkpoint_at, damage_of, last_checkpoint, usable


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
    assert (
        "checkpoint-20 was not written completely or is damaged: trainer_state.json is missing" in caplog.text
    )


class Hostile:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def checkpoint(folder, step=4):
    """The files of both trainers, and one that nobody reads."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    (path / "adapter_config.json").write_text("{}")
    save_file({"w": torch.arange(4000.0)}, path / "trained.safetensors")
    torch.save({"state": {0: {"exp_avg": torch.arange(4000.0)}}}, path / "optimizer.pt")
    torch.save([torch.get_rng_state(), random.getstate()], path / "random.pt")
    state = np.random.get_state()  # noqa: NPY002 (as transformers saves it)
    torch.save({"numpy": state, "cpu": torch.get_rng_state()}, path / "rng_state.pth")
    (path / "training_args.bin").write_bytes(pickle.dumps(Hostile(folder / "hacked")))
    return path


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("trained.safetensors", lambda p: p.write_bytes(p.read_bytes()[:-100]), "cannot be read"),
        ("trained.safetensors", lambda p: p.write_bytes(b""), "cannot be read"),
        ("trained.safetensors", lambda p: p.unlink(), "is missing"),
        ("optimizer.pt", lambda p: p.write_bytes(p.read_bytes()[:-100]), "cannot be read"),
        ("optimizer.pt", lambda p: p.write_bytes(b"half"), "cannot be read"),
        ("optimizer.pt", flip, "has another checksum"),
        ("optimizer.pt", lambda p: p.unlink(), "is missing"),
        ("optimizer.pt", lambda p: torch.save(Hostile(p.parent.parent / "hacked"), p), "could run code"),
        ("random.pt", lambda p: p.unlink(), "is missing"),
        ("rng_state.pth", lambda p: torch.save([Hostile(p.parent.parent / "hacked")], p), "could run code"),
        ("rng_state.pth", lambda p: p.write_bytes(pickle.dumps(Hostile("hacked"))), "cannot be read"),
        ("trainer_state.json", lambda p: p.write_text('{"global_step": 5}'), "global_step is 5"),
        ("trainer_state.json", lambda p: p.write_text('{"global_step": "4"}'), "global_step is '4'"),
        ("trainer_state.json", lambda p: p.write_text("[]"), "other contents"),
        ("trainer_state.json", lambda p: p.write_text("{}"), "other contents"),
        ("trainer_state.json", lambda p: p.write_bytes(b"\xff"), "cannot be read"),
        ("adapter_config.json", lambda p: p.write_text("{"), "cannot be read"),
    ],
)
def test_a_damaged_file_is_named_and_the_checkpoint_before_it_is_used(tmp_path, caplog, name, damage, words):
    before, last = checkpoint(tmp_path, 2), checkpoint(tmp_path, 4)
    assert damage_of(last) is None
    assert checkpoint_at(tmp_path, True) == last
    damage(last / name)
    found = damage_of(last)
    assert found.startswith(f"{name} ")
    assert words in found
    assert "weights_only" not in found  # torch's advice is to run what stands in the file
    assert checkpoint_at(tmp_path, True) == before
    assert f"{last} was not written completely or is damaged: {name} " in caplog.text
    with pytest.raises(ArtifactError, match=f"checkpoint-4 is not a complete checkpoint: {name} "):
        checkpoint_at(tmp_path, last)
    damage(before / name)
    assert last_checkpoint(tmp_path) is None
    with pytest.raises(ArtifactError, match=r"is not a complete checkpoint: .* and none before it is"):
        checkpoint_at(tmp_path, True)
    assert not (tmp_path / "hacked").exists()


def test_a_folder_without_checkpoints(tmp_path):
    with pytest.raises(RunError, match="has no complete checkpoint"):
        checkpoint_at(tmp_path, True)
    with pytest.raises(ArtifactError, match="checkpoint-9 cannot be read"):
        checkpoint_at(tmp_path, tmp_path / "checkpoint-9")


def test_what_cannot_be_used_is_reported(tmp_path):
    with (
        pytest.raises(
            ArtifactError, match=r"checkpoint-4: its weights cannot be used \(.*KeyError.*Remove it"
        ),
        usable(tmp_path / "checkpoint-4", "weights"),
    ):
        {}["w"]
    with pytest.raises(RunError, match="our own"), usable(tmp_path, "weights"):
        raise RunError("our own")
    with pytest.raises(RuntimeError, match="out of memory"), usable(tmp_path, "weights"):
        raise RuntimeError("CUDA out of memory")
