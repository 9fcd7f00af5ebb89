"""What a study is: arms, each of which lists its runs by seed and does one of them at a time.

In: settings. Out: the results of a run, as numbers, words, lists and dictionaries. Where results are kept
is the matter of `records`, which runs are done of `runner`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Settings = dict[str, Any]
Results = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """One question of a study.

    Attributes:
        runs: the settings of the runs of a seed, in the order in which they should be done; `seed` is one of
            them. What differs in its settings is another run.
        run: does one run; its settings are its arguments.
        seeds: how many seeds there are, from 0.
        threads: of torch; None leaves busy cores to whoever uses them. Whatever is timed takes one.
        packages: whose versions a record holds, besides those that every record holds.
    """

    runs: Callable[[int], Iterable[Settings]]
    run: Callable[..., Results]
    seeds: int = 5
    threads: int | None = None
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """A folder under studies/.

    Attributes:
        name: of the folder.
        question: what it asks, in a line.
        arms: by name, the most important first.
    """

    name: str
    question: str
    arms: dict[str, Arm]


def once(*settings: Settings) -> Callable[[int], list[Settings]]:
    """The runs of an arm that has one seed: what it measures varies with the data, or with the machine."""
    return lambda seed: [] if seed else [{**one, "seed": 0} for one in settings]
