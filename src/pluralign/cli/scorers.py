"""From flags to a scorer: one reward model, the folder of a combination, or several models on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pluralign.cli.objects import cache_from, load_model
from pluralign.cli.parsing import UsageError

__all__ = ["check_combination", "conversations_of", "load_scorer"]


def check_combination(combine: Sequence[str], reference: str | None) -> None:
    """Rejects one of --combine and --reference without the other.

    Raises:
        UsageError: one of them is missing.
    """
    if bool(combine) != (reference is not None):
        raise UsageError("--combine and --reference go together: the reference responses set the scale")


def load_scorer(
    model: str,
    *,
    device: str | None,
    cache: str | None,
    combine: Sequence[str] = (),
    reference: str | None = None,
    how: Literal["mixture", "vincentize"] = "mixture",
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
) -> Any:
    """The model that was named, or its combination with others.

    Args:
        model: a model folder, the run folder of a fit, or the folder of a combination.
        device: cpu, cuda, ...; None for a GPU if there is one.
        cache: of embeddings; see `cache_from`.
        combine: more models.
        reference: file with responses that set their scale.
        how: see `pluralign.combine`.
        columns: of the reference: our column names to the file's.
        split: which split of a hub set the reference is.

    Raises:
        UsageError: a combination is to be combined again.
        PluralignError: a model or the reference cannot be read.
    """
    from pluralign import backbones, data
    from pluralign.model import Combination
    from pluralign.model import combine as combined
    from pluralign.model.combination_folder import is_combination

    if is_combination(model):
        if combine:
            raise UsageError(f"{model} is a combination; --combine is for one model")
        backbones.use_idle_cores()
        return Combination.from_pretrained(model, device=device, cache=cache_from(cache))
    # Read before any backbone is loaded, so that a wrong file fails at once.
    table = data.load_responses(reference, columns=columns, split=split) if reference is not None else None
    first = load_model(model, device, cache)
    if table is None:
        return first
    others = [load_model(path, device, cache) for path in combine]
    return combined([first, *others], conversations_of(table), how=how)


def conversations_of(table: Any) -> list[Any]:
    """Every response of a table after its prompt."""
    from pluralign import data

    whole = table[:]
    sides = [whole[side] for side in data.response_columns(table.column_names)]
    return [
        data.conversation(prompt, response)
        for prompt, *responses in zip(whole["prompt"], *sides, strict=True)
        for response in responses
    ]
