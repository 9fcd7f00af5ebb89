"""What sentences of `findings.md`, and of pages that quote the study, say of the records."""

from __future__ import annotations

from typing import Any

from studies.qrm_real.models import compare
from studies.records import results
from studies.tuning.section import gain, lab_w1, mean_of, run_of


def _gain(data: str, tune: str) -> float:
    found = gain(data, "quantile", tune)
    assert found is not None
    return found


def emobank_frozen() -> str:
    return f"{100 * _gain('emobank', 'none'):.1f} %"


def emobank_full() -> str:
    return f"{100 * _gain('emobank', 'full'):.1f} %"


def emobank_times() -> str:
    return f"{_gain('emobank', 'full') / _gain('emobank', 'none'):.1f}"


def _difference(data: str, tune: str, part: str, column: str) -> dict[str, Any]:
    own, frozen = run_of(data, "quantile", tune), run_of(data, "quantile", "none")
    assert own is not None
    assert frozen is not None
    return compare(own, frozen, part, column, column)


def emobank_loss_falls() -> bool:
    high: float = _difference("emobank", "full", "ratings:all", "model_pinball")["high"]
    return high < 0


def emobank_order_rises() -> bool:
    low: float = _difference("emobank", "full", "pairs:all", "model_outcome")["low"]
    return low > 0


def _order(data: str, tune: str) -> str:
    """The accuracy within a prompt."""
    run = run_of(data, "quantile", tune)
    assert run is not None
    return f"{mean_of(run, 'pairs:all', 'model_outcome')['estimate']:.3f}"


def goal_is_missed() -> bool:
    return _gain("emobank", "full") < 2 * _gain("emobank", "none")


def emobank_order() -> str:
    return _order("emobank", "full")


def emobank_order_frozen() -> str:
    return _order("emobank", "none")


def summeval_frozen() -> str:
    return f"{100 * _gain('summeval-expert', 'none'):.1f} %"


def summeval_full() -> str:
    return f"{100 * _gain('summeval-expert', 'full'):.1f} %"


def summeval_order() -> str:
    return _order("summeval-expert", "full")


def summeval_order_frozen() -> str:
    return _order("summeval-expert", "none")


def summeval_is_better() -> bool:
    loss = _difference("summeval-expert", "full", "ratings:all", "model_pinball")
    order = _difference("summeval-expert", "full", "pairs:all", "model_outcome")
    return bool(loss["high"] < 0 < order["low"])


def _tuned(tune: str, ratings: int, epochs: int) -> float:
    return lab_w1(results("tuning", "lab", ratings=ratings, epochs=epochs, tune=tune, seed=0)[0])


def _frozen(ratings: int) -> float:
    run = results("qrm_lab", "recovery", features="minilm", ratings=ratings, seed=0)[0]
    return float(sum(run[part]["model"]["w1"] for part in ("objects", "tasks")) / 2)


def lab_tuned() -> str:
    return f"{_tuned('full', 3000, 5):.3f}"


def lab_frozen() -> str:
    return f"{_frozen(3000):.3f}"


def lab_lora() -> str:
    return f"{_tuned('lora', 30_000, 5):.2f}"


def lab_full() -> str:
    return f"{_tuned('full', 30_000, 15):.2f}"


def lab_frozen_of_most() -> str:
    return f"{_frozen(30_000):.2f}"


def lab_goal_is_missed() -> bool:
    return min(_tuned("lora", 30_000, 5), _tuned("full", 30_000, 15)) > 0.25


def full_stopped_early() -> bool:
    """Its best weights are not those at the end of its passes."""
    found = results("tuning", "lab", ratings=30_000, epochs=15, tune="full", seed=0)[0]
    (stage,) = found["tuning"]["stages"]
    return bool(stage["best_step"] < stage["steps"])
