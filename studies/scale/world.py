"""What the arms share: made-up rows in files, models on MiniLM and on a tiny random encoder, and processes.

Rows are a prompt for every twenty responses of fifteen words, all of them different.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from studies.records import WORK

PLACE = WORK / "scale"
_WORDS = ("water", "seven", "light", "under", "paper", "green", "after", "table", "quiet", "north")


def rows_file(rows: int) -> Path:
    """JSON Lines with so many rows, written when they are first asked for."""
    from pluralign.files import whole_file

    path = PLACE / f"rows-{rows}.jsonl"
    if not path.exists():
        with whole_file(path) as work, work.open("w", encoding="utf-8") as lines:
            for row in range(rows):
                said = " ".join(_WORDS[(row * 7 + 3 * k) % 10] for k in range(14))
                prompt = f"What is to be said of subject {row // 20}?"
                lines.write(json.dumps({"prompt": prompt, "response": f"{row} {said}"}) + "\n")
    return path


def model_on(backbone: str) -> Path:
    """The folder of a model with a head of random weights.

    Args:
        backbone: minilm, or tiny: an encoder of one layer of width 32 with random weights and MiniLM's
            tokenizer.
    """
    import pluralign as pl
    from pluralign.heads import BradleyTerryHead
    from pluralign.heads.scaling import ColumnScaling

    folder = PLACE / f"model-{backbone}"
    if not folder.exists():
        loaded = pl.backbones.load(str(_tiny()) if backbone == "tiny" else backbone)
        width = loaded.response_size
        weights = torch.randn(width, generator=torch.Generator().manual_seed(0))
        head = BradleyTerryHead(ColumnScaling.empty(width), weights)
        pl.RewardModel(loaded, head).save_pretrained(folder)
    return folder


def _tiny() -> Path:
    from transformers import AutoTokenizer, BertConfig, BertModel

    from pluralign.backbones.locate import find_folder

    folder = PLACE / "tiny-encoder"
    if not (folder / "config.json").exists():
        source, _ = find_folder("minilm")
        AutoTokenizer.from_pretrained(source).save_pretrained(folder)
        torch.manual_seed(0)
        config = BertConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=128,
        )  # fmt: skip
        BertModel(config).save_pretrained(folder)
    return folder


def descendants(leader: int) -> Iterator[tuple[int, str]]:
    """Processes that descend from one, with the beginnings of their command lines."""
    parents: dict[int, int] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            fields = _read(path / "stat").rpartition(")")[2].split()
            if fields:
                parents[int(path.name)] = int(fields[1])
    found = [leader]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    for pid in found[1:]:
        yield pid, _read(Path(f"/proc/{pid}/cmdline")).replace("\0", " ")[:80]


def highest_mib(pid: int) -> float:
    """The most memory that a process has had; 0 where it is gone."""
    lines: dict[str, Any] = dict(
        line.partition(":")[::2] for line in _read(Path(f"/proc/{pid}/status")).splitlines()
    )
    return float(lines["VmHWM"].split()[0]) / 1024 if "VmHWM" in lines else 0.0


class Processor:
    """Processor seconds of all processes that descend from this one, read twice a second until `stop`."""

    def __init__(self) -> None:
        self._seconds: dict[int, tuple[bool, float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> tuple[float, float]:
        """Those of workers, and of all others."""
        self._ended.set()
        self._thread.join()
        found = self._seconds.values()
        return sum(s for worker, s in found if worker), sum(s for worker, s in found if not worker)

    def _watch(self) -> None:
        while True:
            for pid, command in descendants(os.getpid()):
                fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
                if fields:
                    ticks = int(fields[11]) + int(fields[12])
                    worker = is_worker(command) or self._seconds.get(pid, (False, 0.0))[0]
                    self._seconds[pid] = (worker, ticks / os.sysconf("SC_CLK_TCK"))
            if self._ended.wait(0.5):
                return


def is_worker(command: str) -> bool:
    """Whether a command line is that of an actor of `map_batches`."""
    return command.startswith("ray::") and "MapWorker" in command


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
