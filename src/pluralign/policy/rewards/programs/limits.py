"""The resources that one program may use."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from pluralign.errors import ArgumentError

__all__ = ["ProgramLimits"]


@dataclass(frozen=True)
class ProgramLimits:
    """Limits of one program; each applies to every process that it starts.

    Attributes:
        test_seconds: wall clock seconds for one test; for a script from its start to its end.
        total_seconds: wall clock seconds for all tests of a program, including starts.
        cpu_seconds: processor seconds of one process, whole ones.
        memory_mib: address space of one process in MiB; Python itself needs about 20.
        processes: processes and threads at a time, including the program's own.
        open_files: descriptors of one process.
        disk_mib: MiB that a file, and where the sandbox has a /tmp of its own all files together, may take.
        output_kib: KiB that a script may print.
    """

    test_seconds: float = 4.0
    total_seconds: float = 20.0
    cpu_seconds: int = 10
    memory_mib: int = 512
    processes: int = 8
    open_files: int = 64
    disk_mib: int = 16
    output_kib: int = 1024

    def __post_init__(self) -> None:
        least = {"memory_mib": 64, "open_files": 16, "processes": 1, "cpu_seconds": 1}
        for field in fields(self):
            value = getattr(self, field.name)
            seconds = field.type == "float"
            fits = isinstance(value, (int, float) if seconds else int) and not isinstance(value, bool)
            low = least.get(field.name, 0)
            if not fits or not math.isfinite(value) or value < low or value <= 0:
                kind = (
                    "a number of seconds above 0" if seconds else f"a whole number of at least {max(low, 1)}"
                )
                raise ArgumentError(f"limits: {field.name} is {value!r}; allowed: {kind}")

    def describe(self) -> dict[str, Any]:
        """Every limit by name."""
        return asdict(self)
