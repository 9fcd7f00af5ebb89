"""Transport losses against POT, and which loss learns the crowd from few raters."""

from __future__ import annotations

from statistics import mean
from typing import Any

from studies import findings
from studies.records import Record, read, results
from studies.tables import Headline, Rows, difference_over_seeds, over_seeds, table


def section() -> str | None:
    """Speed and accuracy, then the study of raters; None before either has been run."""
    speed, seeds = read("speed", "transport"), results("transport", "raters")
    parts = [*(_speed(record) for record in speed), *([_raters(seeds)] if seeds else [])]
    return "\n\n".join(["## Transport losses", *parts]) if parts else None


def headlines() -> list[Headline]:
    """Speed against POT's two solvers, forward and backward, ours validating its input."""
    times = [record["results"]["times_faster"] for record in read("speed", "transport")]
    found = []
    for peer, goal in (("POT exact by row", 2000), ("POT batched 1-D", 150)) if times else ():
        ratio = times[0][f"closed form against {peer}"]["forward and backward"]["of_cpu_time"]
        claim = f"transport loss, times as fast as {peer.replace('POT', 'that of POT,')}, with gradients"
        shown = f"{ratio['median']:,.0f} [{ratio['min']:,.0f}, {ratio['max']:,.0f}]"
        found.append(Headline(claim, shown, f"{goal:,}", ratio["median"] >= goal))
    return found


def _speed(record: Record) -> str:
    result = record["results"]
    differences = ", ".join(f"{name} {value:.0e}" for name, value in result["largest_difference"].items())
    text = (
        f"`pl.losses.transport` against POT {record['versions']['POT']} (`python -m studies speed --arms transport`), batch "
        f"{result['rows']:,}, 6 categories, {record['hardware']['threads']} thread, float32; the median of pairs measured next to each other on a shared machine, by processor time. Ours validate their input unless marked `unchecked` "
        "(`validate=False`); POT does not. "
        f"{findings.section('transport', 'Speed')} Largest difference from POT's exact solver: {differences}."
    )
    rows: Rows = []
    for name, found in result["times_faster"].items():
        cells = [
            f"{found[kind]['of_cpu_time']['median']:,.0f}x" if kind in found else ""
            for kind in ("forward", "forward and backward")
        ]
        rows.append([name, *cells])
    return text + "\n\n" + table(["times as fast", "forward", "forward and backward"], rows)


def _raters(seeds: list[dict[str, Any]]) -> str:
    """Errors of every loss by the number of raters, and the difference from cross-entropy seed by seed."""
    names = list(seeds[0]["runs"])
    rows: Rows = []
    for name in names:
        runs = [part["runs"][name] for part in seeds]
        rival = f"cross_entropy, {runs[0]['raters']} raters"
        paired = ""
        if runs[0]["loss"] != "cross_entropy" and rival in seeds[0]["runs"]:
            both = ([part["runs"][which]["wasserstein"] for part in seeds] for which in (name, rival))
            paired = difference_over_seeds(*both, 4)
        cells = [over_seeds([run[key] for run in runs], 4) for key in ("wasserstein", "total_variation")]
        gap = f"{mean(run['entropy_gap'] for run in runs):+.3f}"
        rows.append([name, *cells, gap, paired])
    first = seeds[0]
    text = (
        f"Few raters (`python -m studies transport`): votes on the six categories for {first['texts']} "
        "texts of the lab, a linear head on MiniLM, distances to the crowd's true distribution on "
        f"{first['unseen']} unseen texts, {len(seeds)} seeds, 95 % t intervals over seeds. Wasserstein-1 is in units of the "
        "paper's rewards; an entropy gap below 0 means that the head is more certain than the crowd."
    )
    head = ["loss", "Wasserstein-1", "total variation", "entropy gap", "minus cross-entropy's"]
    return text + "\n\n" + table(head, rows)
