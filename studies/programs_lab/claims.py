"""What sentences of `findings.md` say of the records."""

from __future__ import annotations

from statistics import mean
from typing import Any

from studies import records

_OFFLINE = ("qrpo", "rebel", "dpo", "simpo")
_ONLINE = ("gae", "rloo", "grpo")

BySeed = dict[int, dict[str, Any]]


def _runs(arm: str, **settings: Any) -> BySeed:
    return {r["settings"]["seed"]: r["results"] for r in records.read("programs_lab", arm, **settings)}


def _method(name: str, reward: str = "binary") -> BySeed:
    return _runs("methods", method=name, reward=reward)


def _ties(partition: str, tied: str) -> BySeed:
    if (partition, tied) == ("exact", "dropped"):
        return _method("qrpo")
    return _runs("ties", partition=partition, tied=tied, reward="binary")


def _above(one: BySeed, other: BySeed, key: str = "right") -> bool:
    """In every seed that has both; False where there is none."""
    common = one.keys() & other.keys()
    return bool(common) and all(one[seed][key] > other[seed][key] for seed in common)


def _mean(runs: BySeed, key: str = "right") -> float:
    return mean(run[key] for run in runs.values())


def _percent(runs: BySeed, key: str = "right") -> str:
    return f"{100 * _mean(runs, key):.0f}"


def _kl(runs: BySeed) -> str:
    return f"{_mean(runs, 'kl'):.1f}"


def before() -> str:
    return _percent(_runs("before"))


def all_but_grpo_rise() -> bool:
    """Right programs of every other method, in every seed."""
    others = [name for name in (*_OFFLINE, *_ONLINE) if name != "grpo"]
    return all(_above(_method(name), _runs("before")) for name in others)


def grpo_falls() -> str:
    """Seeds in which GRPO has fewer right programs than the language model."""
    found, before = _method("grpo"), _runs("before")
    return f"{sum(found[seed]['right'] < before[seed]['right'] for seed in found)}"


def gae() -> str:
    return _percent(_method("gae"))


def gae_above_offline() -> bool:
    return all(_above(_method("gae"), _method(name)) for name in _OFFLINE)


def qrpo() -> str:
    return _percent(_method("qrpo"))


def qrpo_kl() -> str:
    return _kl(_method("qrpo"))


def qrpo_stays_nearest() -> bool:
    """KL below that of every other method, in every seed."""
    return all(_above(_method(name), _method("qrpo"), "kl") for name in (*_OFFLINE[1:], *_ONLINE))


def pairs_go_farther_for_less() -> bool:
    """DPO and SimPO: more KL than REBEL in every seed, and fewer right programs on average."""
    return all(
        _above(_method(name), _method("rebel"), "kl") and _mean(_method("rebel")) > _mean(_method(name))
        for name in ("dpo", "simpo")
    )


def dpo_kl() -> str:
    return _kl(_method("dpo"))


def rebel() -> str:
    return _percent(_method("rebel"))


def rebel_kl() -> str:
    return _kl(_method("rebel"))


def rebel_first_of_offline() -> bool:
    """Right programs, on average."""
    return all(_mean(_method("rebel")) > _mean(_method(name)) for name in _OFFLINE if name != "rebel")


def graded_gains_nothing() -> bool:
    """The share of tests instead of all or nothing: less than a point more right programs for any method."""
    return all(_mean(_method(name, "graded")) < _mean(_method(name)) + 0.01 for name in (*_OFFLINE, *_ONLINE))


def gae_graded() -> str:
    return _percent(_method("gae", "graded"))


def left_out() -> str:
    """Programs of tied prompts, in per cent of all, with the binary reward."""
    return f"{100 * mean(run['left_out'] for run in _method('qrpo').values()) / 2048:.0f}"


def finite_nearer_on_average() -> bool:
    """KL, with tied prompts dropped and kept."""
    return all(
        _mean(_ties("finite", tied), "kl") < _mean(_ties("exact", tied), "kl") for tied in ("dropped", "kept")
    )


def finite_nearer_in() -> str:
    """Seeds in which the finite Z stays nearer, where tied prompts are dropped."""
    exact, finite = _ties("exact", "dropped"), _ties("finite", "dropped")
    return f"{sum(finite[seed]['kl'] < exact[seed]['kl'] for seed in finite)}"


def right_hardly_differs() -> bool:
    """Whatever Z and ties: right programs differ by less than 2.5 points in every seed."""
    runs = [_ties(partition, tied) for partition in ("exact", "finite") for tied in ("dropped", "kept")]
    seeds = set.intersection(*(set(one) for one in runs))
    spreads = [max(one[s]["right"] for one in runs) - min(one[s]["right"] for one in runs) for s in seeds]
    return bool(spreads) and max(spreads) < 0.025


def finite_kl() -> str:
    return f"{mean(run['kl'] for run in _ties('finite', 'dropped').values()):.2f}"


def exact_kl() -> str:
    return f"{mean(run['kl'] for run in _ties('exact', 'dropped').values()):.2f}"


def _passed_and_wrong(count: int) -> str:
    """Programs that pass all tests and are wrong, in per cent, of QRPO and GRPO with the binary reward."""
    runs = [
        run
        for method in ("qrpo", "grpo")
        for run in _runs("tests", method=method, num_tests=count, reward="binary").values()
    ]
    return f"{100 * mean(run['passed'] - run['right'] for run in runs):.1f}"


def wrong_with_one_test() -> str:
    return _passed_and_wrong(1)


def wrong_with_sixteen_tests() -> str:
    return _passed_and_wrong(16)


def sandbox_agrees() -> bool:
    """The sandbox and the interpreter of the lab give every program the same share, in every seed."""
    runs = _runs("verifier").values()
    return bool(runs) and all(run["differ"] == 0 for run in runs)
