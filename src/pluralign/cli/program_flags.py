"""Flags of rewards from programs, which `sample` and `align` share, and the reward that they name.

Nothing heavy is imported here before it is needed, not even for types (see `flags`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from pluralign.cli.parsing import UsageError
from pluralign.errors import ArgumentError, SandboxError

__all__ = [
    "ProgramFlags",
    "check_programs",
    "check_sandbox",
    "named_tables",
    "program_reward",
    "program_settings",
]


@dataclass(frozen=True)
class ProgramFlags:
    """How programs are run, with --programs.

    Attributes:
        program_columns: Our column names to those of --programs, e.g. --program_columns.tests test; prompt,
            tests, entry_point, setup, prefix. HumanEval's, LeetCodeDataset's, MBPP's and APPS's are known.
        all_or_nothing: Reward 1 if all tests pass, else 0, instead of the share that passes.
        sandbox: The weakest protection from programs that is accepted; rlimits consents to programs that can
            touch your files, processes and network.
        program_limits: Limits of each program, e.g. --program_limits.test_seconds 2; test_seconds,
            total_seconds, cpu_seconds, memory_mib, processes, open_files, disk_mib, output_kib.
        program_workers: Programs at a time; null for the number of processors.
        program_packages: Installed packages of pure Python that programs may import, e.g. sortedcontainers,
            which LeetCode has; several as [a,b].
    """

    program_columns: dict[str, str] | None = None
    all_or_nothing: bool = False
    sandbox: Literal["bubblewrap", "namespaces", "separate_user", "rlimits"] = "separate_user"
    program_limits: dict[str, float] | None = None
    program_workers: int | None = None
    program_packages: tuple[str, ...] | str = ()


def named_tables(programs: tuple[str, ...] | str) -> dict[str, str]:
    """The tables of --programs, by a name for each."""
    tables = (programs,) if isinstance(programs, str) else tuple(programs)
    return {f"programs_{place}" if place else "programs": table for place, table in enumerate(tables)}


def check_programs(programs: tuple[str, ...] | str, flags: ProgramFlags) -> None:
    """Rejects flags of programs without --programs, and settings out of their range.

    Raises:
        UsageError: there is such a flag or setting.
    """
    if not programs:
        given = [one.name for one in fields(flags) if getattr(flags, one.name) != one.default]
        if given:
            raise UsageError(f"--{given[0]} belongs to --programs, which is missing")
        return
    from pluralign.policy.rewards.programs.packages import modules_of
    from pluralign.policy.rewards.programs.tasks import COLUMNS

    _limits(flags)
    unknown = sorted(set(flags.program_columns or {}) - set(COLUMNS))
    if unknown:
        raise UsageError(f"--program_columns.{unknown[0]}: allowed: {', '.join(COLUMNS)}")
    try:
        modules_of(_packages(flags))
    except ArgumentError as error:
        raise UsageError(f"--program_{error}") from None
    if flags.program_workers is not None and flags.program_workers < 1:
        raise UsageError(f"--program_workers must be at least 1, received {flags.program_workers}")


def program_settings(
    programs: tuple[str, ...] | str,
    flags: ProgramFlags,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
) -> dict[str, Any]:
    """What the flags say, as arguments of `ProgramReward.from_tables`; JSON types.

    Args:
        programs: tables with prompts and tests.
        flags: how programs are run.
        columns: of the table of prompts, whose name for the prompt counts where the flags give none.
        split: split of hub data sets.

    Raises:
        UsageError: settings out of their range.
    """
    given: dict[str, str | None] = dict(flags.program_columns or {})
    if columns and "prompt" in columns:
        given.setdefault("prompt", columns["prompt"])
    return {
        "tables": list(named_tables(programs).values()),
        "columns": given,
        "split": split,
        "limits": _limits(flags),
        "minimum": flags.sandbox,
        "all_or_nothing": flags.all_or_nothing,
        "workers": flags.program_workers,
        "packages": _packages(flags),
    }


def program_reward(
    programs: tuple[str, ...] | str,
    flags: ProgramFlags,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
) -> Any:
    """The `ProgramReward` that the flags name; arguments as of `program_settings`.

    Raises:
        UsageError: settings out of their range.
        DataError: a table cannot be read, or a row has no valid prompt or tests.
        SandboxError: this machine offers no protection that is accepted.
    """
    from pluralign import policy

    check_sandbox(flags)
    return policy.ProgramReward.from_tables(**program_settings(programs, flags, columns, split))


def check_sandbox(flags: ProgramFlags) -> None:
    """Whether this machine protects from programs as the flags require.

    Raises:
        SandboxError: it does not; the message says what to install.
    """
    from pluralign.policy.rewards.programs.probing import find_sandbox

    try:
        find_sandbox(flags.sandbox)
    except SandboxError as error:
        raise SandboxError(
            str(error).replace("minimum='rlimits' (--sandbox rlimits)", "--sandbox rlimits")
        ) from None


def _limits(flags: ProgramFlags) -> dict[str, Any]:
    """The limits that are given; whole numbers stay whole.

    Raises:
        UsageError: there is no such limit, or it is out of its range.
    """
    from pluralign.policy.rewards.programs.limits import ProgramLimits

    stated = flags.program_limits or {}
    given: dict[str, Any] = {k: int(v) if float(v).is_integer() else v for k, v in stated.items()}
    known = [one.name for one in fields(ProgramLimits)]
    for name in given:
        if name not in known:
            raise UsageError(f"--program_limits.{name}: allowed: {', '.join(known)}")
    try:
        ProgramLimits(**given)
    except ArgumentError as error:
        raise UsageError(str(error).replace("limits: ", "--program_limits.", 1)) from None
    return given


def _packages(flags: ProgramFlags) -> list[str]:
    """The packages that programs may import, of which there may be one."""
    given = flags.program_packages
    return [given] if isinstance(given, str) else list(given)
