"""`pluralign serve` against a plain server, its soak, and the explorer in a browser."""

from __future__ import annotations

from studies.records import Record, read
from studies.tables import Headline, table


def _record() -> Record | None:
    return next(iter(read("speed", "serving")), None)


def headlines() -> list[Headline]:
    """Requests per second and the tail of latencies."""
    record = _record()
    if record is None:
        return []
    speedup, tail = record["results"]["speedup"], record["results"]["ours"]["tail"]
    return [
        *(
            Headline(
                f"serving 32 clients, times the requests of a plain server {words}",
                f"{ratio['median']:,.1f} [{ratio['min']:,.1f}, {ratio['max']:,.1f}]",
                "3",
                ratio["median"] >= 3,
            )
            for words, ratio in (
                ("in threads", speedup["threads"]),
                ("that takes one request at a time", speedup["async"]),
            )
        ),
        Headline(
            "its 99th percentile of latency over its median",
            f"{tail['median']:,.1f} [{tail['min']:,.1f}, {tail['max']:,.1f}]",
            "below 5",
            tail["median"] < 5,
        ),
    ]


def section() -> str:
    """32 clients with one response a request."""
    text = (
        "## Serving\n\n`pluralign serve` against a FastAPI server that runs one forward pass per request, over the "
        "same model on MiniLM (`python -m studies speed --arms serving`): 32 clients on loopback, one response of 10 "
        "to 40 words a request, threads as each takes them by itself, servers and clients on one machine."
    )
    record = _record()
    if record is None:
        return text + "\n\nNot run yet."
    return "\n\n".join(filter(None, (text + _beside(record), _soak(), _explorer())))


def _beside(record: Record) -> str:
    found = record["results"]
    rows = [
        [
            name,
            f"{found[kind]['rate']['median']:,.0f}",
            f"{1000 * found[kind]['p50']['median']:,.0f} ms",
            f"{1000 * found[kind]['p99']['median']:,.0f} ms",
            f"{found[kind]['tail']['median']:,.1f}",
        ]
        for name, kind in (
            ("plain, `def`: up to 40 threads", "threads"),
            ("plain, `async def`: one at a time", "async"),
            ("pluralign serve", "ours"),
        )
    ]
    text = "\n\n" + table(["", "requests / s", "median", "99th percentile", "their ratio"], rows)
    threads, alone = (
        f"{ratio['median']:,.1f} [{ratio['min']:,.1f}, {ratio['max']:,.1f}]"
        for ratio in (found["speedup"]["threads"], found["speedup"]["async"])
    )
    return text + (
        f"\n\nTimes the requests: {threads} and {alone}. The largest "
        f"difference of a score from the model's own is {found['largest_difference_of_a_score']:.0e}. Load average "
        f"while measuring: {record['hardware']['load_average']:.1f} on {record['hardware']['cpu_count']} cores."
    )


def _soak() -> str:
    """100,000 rewards with kills; empty where nothing has been run."""
    record = next(iter(read("speed", "soak")), None)
    if record is None:
        return ""
    found = record["results"]
    lost, wrong, memory = found["lost"], found["wrong"], found["worker_mib"]
    return (
        f"**Soak** (`python -m studies speed --arms soak`): {found['requests']:,} rewards in {found['seconds'] / 60:.1f} minutes, half requested by OpenRLHF's own "
        f"client, half by ours, 16 at a time of each, on the first layer of MiniLM; the worker was killed {found['kills']} times. Lost: {sum(lost.values())}. "
        f"Wrong: {sum(wrong.values())} (largest difference {found['largest_difference']:.0e}). Memory of the last worker, twice a minute: {memory[0]:.0f} MiB at first, "
        f"{memory[len(memory) // 2]:.0f} half way, {memory[-1]:.0f} at the end, {max(memory):.0f} at most."
    )


def _explorer() -> str:
    """Seconds until the browser shows an answer; empty where nothing has been run."""
    record = next(iter(read("speed", "explorer")), None)
    if record is None:
        return ""
    found = record["results"]
    rows = [
        [f"{count} responses", *(f"{one[kind]['median']:.2f} s" for kind in ("ranking", "charts", "measure"))]
        for count, one in ((name.partition("_")[0], found[name]) for name in found if "_responses" in name)
    ]
    return (
        "**The explorer** on MiniLM in headless Chromium (`python -m studies speed --arms explorer`), from the click to the ranking and to "
        f"the charts, and to the ranking after the slider has moved: medians of {found['repeats']}; the very first answer took {found['first_of_all']:.2f} s (goal: 1).\n\n"
        + table(["", "ranking", "charts", "slider"], rows)
    )
