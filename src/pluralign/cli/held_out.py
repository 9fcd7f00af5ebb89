"""Records what a model was fitted on, so that an evaluation can say what is held out.

    train_groups.json   the names of the groups
    train_texts.npz     digests of the prompts and of the conversations

In: tables. Out: those files in the run folder of a fit; counts of what was held out; the part of evaluation
tables that was not in the fit, and a sentence about what they share with it.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.files import whole_file, write_json

if TYPE_CHECKING:
    import datasets

    from pluralign.data import TextRecord

__all__ = [
    "groups_of",
    "held_out_counts",
    "held_out_words",
    "num_fitted_groups",
    "overlap_with_fit",
    "remember",
    "remember_also",
    "unseen",
]

_GROUPS, _TEXTS = "train_groups.json", "train_texts.npz"

Tables = Mapping[str, "datasets.Dataset"]


def remember(folder: Path, tables: Tables) -> None:
    """Records the groups and texts of these tables in the run folder of their fit."""
    from pluralign.data import text_record

    _write(folder, groups_of(tables), text_record(tables))


def _write(folder: Path, groups: set[Any], record: TextRecord) -> None:
    import numpy as np

    write_json(folder / _GROUPS, sorted(groups))
    with whole_file(folder / _TEXTS) as work, work.open("wb") as stream:
        np.savez_compressed(stream, **record._asdict())


def remember_also(folder: Path, before: Path, tables: Tables) -> None:
    """As `remember`, of these tables and of what the run folder `before` has on record, if anything."""
    import numpy as np

    from pluralign.data import TextRecord, text_record

    groups = groups_of(tables)
    if (before / _GROUPS).is_file():
        groups |= set(json.loads((before / _GROUPS).read_text(encoding="utf-8")))
    record, older = text_record(tables), _stored(before / _TEXTS)
    if older is not None:
        record = TextRecord(*map(np.union1d, record, older))
    _write(folder, groups, record)


def held_out_counts(train: Tables, test: Tables) -> dict[str, Any]:
    """How much of the data was held out: `groups` of `of` groups, and per table its `rows` and all rows."""
    held_out = groups_of(test)
    rows = {kind: [len(test[kind]), len(test[kind]) + len(train[kind])] for kind in train}
    return {"groups": len(held_out), "of": len(held_out | groups_of(train)), "rows": rows}


def held_out_words(counts: Mapping[str, Any]) -> str:
    """The same for people: `3 of 13 groups are held out (21 % of the rows)`."""
    shares = {kind: f"{100 * held_out / of:.0f} %" for kind, (held_out, of) in counts["rows"].items()}
    if len(shares) == 1:
        words = f"{next(iter(shares.values()))} of the rows"
    else:
        words = ", ".join(f"{share} of the {kind}" for kind, share in shares.items())
    return f"held out: {counts['groups']:,} of {counts['of']:,} groups ({words})"


def unseen(folder: Path, tables: Tables) -> dict[str, datasets.Dataset] | None:
    """The rows of these tables whose groups were not in the fit, by table; a table without any is left out.

    Args:
        folder: the run folder of the fit.
        tables: the evaluation data.

    Returns:
        None if the folder has no record.
    """
    from pluralign.data.table_columns import column_values

    if not (folder / _GROUPS).is_file():
        return None
    fitted = set(json.loads((folder / _GROUPS).read_text(encoding="utf-8")))
    found = {}
    for kind, table in tables.items():
        rows = [i for i, group in enumerate(column_values(table, "group")) if group not in fitted]
        if rows:
            found[kind] = table.select(rows)
    return found


def overlap_with_fit(folder: Path, tables: Tables) -> str | None:
    """How many of the evaluated groups and texts were in the fit, with a warning if any were.

    Args:
        folder: the run folder of the fit.
        tables: the evaluation data.

    Returns:
        A sentence; None if the folder has no record.
    """
    from pluralign.data import text_record

    if not (folder / _GROUPS).is_file():
        return None
    groups = groups_of(tables)
    shared = len(groups & set(json.loads((folder / _GROUPS).read_text(encoding="utf-8"))))
    overlap = f"{shared:,} of its {len(groups):,} groups were in the fit"
    if shared:
        return f"{overlap}; WARNING: this is not a held-out result"
    stored = _stored(folder / _TEXTS)
    if stored is None:  # an earlier version kept no record
        return overlap
    evaluated = text_record(tables)
    prompts, texts = evaluated.shared_with(stored)
    named = [f"{prompts:,} of its {len(evaluated.prompts):,} prompts"] if prompts else []
    named += [f"{texts:,} of its {len(evaluated.texts):,} texts"] if texts else []
    if named:
        overlap += f", but {' and '.join(named)} were, in other groups"
    return overlap + ("; WARNING: for these it is not a held-out result" if texts else "")


def num_fitted_groups(folder: Path, groups: Iterable[str]) -> int:
    """How many of these groups were in the fit; 0 where the run folder has no record.

    Args:
        folder: the run folder of the fit.
        groups: of the evaluation data.
    """
    if not (folder / _GROUPS).is_file():
        return 0
    return len(set(groups) & set(json.loads((folder / _GROUPS).read_text(encoding="utf-8"))))


def groups_of(tables: Tables) -> set[Any]:
    """The names of the groups of all tables."""
    from pluralign.data.table_columns import column_values

    return {group for table in tables.values() for group in column_values(table, "group")}


def _stored(file: Path) -> TextRecord | None:
    import numpy as np

    from pluralign.data import TextRecord

    try:
        with np.load(file, allow_pickle=False) as arrays:
            return TextRecord(arrays["prompts"], arrays["texts"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
