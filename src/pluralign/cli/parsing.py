"""From dataclasses to a command line: flags, `--config file.yaml`, and errors that name the nearest key.

In: dataclasses and arguments. Out: instances of those dataclasses.
Flags override the file; an unknown key is an error.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from pluralign.cli.console import cut
from pluralign.cli.out_places import out_problem
from pluralign.cli.yaml_limits import YamlLimitError, check_file, check_value
from pluralign.errors import PluralignError, did_you_mean, nearest

__all__ = ["UsageError", "choice_from", "early_value", "flags_of_command", "help_topic", "parse"]

_LONGEST_VALUE = 1000  # characters of what the user gave, or the parser says, in a message


_FLAGS: list[str] = []  # of the command that was parsed last


def flags_of_command() -> tuple[str, ...]:
    """The flags of the command that was parsed last, for messages that are written after it."""
    return tuple(_FLAGS)


class UsageError(PluralignError):
    """The command line or a config file is wrong."""


def parse(
    verb: str,
    purpose: str,
    arguments: Sequence[str],
    *kinds: Any,
    positional: str | None = None,
    elsewhere: Mapping[str, str] | None = None,
    skip: Collection[str] = (),
    more: str | None = None,
) -> list[Any]:
    """Parses arguments into one instance per dataclass.

    Args:
        verb: the command, for the usage line.
        purpose: what `--help` begins with; of a docstring, the part before its attributes.
        arguments: everything after the command.
        kinds: dataclasses; their fields become flat flags.
        positional: name of the one field that is given without a flag; takes several values if it is a list.
        elsewhere: keys that are valid only with another flag, with that flag.
        skip: fields that become no flags; for `--help` of a part.
        more: what `--help` ends with.

    Raises:
        UsageError: an unknown key, a value of the wrong type, a config file that cannot be read, or an --out
            that would replace what is read.
    """
    parser, known = _parser(verb, purpose, kinds, positional, tuple(skip), more)
    _FLAGS[:] = [name for name in known if name != positional]
    _check_sizes(arguments)
    try:
        namespace = parser.parse_args(_with_truth(arguments, kinds))
    except (argparse.ArgumentError, argparse.ArgumentTypeError) as error:
        raise UsageError(_explain(str(error), known, verb, elsewhere or {}, positional)) from None
    values = namespace.as_dict()
    if problem := out_problem(verb, values):
        raise UsageError(problem)
    return [kind(**{field.name: values[field.name] for field in fields(kind)}) for kind in kinds]


@lru_cache(maxsize=64)
def _parser(
    verb: str,
    purpose: str,
    kinds: tuple[Any, ...],
    positional: str | None,
    skip: tuple[str, ...],
    more: str | None,
) -> tuple[Any, tuple[str, ...]]:
    """The parser and the names that it knows; for programs that run several commands it is built once."""
    from jsonargparse import ActionConfigFile, ArgumentParser

    parser = ArgumentParser(
        prog=f"pluralign {verb}",
        usage=f"%(prog)s [--config FILE.yaml] {_named(positional, kinds)}[flags]",
        description=purpose.partition("Attributes:")[0].strip(),
        epilog=more,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", action=ActionConfigFile, help="YAML file with any of these keys; flags override it"
    )
    known: list[str] = list(skip)
    for kind in kinds:
        of_kind = [field.name for field in fields(kind)]
        if positional in of_kind:
            many = {"nargs": "+"} if _is_list(kind, positional) else {}
            if not _is_needed(kind, positional):
                many = {"nargs": "?"}
            parser.add_argument(positional, type=str, help=_field_help(kind, positional), **many)
            known.append(positional)
        # A field that two dataclasses share, such as `seed`, becomes one flag for both.
        parser.add_class_arguments(kind, skip=set(of_kind) & set(known))
        known += [name for name in of_kind if name not in known]
    return parser, tuple(known)


def help_topic(arguments: Sequence[str]) -> str | None:
    """The word after `--help`, empty where there is none; None where help is not asked for."""
    for flag, after in itertools.pairwise([*arguments, ""]):
        if flag in ("-h", "--help"):
            return "" if after.startswith("-") else after
    return None


def _named(positional: str | None, kinds: Iterable[Any]) -> str:
    """What has to be given, for the usage line: the field without a flag, and flags without a default."""
    words = [] if positional is None else [positional.upper()]
    if positional is not None and not any(_is_needed(kind, positional) for kind in kinds):
        words = [f"[{positional.upper()}]"]
    needed = [field.name for kind in kinds for field in fields(kind) if _is_needed(kind, field.name)]
    words += [f"--{name} {name.upper()}" for name in dict.fromkeys(needed) if name != positional]
    return "".join(f"{word} " for word in words)


def _is_needed(kind: Any, name: str) -> bool:
    """Whether the class has that field, without a default."""
    return any(f.name == name and f.default is MISSING and f.default_factory is MISSING for f in fields(kind))


def _check_sizes(arguments: Sequence[str]) -> None:
    """Raises where a config file, or the value of a flag, is too large to be read."""
    key = ""
    for argument in arguments:
        flag, has_value, value = (
            argument.partition("=") if argument.startswith("--") else (key, "=", argument)
        )
        key = flag
        try:
            if key == "--config" and has_value:
                check_file(value)
            elif has_value:
                check_value(value)
        except YamlLimitError as error:
            raise UsageError(f"{value if key == '--config' else key or 'a value'}: {error}") from None
        except OSError:  # the parser reports it
            continue


def _with_truth(arguments: Sequence[str], kinds: Iterable[Any]) -> list[str]:
    """The arguments with `=true` added to switches without a value, since the parser needs one."""
    switches = {f"--{field.name}" for kind in kinds for field in fields(kind) if field.type in (bool, "bool")}
    values = ("true", "false", "yes", "no")
    pairs = itertools.zip_longest(arguments, arguments[1:], fillvalue="")
    return [f"{a}=true" if a in switches and after.lower() not in values else a for a, after in pairs]


def choice_from(arguments: Sequence[str], name: str, allowed: Iterable[str], default: str) -> str:
    """The value of a flag that determines which other flags exist.

    Raises:
        UsageError: the value is not among those allowed.
    """
    value = early_value(arguments, name, default)
    names = list(allowed)
    if value not in names:
        hint = did_you_mean(value, names)
        raise UsageError(
            f"--{name}: received {cut(value, _LONGEST_VALUE)!r}{hint}; allowed: {', '.join(names)}"
        )
    return value


def early_value(arguments: Sequence[str], name: str, default: str) -> str:
    """The value of one flag before the rest is parsed, from flags or a config file; the last one wins."""
    _check_sizes(arguments)
    value = default
    for i, argument in enumerate(arguments):
        key, _, given = argument.partition("=")
        if not given and i + 1 < len(arguments):
            given = arguments[i + 1]
        if key == "--config" and given:
            value = _from_file(given, name, value)
        elif key == f"--{name}" and given:
            value = given
    return value


def _from_file(path: str, name: str, default: str) -> str:
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return default  # the parser reads the same file next and reports what is wrong with it
    return str(content.get(name, default)) if isinstance(content, dict) else default


def _explain(
    message: str, known: Sequence[str], verb: str, elsewhere: Mapping[str, str], positional: str | None
) -> str:
    """The parser's message as one sentence, with the nearest known key if a key is unknown."""
    needed = re.search(r"the following arguments are required: (.*)", message)
    if needed:
        names = [name.lstrip("-") for name in needed.group(1).split(", ")]
        flags = [name.upper() if name == positional else f"--{name}" for name in names]
        return f"missing: {', '.join(flags)}; pluralign {verb} --help lists all options"
    unknown = re.search(r"unrecognized arguments: (\S+)", message) or re.search(r"[Oo]ption '(\S+)'", message)
    if unknown:
        key = unknown.group(1)
        bare = key.lstrip("-").split("=")[0].split(".")[0].replace("-", "_")
        unknown_key = f"unknown {'option' if key.startswith('-') else 'key'} {key}"
        if bare in elsewhere:
            return f"{unknown_key}: it is valid only with {elsewhere[bare]}"
        close = nearest(bare, [*known, "config"], cutoff=0.5)
        if close and close == positional and key.startswith("-"):
            return f"{unknown_key}: write {close} without a flag, pluralign {verb} {close.upper()}"
        hint = f"did you mean {'--' if key.startswith('-') else ''}{close}?" if close else ""
        return f"{unknown_key}: {hint or f'pluralign {verb} --help lists all options'}"
    value = re.search(r'Parser key "(\S+?)":\s*(.*)', message, re.DOTALL)
    if value:
        lines = [line.strip(" -") for line in value.group(2).splitlines() if line.strip()]
        plain = re.match(r"Expected an? (.+)\. Got value: (.*)", " ".join(lines))
        given = [line.removeprefix("Given value: ") for line in lines if line.startswith("Given value: ")]
        expected = [line.removeprefix("Expected a ") for line in lines if line.startswith("Expected a ")]
        if plain:
            expected, given = [plain.group(1)], [plain.group(2)]
        if given and expected:
            kinds = " or ".join(dict.fromkeys(_kind_in_words(e, value.group(1)) for e in expected))
            return f"--{value.group(1)}: received {cut(given[0], _LONGEST_VALUE)!r}; allowed: {kinds}"
        return f"--{value.group(1)}: {cut(' '.join(lines), _LONGEST_VALUE)}"
    return cut(" ".join(message.split()), _LONGEST_VALUE)


def _kind_in_words(kind: str, flag: str) -> str:
    """A type from the parser's messages, described by how its values are written."""
    words = {
        "NoneType": "null",
        "tuple": "a list such as [a,b], or [0.1,0.9] of numbers",
        "list": "a list such as [a,b], or [0.1,0.9] of numbers",
        "dict": f'a mapping such as {{"a": 1}}, that is, --{flag}.a 1',
    }
    name = re.sub(r"<class '(\w+)'>", r"\1", kind)
    choices = re.findall(r"'([^']*)'", name) if name.startswith("typing.Literal[") else []
    return ", ".join(choices) or words.get(name, name)


def _is_list(kind: Any, name: str) -> bool:
    return any(field.name == name and str(field.type).startswith("list[") for field in fields(kind))


def _field_help(kind: type, name: str) -> str:
    match = re.search(rf"^\s*{name}: (.*)$", kind.__doc__ or "", re.MULTILINE)
    return match.group(1) if match else ""
