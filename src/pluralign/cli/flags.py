"""Flags that several commands share, as dataclasses. Nothing heavy is imported here, not even for types: the
parser resolves all annotations of the file when it reads its dataclasses.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from pluralign.cli.run_folder import digest
from pluralign.families import CONFIGS

__all__ = ["BackboneFlags", "DataFlags", "PlaceFlags", "flags_of_other_families"]


def flags_of_other_families(family: str) -> dict[str, str]:
    """Keys that only other families have, with the flag that selects those families."""
    owners: dict[str, list[str]] = {}
    for name, kind in CONFIGS.items():
        for field in fields(kind):
            owners.setdefault(field.name, []).append(name)
    return {key: f"--family {' or '.join(names)}" for key, names in owners.items() if family not in names}


@dataclass(frozen=True)
class DataFlags:
    """Which data, and how to read it.

    Attributes:
        ratings: File, folder or hub id with ratings.
        pairs: File, folder or hub id with pairs.
        votes: File, folder or hub id with comparisons and their votes.
        where: Only rows with these values, e.g. --where.subset expert.
        columns: Mapping from our column names to the file's, e.g. --columns.response answer.
        scale: Lowest and highest rating, if the file has no scale column.
        attribute: Name of what is rated, if the file has no attribute column.
        attribute_columns: Columns with the ratings of one attribute each, e.g. '[clarity,tone]'.
        rater_columns: Columns with the ratings of one rater each, e.g. '[ann,bob]'.
        hub_split: Split of a hub data set.
        on_bad_row: error stops and lists every problem; quarantine moves bad rows to a file in the run
            folder.
    """

    ratings: str | None = None
    pairs: str | None = None
    votes: str | None = None
    where: dict[str, str] | None = None
    columns: dict[str, str] | None = None
    scale: tuple[float, float] | None = None
    attribute: str | None = None
    attribute_columns: list[str] | None = None
    rater_columns: list[str] | None = None
    hub_split: str | None = None
    on_bad_row: Literal["error", "quarantine"] = "error"

    @property
    def sources(self) -> dict[str, str]:
        """The tables that were named."""
        return {k: v for k in ("ratings", "pairs", "votes") if (v := getattr(self, k)) is not None}

    @property
    def arguments(self) -> list[str]:
        """The flags that name this data, for a command that the user can copy."""
        words = [word for kind, source in self.sources.items() for word in (f"--{kind}", source)]
        for name in ("where", "columns"):
            for key, value in (getattr(self, name) or {}).items():
                words += [f"--{name}.{key}", value]
        if self.scale is not None:
            words += ["--scale", f"[{self.scale[0]:g},{self.scale[1]:g}]"]
        for name in ("attribute_columns", "rater_columns"):
            if given := getattr(self, name):
                words += [f"--{name}", f"[{','.join(given)}]"]
        for name in ("attribute", "hub_split"):
            if getattr(self, name) is not None:
                words += [f"--{name}", getattr(self, name)]
        return words + (["--on_bad_row", self.on_bad_row] if self.on_bad_row != "error" else [])

    def digests(self) -> dict[str, str]:
        """Content digest of each source, so that a run folder notices a changed file."""
        return {kind: digest(source) for kind, source in self.sources.items()}


@dataclass(frozen=True)
class BackboneFlags:
    """The frozen language model, and how it embeds text.

    Attributes:
        backbone: minilm, smollm2, smollm2-q4, a hub id or a folder.
        revision: Branch, tag or commit on the hub.
        pooling: last, mean or last_mean over the response; null for the default of the architecture.
        context: Input of an encoder, response or pair (prompt and response); null for the default.
        dtype: Precision of the backbone.
        max_length: Maximum tokens per text; null for the model's own limit.
        quantization: 4bit or 8bit weights, with bitsandbytes.
        length: Also give the head the response's length, log(1 + its number of tokens).
        surface: Also give the head repetition, punctuation, word and sentence length, and how the text ends.
        attn_implementation: Passed on to transformers.
        device: cpu, cuda, cuda:1, ...; null for a GPU if there is one.
        cache: Embedding cache; null for PLURALIGN_CACHE or ~/.cache/pluralign, none for no cache.
    """

    backbone: str = "minilm"
    revision: str | None = None
    pooling: Literal["last", "mean", "last_mean"] | None = None
    context: Literal["response", "pair", "conversation"] | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    max_length: int | None = None
    quantization: Literal["4bit", "8bit"] | None = None
    length: bool = False
    surface: bool = False
    attn_implementation: str | None = None
    device: str | None = None
    cache: str | None = None


@dataclass(frozen=True)
class PlaceFlags:
    """Where a saved model runs; its backbone is named in its folder.

    Attributes:
        device: cpu, cuda, cuda:1, ...; null for a GPU if there is one.
        cache: Embedding cache; null for PLURALIGN_CACHE or ~/.cache/pluralign, none for no cache.
    """

    device: str | None = None
    cache: str | None = None
