"""What the sentences of `findings.md` say of the records.

Ratios were measured beside each other in one run; sentences name bounds that a busy machine does not move.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from studies import records
from studies.records import results


def _only(arm: str) -> dict[str, Any]:
    (found,) = results("speed", arm)
    return found


def _by_case(arm: str, **settings: Any) -> dict[int, dict[str, dict[str, Any]]]:
    """Results by round and case."""
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for record in records.read("speed", arm, **settings):
        own = record["settings"]
        found.setdefault(own["seed"], {})[own["case"]] = record["results"]
    return found


def _ratio(arm: str, case: str, peer: str, key: str, **settings: Any) -> float:
    rounds = [one for one in _by_case(arm, **settings).values() if {case, peer} <= one.keys()]
    return median(one[case][key] / one[peer][key] for one in rounds)


# -- solver, losses, embeddings --------------------------------------------------------------------------


def solver_is_forty_times_as_fast() -> bool:
    """On every input with a peer; with certified gaps of at most 1e-6."""
    found = results("speed", "solver")
    with_peer = [one for one in found if "times_faster" in one]
    return min(one["times_faster"] for one in with_peer) > 40 and all(
        one["ours"]["largest_gap"] <= 1e-6 for one in found
    )


def solver_fits_a_million_rows() -> bool:
    """In a minute of processor time and half a gibibyte above the data."""
    found = {r["settings"]["case"]: r["results"] for r in records.read("speed", "solver")}
    largest = [one for name, one in found.items() if "1000000x384" in name]
    return bool(largest) and all(
        one["ours"]["cpu_median_s"] < 60 and one["solver_peak_mib"] < 512 for one in largest
    )


def embedding_is_faster_than_the_plain_loop() -> bool:
    found = _only("embeddings")
    return bool(
        found["texts"]["speedup"]["min"] > 3
        and found["pairs"]["speedup"]["min"] > 50
        and found["decoder"]["speedup"]["min"] > 3
    )


# -- training --------------------------------------------------------------------------------------------


def dpo_is_faster_and_smaller() -> bool:
    """On a shape whose output head outweighs its layers."""
    tokens = _ratio("policy", "dpo", "trl_dpo", "tokens_per_cpu_second")
    memory = _ratio("policy", "dpo", "trl_dpo", "grown_mib")
    return tokens > 4 and memory < 0.15


def ppo_gains_on_the_small_model() -> bool:
    return 1.3 < _ratio("ppo", "alike", "trl", "samples_per_cpu_second", shape="small") < 1.6


def ppo_is_hardly_faster_at_smollm2() -> bool:
    """Like with like; as it is, without a second and a third model, it is faster."""
    alike, ours = (
        _ratio("ppo", case, "trl", "samples_per_cpu_second", shape="smollm2") for case in ("alike", "ours")
    )
    return alike < 1.2 and ours > 1.3


def tuning_is_nearly_twice_as_fast() -> bool:
    ratio = _ratio("tuning", "bradley_terry", "trl", "pairs_per_cpu_second", shape="minilm")
    return 1.7 < ratio < 2.1


# -- tables and programs ---------------------------------------------------------------------------------


def _seconds(stage: str, rows: int) -> float:
    (found,) = results("speed", "tables", stage=stage, rows=rows)
    return float(found["cpu_s"])


def checked_loading_costs_a_few_times_reading() -> bool:
    """Beside pyarrow, which does not look at cells: below ten times, at both sizes and in both formats."""
    ratios = [
        _seconds(f"load {kind}", rows) / _seconds(f"pyarrow reads {kind}", rows)
        for kind in ("JSON Lines", "Parquet")
        for rows in (10_000, 100_000)
    ]
    return min(ratios) > 1.5 and max(ratios) < 10


def sandbox_is_faster_than_a_process_per_program() -> bool:
    """At every level, by the median of rounds."""
    found = _only("programs")["times_subprocess"]
    return all(one["median"] > 1.2 for one in found.values())


def bubblewrap_per_second() -> str:
    return f"{_only('programs')['per_second']['bubblewrap']['median']:.0f}"


def rlimits_per_second() -> str:
    return f"{_only('programs')['per_second']['rlimits']['median']:.0f}"


def serving_is_faster_than_a_plain_server() -> bool:
    """Requests per second with 32 clients, beside a plain server in either form."""
    found = _only("serving")
    return all(one["min"] > 4 for one in found["speedup"].values())


def served_per_second() -> str:
    """Of MiniLM's scores, to 32 clients with one response each."""
    return f"{_only('serving')['ours']['rate']['median']:.0f}"


def no_reward_is_lost_or_wrong() -> bool:
    """Of 100,000 or more, with the worker killed twice."""
    found = _only("soak")
    unharmed = not any((*found["lost"].values(), *found["wrong"].values()))
    return unharmed and found["requests"] >= 100_000 and found["kills"] == 2


def worker_grows_by() -> str:
    """MiB from half way to the end."""
    memory = _only("soak")["worker_mib"]
    return f"{memory['end'] - memory['half_way']:.0f}"


def explorer_answers_within_a_second() -> bool:
    """Three responses, the very first of all included, and twelve by the median."""
    found = _only("explorer")
    return found["first_of_all"] < 1 and found["12_responses"]["charts"]["median"] < 1
