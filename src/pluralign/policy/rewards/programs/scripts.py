"""Programs that read an input and print an output: one process per test, compared here.

In: a program, inputs and expected outputs. Out: how each test ended. Expected outputs stay in this process.
Lines are compared without white space at their ends, and empty lines at the end are ignored.
"""

from __future__ import annotations

import os
import selectors
import time

from pluralign.policy.rewards.programs.confined import Confined
from pluralign.policy.rewards.programs.launching import Launcher
from pluralign.policy.rewards.programs.limits import ProgramLimits
from pluralign.policy.rewards.programs.results import ProgramResult, TestResult, ended
from pluralign.policy.rewards.programs.shapes import Suite

__all__ = ["run_scripts"]


def run_scripts(launcher: Launcher, limits: ProgramLimits, source: str, suite: Suite) -> ProgramResult:
    """How each test ends.

    Args:
        launcher: starts the processes.
        limits: of each.
        source: the program.
        suite: with `scripts`.
    """
    deadline = time.monotonic() + limits.total_seconds
    found: list[TestResult] = []
    for given, expected in suite.scripts:
        left = min(limits.test_seconds, deadline - time.monotonic())
        if left <= 0:
            found.append(TestResult("timeout", "the time for all tests was used up"))
            continue
        program = launcher.start("script", limits, piped=True)
        code: int | None = None
        try:
            program.hand({"setup": suite.setup, "source": source})
            why, printed, stderr = _converse(
                program, given.encode("utf-8", "replace"), left, limits.output_kib << 10
            )
            if why is None:
                code = program.wait(1.0)
        finally:
            program.end()
        if why is None and code is None:
            why = TestResult("timeout", "it closed its output but did not exit")
        found.append(why or _verdict(code or 0, printed, stderr, expected))
    return ProgramResult(tuple(found))


def _converse(
    program: Confined, given: bytes, seconds: float, most: int
) -> tuple[TestResult | None, bytes, bytes]:
    """Feeds and reads until the program ends; why it must be ended, if it must, and what it printed."""
    process = program
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    parts: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}
    why: TestResult | None = None
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for stream, name in ((process.stdout, "out"), (process.stderr, "err")):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ, name)
        os.set_blocking(process.stdin.fileno(), False)
        if given:
            selector.register(process.stdin, selectors.EVENT_WRITE, "in")
        else:
            process.stdin.close()
        gone = 0
        while any(key.data != "in" for key in selector.get_map().values()):
            if time.monotonic() > end:
                why = TestResult("timeout", f"not done within {seconds:.3g} seconds")
                break
            if process.wait(0.0) is not None:
                gone += 1
                if gone > 1 and not selector.select(0):
                    break  # what it started may hold the pipes open
            for key, _ in selector.select(min(0.05, max(0.0, end - time.monotonic()))):
                if key.data == "in":
                    try:
                        given = given[os.write(key.fd, given[:65536]) :]
                    except BlockingIOError:
                        continue
                    except OSError:
                        given = b""
                    if not given:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                part = os.read(key.fd, 65536)
                if not part:
                    selector.unregister(key.fileobj)
                elif key.data == "err":
                    parts["err"] = (parts["err"] + part)[-8192:]
                else:
                    parts["out"] += part
            if len(parts["out"]) > most:
                why = TestResult("output", f"it printed more than {most >> 10} KiB")
                break
    return why, bytes(parts["out"]), bytes(parts["err"])


def _verdict(code: int, printed: bytes, stderr: bytes, expected: str) -> TestResult:
    if code:
        last = (stderr.decode("utf-8", "replace").strip().splitlines() or [""])[-1][:300]
        kind = last.split(":")[0]
        if kind in ("SyntaxError", "IndentationError", "TabError"):
            return TestResult("syntax error", last)
        if kind == "MemoryError":
            return TestResult("memory", last)
        return TestResult("error", last) if code == 1 and last else TestResult(*ended(code))
    try:
        text = printed.decode("utf-8")
    except UnicodeDecodeError:
        return TestResult("wrong answer", "its output is not UTF-8")
    if _lines(text) == _lines(expected):
        return TestResult("passed")
    return TestResult("wrong answer", f"printed {text[:100]!r}")


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]
