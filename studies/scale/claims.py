"""What sentences of `findings.md` and of docs/how-to/scale.md say of the records."""

from __future__ import annotations

from studies.records import results
from studies.scale import costs
from studies.scale.costs import engine, memory, per_core
from studies.scale.engines import CASES, ROWS, ROWS_PER_SHARD
from studies.scale.memory import ROWS as SIZES

_TWO, _KILLED = "Ray, two workers", "Ray, two workers, one killed"


def rows_per_core() -> str:
    return f"{per_core():.0f}"


def rows_per_core_on_ray() -> str:
    return f"{per_core(_TWO):.0f}"


def all_files_are_equal() -> bool:
    found = [engine(case) for case in CASES]
    same = len({one["digest"] for one in found}) == 1
    return same and all(one["rows"] == ROWS for one in found)


def two_workers_are_faster_than_one_process() -> bool:
    """By the clock, once all is loaded, on cores that others used too."""
    return bool(engine(_TWO)["rows_per_second"] > engine("local, one thread")["rows_per_second"])


def two_threads_waste_busy_cores() -> bool:
    """More than twice the processor seconds of one, and no sooner done."""
    one, two = engine("local, one thread"), engine("local, two threads")
    return _total("local, two threads") > 2 * _total("local, one thread") and two["seconds"] > one["seconds"]


def a_worker_was_killed() -> bool:
    return [engine(case)["killed"] for case in CASES] == [0, 0, 0, 0, 1]


def shards_of_the_study() -> str:
    return f"{-(-ROWS // ROWS_PER_SHARD)}"


def rest_of_ray() -> str:
    return f"{engine(_TWO)['cpu_seconds']['others'] + engine(_TWO)['cpu_seconds']['asking']:.0f}"


def cost_of_a_kill() -> str:
    return f"{_total(_KILLED) - _total(_TWO):.0f}"


def memory_is_flat() -> bool:
    """In shards; the process that asks and the largest worker hold a tenth more at most."""
    return all(
        _peak(how, costs.largest(how), what) <= 1.1 * _peak(how, SIZES[0], what)
        for how, what in (("local", "peak_mib"), ("Ray", "peak_mib"), ("Ray", "worker_peak_mib"))
    )


def whole_table_grows() -> bool:
    """From ten thousand rows to a hundred thousand, at least four times as much as in shards."""
    whole, local = (_peak(how, SIZES[1]) - _peak(how, SIZES[0]) for how in ("whole table", "local"))
    return whole > 4 * local


def local_peaks() -> str:
    few, many = SIZES[0], costs.largest("local")
    return (
        f"{_peak('local', few):,.0f} MiB for {costs.power(few)} rows and {_peak('local', many):,.0f} for "
        f"{costs.power(many)}"
    )


def whole_table_bytes() -> str:
    """Of memory for each row beyond the first ten thousand, in kB."""
    few, many = (_peak("whole table", size) for size in SIZES[:2])
    return f"{(many - few) * 2**20 / (SIZES[1] - SIZES[0]) / 1_000:.1f} kB"


def rows_stored_per_second() -> str:
    """Two digits."""
    rate = ROWS / engine("local, one thread")["store_seconds"]
    return f"{float(f'{rate:.2g}'):,.0f}"


def line_bytes() -> str:
    return f"{costs.line_bytes():.0f}"


def cache_bytes_of_minilm() -> str:
    return f"{costs.bytes_per_text(384) / 1_000:.1f} kB"


def cache_bytes_of_a_large_backbone() -> str:
    return f"{costs.bytes_per_text(8_192) / 1_000:.0f} kB"


def cost_table() -> str:
    return costs.cost_table() + "\n\n"


def disk_table() -> str:
    return costs.disk_table() + "\n\n"


def fit_of_a_hundred_thousand() -> str:
    (found,) = results("speed", "tables", stage="fit quantile alone", rows=100_000)
    return f"{found['peak_mib'] / 1024:.1f} GiB"


def long_texts_per_core() -> str:
    (found,) = results("speed", "embeddings")
    return f"{found['texts']['texts_per_second']['ours']:.0f}"


def long_texts_per_core_in_bfloat16() -> str:
    (found,) = results("speed", "embeddings")
    return f"{found['texts']['texts_per_second']['ours_bfloat16']:.0f}"


def _total(case: str) -> float:
    return float(sum(engine(case)["cpu_seconds"].values()))


def _peak(how: str, rows: int, what: str = "peak_mib") -> float:
    found = memory(how, rows)
    assert found is not None
    return float(found[what])
