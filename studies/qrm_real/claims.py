"""What the sentences of `findings.md` say of the records."""

from __future__ import annotations

from typing import Any

from studies.qrm_real.models import compare
from studies.qrm_real.section import group_means, run_of
from studies.tables import interval

_PART = "ratings:all"
_BETTER = ("emobank-reader", "summeval_op")
_OTHERS = ("summeval-expert", "summeval-crowd", "wmt_mqm23", "wmt_mqm23+length")


def _run(data: str, variant: str = "raw") -> dict[str, Any]:
    found = run_of("models", data=data, variant=variant)
    assert found is not None
    return found


def _against(
    data: str, variant: str, part: str = _PART, head: str = "model", column: str = "pinball"
) -> dict[str, Any]:
    """The model on raw ratings minus another, paired."""
    return compare(_run(data), _run(data, variant), part, f"model_{column}", f"{head}_{column}")


def _below(found: dict[str, Any]) -> bool:
    return bool(found["high"] < 0)


def _is_zero(found: dict[str, Any]) -> bool:
    return bool(found["low"] <= 0 <= found["high"])


# -- raw ratings -----------------------------------------------------------------------------------------


def raw_ratings_beat_their_mean() -> bool:
    """On every set with both, in pinball loss; and intervals of means cover far too little."""
    sets = ("emobank-reader", "summeval-expert", "summeval-crowd", "summeval_op", "wmt_mqm23+length")
    losses = all(_below(_against(name, "mean")) for name in sets)
    covered = [group_means(_run(name, "mean"), _PART, "model_coverage")["estimate"] for name in sets]
    return losses and max(covered) < 0.73


def raw_ratings_cover() -> bool:
    """The nominal 90 % within two points, on every set."""
    found = [group_means(_run(name), _PART, "model_coverage")["estimate"] for name in (*_BETTER, *_OTHERS)]
    return all(abs(one - 0.9) < 0.02 for one in found)


def better_than_constant_on_two_sets() -> bool:
    return all(_below(_against(name, "raw", head="constant")) for name in _BETTER)


def not_told_from_constant_elsewhere() -> bool:
    return all(_is_zero(_against(name, "raw", head="constant")) for name in _OTHERS)


def length_wins_on_summeval_op() -> bool:
    found = compare(_run("summeval_op"), _run("summeval_op"), "pairs:all", "model_outcome", "length_outcome")
    return _below(found)


# -- five quantiles --------------------------------------------------------------------------------------


def _five() -> dict[str, Any]:
    found = run_of("five_quantiles")
    assert found is not None
    numbers: dict[str, Any] = found["numbers"]
    return numbers


def five_against_one_number() -> str:
    return interval(_five()["crps_difference"]["point"], 3)


def five_against_gaussian() -> str:
    return interval(_five()["crps_difference"]["gaussian"], 3)


def nineteen_against_gaussian() -> bool:
    """Nineteen have the lower CRPS, on the same attribute."""
    part, column = "ratings:reader_valence", "model_crps"
    return _below(compare(_run("emobank-reader"), _run("emobank-reader", "gaussian"), part, column, column))


def width_follows_disagreement_a_little() -> bool:
    """The widest tenth of predictions has the larger spread of ratings; the rank correlation is under .2."""
    spread = _five()["spread_of_ratings"]
    apart = spread["narrowest_tenth"]["high"] < spread["widest_tenth"]["low"]
    return apart and 0 < _five()["spearman_width_with_spread_of_ratings"] < 0.2


# -- verbosity -------------------------------------------------------------------------------------------


def _way(data: str, way: str, key: str, what: str) -> str:
    found = run_of("verbosity", data=data)
    assert found is not None
    return interval(found["ways"][way][key][what], 2)


def length_of_summeval_op() -> str:
    return _way("summeval_op", "as it is", "spearman_with_length", "value")


def length_of_ukpconvarg() -> str:
    return _way("ukpconvarg", "as it is", "spearman_with_length", "value")


def cost_on_summeval_op() -> str:
    return _way("summeval_op", "length", "accuracy", "difference")


def gain_where_the_shorter_won() -> bool:
    """Debiased models are right more often where the shorter response won, on both sets."""
    for data in ("summeval_op", "ukpconvarg"):
        run = run_of("verbosity", data=data)
        assert run is not None
        if run["ways"]["length"]["accuracy_where_the_shorter_won"]["difference"]["low"] <= 0:
            return False
    return True
