"""Many rows: the part of docs/results.md, from the records."""

from __future__ import annotations

from studies import findings
from studies.records import results
from studies.scale.costs import engine, largest, memory, per_core, power
from studies.scale.engines import CASES, ROWS, ROWS_PER_SHARD
from studies.scale.memory import HOW
from studies.scale.memory import ROWS as SIZES
from studies.tables import Headline, Rows, table


def section() -> str | None:
    """Two tables; None before the study was run."""
    if not results("scale", "engines"):
        return None
    first = f"## Many rows\n\nThe engines of `pluralign score` on one machine (`python -m studies scale`): {ROWS:,} responses of some fifteen words, scored on MiniLM in shards of {ROWS_PER_SHARD}. Processor seconds count everything, including the start of Ray and the loading of models; other work shared the two cores, so wall times would be shorter on an idle machine. The last case kills a worker (SIGKILL) while it is at work.\n\n"
    rows: Rows = []
    for case in CASES:
        found = engine(case)
        cpu = found["cpu_seconds"]
        rows.append(
            [
                case,
                f"{found['seconds']:.0f}",
                f"{cpu['asking']:.0f}",
                f"{cpu['workers']:.0f}",
                f"{cpu['others']:.0f}",
                f"{per_core(case):.0f}",
            ]
        )
    head = ["", "seconds", "processor: this process", "workers", "rest of Ray", "rows per processor second"]
    text = first + table(head, rows) + "\n\n" + findings.section("scale", "Engines")
    if not results("scale", "memory"):
        return text
    text += "\n\nThe most memory of the command, MiB, on an encoder of one layer with random weights, one thread; in brackets that of the largest worker of Ray:\n\n"
    return text + _memory() + "\n\n" + findings.section("scale", "Memory")


def _memory() -> str:
    rows: Rows = []
    for how in HOW:
        cells = []
        for size in SIZES:
            found = memory(how, size)
            if found is None:
                cells.append("not run")
                continue
            worker = f" ({found['worker_peak_mib']:,.0f})" if "worker_peak_mib" in found else ""
            cells.append(f"{found['peak_mib']:,.0f}{worker}")
        rows.append([how, *cells])
    return table(["", *(f"{size:,} rows" for size in SIZES)], rows)


def headlines() -> list[Headline]:
    """Whether the files are the same when a worker is killed, and how memory grows."""
    if not results("scale", "engines"):
        return []
    digests = {engine(case)["digest"] for case in ("local, one thread", "Ray, two workers, one killed")}
    said = "the same bytes" if len(digests) == 1 else "other bytes"
    lines = [
        Headline(
            "scores of 20,000 rows with one worker of Ray killed, beside those of one process",
            said,
            "the same bytes",
            len(digests) == 1,
        )
    ]
    few, size = memory("local", SIZES[0]), largest("local")
    many = memory("local", size)
    if few and many:
        ratio = many["peak_mib"] / few["peak_mib"]
        lines.append(
            Headline(
                f"memory of {power(size)} rows over that of {power(SIZES[0])}, in shards",
                f"{ratio:.2f}",
                "1.1",
                ratio <= 1.1,
            )
        )
    return lines
