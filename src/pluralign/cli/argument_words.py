"""Messages of the library in the language of the command line: arguments become flags.

In: a message that names arguments of Python (`columns={'response': ...}`, `on_bad_row='quarantine'`), and the
flags that the command has. Out: the message with those flags, without alternatives that it does not offer.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from dataclasses import fields
from typing import Any

__all__ = ["as_flags", "in_flags", "in_tuning_flags"]

# Arguments of the loaders, and what their flags are called.
_SAME = ("columns", "where", "scale", "attribute", "attribute_columns", "rater_columns", "on_bad_row")
_ARGUMENTS = {name: name for name in _SAME} | {"split": "hub_split"}
_VALUE = (
    r"\{'(?P<key>\w+)': (?P<entry><[^>]*>|'[^']*'|[^}]*)\}"
    r"|'(?P<text>[^']*)'|\((?P<pair>[^)]*)\)|(?P<dots>\.\.\.)"
)
_ARGUMENT = re.compile(rf"\b(?P<name>{'|'.join(_ARGUMENTS)})=(?:{_VALUE})?")
_SEVERAL = re.compile(r"\bcolumns=\{('\w+': '[^']*'(?:, '\w+': '[^']*')+)\}")
_ENTRIES = {"None": "null", "...": "VALUE"}
_PLACEHOLDERS = {"scale": "[LOWEST,HIGHEST]", "attribute": "NAME"}
# What errors of tuning say of its settings. `lr` and `batch` are also settings of heads.
_TUNING = (
    *("head_lr", "max_grad_norm", "gradient_checkpointing", "held_out", "margin_scale", "bf16"),
    *("epochs", "max_steps", "accumulate", "max_tokens", "warmup", "weight_decay", "eval_every", "patience"),
    *(
        "rank",
        "alpha",
        "lora_dropout",
        "targets",
        "label_smoothing",
        "centering",
        "logging_steps",
        "batch",
        "lr",
    ),
)
_TUNING_TRUTH = {"bf16=True": "--tune_bf16", "bf16=False": "--tune_bf16 false"}
_ABOUT_TUNING = (
    *("tuning (", "the loss is not finite in step", "tune='", "targets = ", "gradient_checkpointing: "),
    *("margin_scale ", "residual = 'gaussian' measures"),
)
_OF_PYTHON = (
    ("load_ratings and --ratings read this file", "--ratings reads this file"),
    ("load_pairs and --pairs read this file", "--pairs reads this file"),
    ("load_comparisons and --votes read this file", "--votes reads this file"),
    ("; all of them are in the error's `problems`", ""),
    (", config=None apply only", " applies only"),
    ("folds: k=", "--folds: "),
)


def as_flags(message: str, flags: Collection[str]) -> str:
    """The message with `--flag value` in place of `argument=value`.

    Args:
        message: of an error or a warning.
        flags: names of the command's flags, without dashes.

    >>> as_flags("allowed: a column 'a', or columns={'a': <the file's name for it>}", ["columns"])
    "allowed: a column 'a', or --columns.a NAME"
    """
    for words, plain in _OF_PYTHON:
        message = message.replace(words, plain)
    lacking = {flag for name, flag in _ARGUMENTS.items() if flag not in flags}
    message = _ARGUMENT.sub(_flag, _SEVERAL.sub(_one_by_one, message))
    if "tune_lr" in flags and (message.startswith(_ABOUT_TUNING) or "of another tuning (" in message):
        message = in_tuning_flags(message)
    for flag in lacking:
        message = re.sub(rf"(?:, or|;)[^,;\n]*?--{flag}\b(?:[^,;.\n]|\.(?=\w))*", "", message)
    named = re.match(r"(\w+)(?:: received| =) ", message)
    return f"--{message}" if named and named.group(1) in flags else message


def in_flags(message: str, *kinds: Any) -> str:
    """A message about a setting, `beta: received ...`, as one about a flag, `--beta: received ...`.

    Args:
        message: of an error of Python's interface.
        kinds: dataclasses whose fields are flags.
    """
    names = "|".join(field.name for kind in kinds for field in fields(kind))
    message = re.sub(rf"^({names})(?=: )", r"--\1", message)
    return re.sub(r"(?<![-\w])max_new_tokens(=| (?=\d)|(?=,))", r"--max_new_tokens\1", message)


def _one_by_one(found: re.Match[str]) -> str:
    """`columns={...}` for each of several entries."""
    entries = re.findall(r"'\w+': '[^']*'", found[1])
    return " ".join(f"columns={{{entry}}}" for entry in entries)


def in_tuning_flags(message: str) -> str:
    """A message about settings of tuning, `lr = 0: ...`, as one about its flags, `--tune_lr = 0: ...`.

    >>> in_tuning_flags("Try a smaller lr or head_lr, or bf16=False")
    'Try a smaller --tune_lr or --tune_head_lr, or --tune_bf16 false'
    """
    for words, flags in _TUNING_TRUTH.items():
        message = message.replace(words, flags)
    message = re.sub(r"\btune='(lora|full)'", r"--tune \1", message)
    message = re.sub(r"\bdtype='(\w+)'", r"--dtype \1", message)
    return re.sub(rf"(?<![-\w.'])({'|'.join(_TUNING)})(?![-\w])", r"--tune_\1", message)


def _flag(found: re.Match[str]) -> str:
    name, entry = found["name"], found["entry"]
    flag = f"--{_ARGUMENTS[name]}"
    if found["key"] is not None:
        value = "NAME" if entry.startswith("<") else _ENTRIES.get(entry, shlex.quote(entry.strip("'")))
        return f"{flag}.{found['key']} {value}"
    if found["text"] is not None:
        return f"{flag} {found['text']}"
    if found["dots"] is not None or found["pair"] is not None:
        return f"{flag} {_PLACEHOLDERS.get(name, '...')}"
    return flag
