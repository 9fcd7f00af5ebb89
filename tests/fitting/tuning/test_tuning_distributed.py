"""Two processes (gloo) tune the backbone that one does, from batches of half the size."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_tuning as tiny
from safetensors.torch import load_file

from several_processes import launch

SCRIPT = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import tiny_tuning as tiny
import pluralign as pl
folder, encoder, kind = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
own = folder / os.environ.get("RANK", "0")
own.mkdir(parents=True, exist_ok=True)
if os.environ.get("DIES_IN_STEP") and os.environ.get("RANK") == "1":  # as if the machine had failed
    from pluralign.fitting.tuning.trainer import TuningTrainer
    step = TuningTrainer.training_step
    def dying(self, *args, **options):
        if self.state.global_step == int(os.environ["DIES_IN_STEP"]):
            os._exit(9)
        return step(self, *args, **options)
    TuningTrainer.training_step = dying
size = int(os.environ.get("WORLD_SIZE", "1"))
# 43 responses: the last batch of an epoch is filled up with rows that must not count twice.
model = pl.fit(
    "regression", ratings=tiny.ratings(own, 43), backbone=encoder, config=tiny.FAST["regression"], cache=None,
    progress=False, tune=kind, tuning={"batch": 8 // size, "epochs": 2, "lr": 1e-3, "head_lr": 1e-3,
    "held_out": 0.25, "eval_every": 2, "rank": 4, "alpha": 8.0, "dropout": False},
    journal=folder / "search.jsonl" if len(sys.argv) > 4 else None,
)
model.save_pretrained(own / "model")
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_two_processes_are_one(kind: str, tmp_path: Path) -> None:
    encoder = tiny.encoder(tmp_path / "encoder")
    launch(tmp_path / "one", SCRIPT, 1, str(tmp_path / "one" / "out"), encoder, kind)
    launch(tmp_path / "two", SCRIPT, 2, str(tmp_path / "two" / "out"), encoder, kind)
    single, first, second = (tmp_path / place / "model" for place in ("one/out/0", "two/out/0", "two/out/1"))
    weights = f"backbone/{'adapter_model' if kind == 'lora' else 'model'}.safetensors"
    for name in ("model.safetensors", weights):
        one, a = (load_file(folder / name) for folder in (single, first))
        # transformers writes whole models in the first process alone
        b = load_file(second / name) if kind == "lora" or name != weights else a
        assert one.keys() == a.keys() == b.keys()
        for key, value in one.items():
            assert a[key].equal(b[key])
            assert float((a[key].double() - value.double()).abs().max()) < 1e-4, key


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_and_the_next_goes_on(tmp_path: Path) -> None:
    """In the middle of an epoch: nobody waits for it, and the weights are those of a run without it."""
    encoder = tiny.encoder(tmp_path / "encoder")
    whole, broken = tmp_path / "whole" / "out", tmp_path / "broken" / "out"
    launch(whole.parent, SCRIPT, 2, str(whole), encoder, "full", "journal")
    launch(broken.parent, SCRIPT, 2, str(broken), encoder, "full", "journal", dies_in_step=3)
    assert not (broken / "0" / "model").exists()
    assert list(broken.glob("search-tuning-regression/checkpoint-2"))
    launch(broken.parent, SCRIPT, 2, str(broken), encoder, "full", "journal")
    for name in ("model.safetensors", "backbone/model.safetensors"):
        one, other = (load_file(folder / "0" / "model" / name) for folder in (whole, broken))
        assert all(other[key].equal(value) for key, value in one.items())
