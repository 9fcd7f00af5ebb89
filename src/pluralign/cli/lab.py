"""`pluralign lab`: ratings, votes or pairs from a simulated crowd whose true rewards are known."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pluralign.cli.console import Console
from pluralign.cli.objects import quiet_datasets
from pluralign.cli.parsing import parse
from pluralign.files import whole_file

__all__ = ["run"]


@dataclass(frozen=True)
class LabFlags:
    """Draw data from a simulated crowd.

    Attributes:
        kind: ratings of attributes, votes on comparisons, or pairs.
        n: Rated responses, or comparisons.
        seed: Seed of the crowd.
        data_seed: Seed of the sampling, so that one crowd can be sampled twice.
        raters_per_item: Raters per response or comparison.
        noise: Multiplies the noise in each persona's ratings.
        label_flips: Share of labels that are replaced by a wrong one.
        out: JSON Lines file to write, plain or .gz.
        json: Print the result as JSON.
    """

    out: str
    kind: Literal["ratings", "votes", "pairs"] = "ratings"
    n: int = 2000
    seed: int = 0
    data_seed: int = 0
    raters_per_item: int = 5
    noise: float = 1.0
    label_flips: float = 0.0
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments, samples the data and writes it."""
    (flags,) = parse("lab", LabFlags.__doc__ or "", arguments, LabFlags)
    target = Path(flags.out)
    from pluralign.lab import Crowd

    quiet_datasets()
    crowd = Crowd(seed=flags.seed, noise=flags.noise, label_flips=flags.label_flips)
    options = {} if flags.kind == "pairs" else {"raters_per_item": flags.raters_per_item}
    table = getattr(crowd, flags.kind)(flags.n, seed=flags.data_seed, **options)
    with whole_file(target) as work, work.open("wb") as file:
        # No file name and no time in the archive, so that the same crowd gives the same bytes.
        packed = gzip.GzipFile("", "wb", 9, file, mtime=0) if target.suffix == ".gz" else nullcontext(file)
        with packed as stream:
            table.to_json(stream)
    console = Console(flags.json)
    console.result({"data": str(target), "rows": len(table), "kind": flags.kind}, str(target))
