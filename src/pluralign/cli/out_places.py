"""Where a command may write: neither over its inputs nor into them, and with the ending of a known format.

In: the values of a command's flags. Out: what is wrong with --out, if anything. The parser asks for every
command, before any of them works.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["out_problem"]

# Of commands that write a file; the others write folders, in which `RunFolder` and `whole_folder` mix none.
_ENDINGS: dict[tuple[str, str], tuple[str, ...]] = {
    ("score", "out"): (".jsonl", ".csv", ".parquet"),
    ("lab", "out"): (".jsonl", ".jsonl.gz"),
    ("report", "out"): (".html", ".htm"),
    ("report", "card"): (".md",),
}
# Flags that name tables, as files or as folders of files; whatever is in such a folder is read.
_TABLES = (
    *("data", "eval_data", "ratings", "pairs", "votes", "reference", "prompts", "shards", "training_data"),
    "programs",
)
# Other flags that name what is read; functions as FILE.py:NAME.
_READ = (
    *("config", "model", "combine", "ref_model", "critic_model", "reward_model", "samples", "scores", "runs"),
    *("reward_function", "gold_function"),
)


def out_problem(verb: str, values: Mapping[str, Any]) -> str | None:
    """What is wrong with --out; None if nothing is.

    Args:
        verb: the command.
        values: of all its flags, by name.
    """
    for flag in ("out", "card"):
        place = values.get(flag)
        if not isinstance(place, str) or not place:
            continue
        problem = _of_a_file(verb, flag, place) or _of_inputs(flag, Path(place), values)
        if problem:
            return problem
    return None


def _of_a_file(verb: str, flag: str, place: str) -> str | None:
    endings = _ENDINGS.get((verb, flag))
    if endings is None:
        return None
    if Path(place).is_dir():
        return f"--{flag} {place} is a folder; pass a file"
    if not place.endswith(endings):
        *more, last = endings
        allowed = f"{', '.join(more)} or {last}" if more else last
        return f"--{flag}: received {place!r}; allowed: a file that ends in {allowed}"
    return None


def _of_inputs(flag: str, place: Path, values: Mapping[str, Any]) -> str | None:
    for name, given in _inputs(values):
        if place.exists() and place.samefile(given):
            if given.is_dir():
                return f"--{flag} {place} is the folder of --{name}, which is read; pass another"
            return f"--{flag} {place} is the file of --{name}, which would be lost; pass another"
        if name in _TABLES and given.is_dir() and place.resolve().is_relative_to(given.resolve()):
            return (
                f"--{flag} {place} lies in {given}, the folder of --{name}, all of which is read; pass a "
                "place outside of it"
            )
    return None


def _inputs(values: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Existing paths that flags name, with the flag."""
    for name in (*_TABLES, *_READ):
        given = values.get(name)
        for one in given if isinstance(given, (list, tuple)) else [given]:
            text = "" if one is None else str(one)
            path = Path(text.rpartition(":")[0] if name.endswith("_function") else text)
            if text and path.exists():
                yield name, path
