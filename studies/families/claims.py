"""What the sentences of `findings.md` say of the records."""

from __future__ import annotations

from studies.families.compared import ALL, CONSTANT, SETS, SHORT, below, column, difference, records_of_runs


def transport_wins_w1_on_summeval() -> bool:
    records = records_of_runs()
    w1 = {m: column(records["summeval-crowd", m, ALL], "wasserstein").mean() for m in (CONSTANT, *SHORT)}
    return min(w1, key=lambda method: float(w1[method])) == "transport"


def squared_distance_says_so() -> bool:
    found = difference(records_of_runs(), "summeval-crowd", "transport", ALL)
    return found.excludes(0.0) and not below(found)


def transport_behind_with_one_rater() -> bool:
    """Cross-entropy on the same single raters is nearer on every set."""
    records = records_of_runs()
    found = [difference(records, n, "transport", (1.0, 1), base="cross_entropy") for n in SETS]
    return all(one.excludes(0.0) and not below(one) for one in found)
