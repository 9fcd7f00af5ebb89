"""Programs per second in a sandbox: the part of docs/results.md."""

from __future__ import annotations

from studies import records
from studies.tables import Rows, table


def section() -> str | None:
    """A row per level; None where nothing has been run."""
    found = records.read("speed", "programs")
    if not found:
        return None
    results, hardware = found[0]["results"], found[0]["hardware"]
    rates, ratios = results["per_second"], results["times_subprocess"]
    rows: Rows = [["`subprocess.run`, unprotected", f"{rates['subprocess']['median']:.0f}", ""]]
    for name, ratio in ratios.items():
        spread = f"{ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f})"
        rows.append([name, f"{rates[name]['median']:.0f}", spread])
    idle = results["plain_per_second_of_two_cores"]
    goals = {"bubblewrap": 50, "rlimits": 100}
    told = ", ".join(
        f"{idle * ratios[name]['median']:.0f} at level {name} (goal: {goal})"
        for name, goal in goals.items()
        if name in ratios
    )
    return (
        "## Programs per second\n\n"
        f"{results['programs']} trivial programs with one test, none seen before, {results['workers']} at a time, beside a plain `subprocess.run` of "
        f"each (`python -m studies speed --arms programs`). The two cores were busy (load {hardware['load_average']:.0f}), so ratios count: median and range of "
        f"{next(iter(ratios.values()))['repeats']} rounds. The plain way takes {results['plain_processor_ms']:.0f} ms of processor time per program, so two idle cores would do some {idle:.0f} a second; times the "
        f"ratios, that is {told}. On idle cores it was not measured.\n\n"
        + table(["", "programs per second", "times `subprocess.run`"], rows)
    )
