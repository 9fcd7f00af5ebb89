"""Loads a scorer from a folder or from tables of tests, with a digest that shows whether they changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pluralign.digests import file_digest, json_digest, named_files_digest
from pluralign.errors import ArtifactError
from pluralign.run_layout import model_folder

__all__ = [
    "folder_digest",
    "load_personas",
    "load_policy_tokenizer",
    "load_programs",
    "load_scorer",
    "tables_digest",
]


def load_scorer(path: str, *, device: str | None = None, cache: str | None = "none") -> Any:
    """The reward model or the combination in a folder.

    Args:
        path: a model folder, the run folder of a fit, or the folder of a combination.
        device: cpu, cuda, ...; None for a GPU if there is one.
        cache: a folder for embeddings; None for the default one, `none` for none.

    Raises:
        PluralignError: it cannot be read.
    """
    from transformers.utils import logging as of_transformers

    from pluralign import backbones
    from pluralign.model import Combination, RewardModel
    from pluralign.model.combination_folder import is_combination

    of_transformers.disable_progress_bar()
    backbones.use_idle_cores()
    store = _cache(cache)
    if is_combination(path):
        return Combination.from_pretrained(path, device=device, cache=store)
    return RewardModel.from_pretrained(model_folder(path), device=device, cache=store)


def load_programs(given: Mapping[str, Any]) -> Any:
    """The scorer that runs programs against the tests of their prompts.

    Args:
        given: arguments of `ProgramReward.from_tables`.

    Raises:
        PluralignError: a table cannot be read, or this machine offers no protection that is accepted.
    """
    from pluralign import policy

    return policy.ProgramScorer(policy.ProgramReward.from_tables(**given))


def tables_digest(tables: Sequence[str]) -> str:
    """What tables of tests hold, as far as they are files here."""
    files = [
        file for table in map(Path, tables) for file in ([table] if table.is_file() else table.rglob("*"))
    ]
    return json_digest({str(file): file_digest(file) for file in sorted(files) if file.is_file()})


def load_personas(
    paths: Mapping[str, str], scorer: Any, *, device: str | None = None, cache: str | None = "none"
) -> dict[str, Any]:
    """The reward models of groups of people, by name; those that fit the scorer's backbone share it.

    Args:
        paths: of model folders or run folders, by name.
        scorer: what is loaded already.
        device: as in `load_scorer`.
        cache: as in `load_scorer`.

    Raises:
        PluralignError: one cannot be read, or is a combination.
    """
    from pluralign.model import RewardModel
    from pluralign.model.combination_folder import is_combination

    shared = getattr(scorer, "backbone", None)
    store = _cache(cache)
    found: dict[str, Any] = {}
    for name, path in paths.items():
        if is_combination(path):
            raise ArtifactError(f"--personas.{name} {path} is a combination; needed: one model per persona")
        if shared is not None:
            try:
                found[name] = RewardModel.from_pretrained(model_folder(path), backbone=shared, cache=store)
                continue
            except ArtifactError:  # another backbone, or damaged, which is said next
                pass
        found[name] = load_scorer(path, device=device, cache=cache)
    return found


def _cache(folder: str | None) -> Any:
    from pluralign import backbones

    return None if folder == "none" else backbones.EmbeddingCache(folder)


def folder_digest(path: str) -> str:
    """What the folder holds, by its configurations, which hold the digests of the weights.

    Raises:
        ArtifactError: there is no folder, or none of a model.
    """
    folder = model_folder(path)
    digest = named_files_digest(folder, "config.json")
    if digest is None:
        raise ArtifactError(
            f"{path} is not a model folder: it has no config.json. Name the folder of a reward model"
        )
    return digest


def load_policy_tokenizer(name: str) -> Any:
    """The tokenizer of a policy by its hub id or folder; None for `none`.

    Raises:
        ArtifactError: it cannot be loaded.
    """
    if name == "none":
        return None
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ArtifactError(f"--policy_tokenizer {name} cannot be loaded: {reason}") from error
