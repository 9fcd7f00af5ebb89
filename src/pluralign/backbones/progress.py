"""Progress of long work: a caller's function, or a bar on a terminal after a few seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Progress", "on_behalf", "reporter"]

Progress = Callable[[int, int], None]
"""Called with the number of texts, prompts, batches or steps done, and their total."""

_PATIENCE_SECONDS = 5.0


@contextmanager
def reporter(
    total: int, progress: Progress | bool | None, *, unit: str = "texts", what: str = "embedding"
) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of texts, or other units, just done.

    Args:
        total: units in all.
        progress: a function; True for a bar; None for a bar if stderr is a terminal; False for nothing.
        unit: name of the units.
        what: title of the bar.
    """
    if callable(progress):
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total)

        yield advance
        return
    from tqdm import tqdm  # type: ignore[import-untyped]

    hidden = None if progress is None else not progress  # None: hidden unless stderr is a terminal
    with tqdm(total=total, unit=f" {unit}", desc=what, delay=_PATIENCE_SECONDS, disable=hidden) as bar:
        yield bar.update


def on_behalf(advance: Callable[[int], None], own: int, total: int) -> Callable[[int], None]:
    """`advance` for one of several processes: its progress on its `own` texts is scaled to `total`."""
    done = 0

    def report(count: int) -> None:
        nonlocal done
        before, done = done, done + count
        advance(total * done // own - total * before // own)

    return report
