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
    measured = ", ".join(
        f"{rates[name]['median']:.0f} at level {name} (goal: {goal})"
        for name, goal in {"bubblewrap": 50, "rlimits": 100}.items()
        if name in ratios
    )
    return (
        "## Programs per second\n\n"
        f"{results['programs']} trivial programs with one test, none seen before, {results['workers']} at a time, beside a plain `subprocess.run` of "
        f"each (`python -m studies speed --arms programs`): {measured}; median and range of {next(iter(ratios.values()))['repeats']} rounds on {hardware['cpu_count']} cores. "
        f"The plain way takes {results['plain_processor_ms']:.0f} ms of processor time per program, which two idle cores would run {idle:.0f} times a second; "
        f"it did {rates['subprocess']['median']:.0f}, so much of the machine was ours.\n\n"
        + table(["", "programs per second", "times `subprocess.run`"], rows)
    )
