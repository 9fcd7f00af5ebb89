"""The optimum's distance, told before training: closed forms, and what is said where nobody knows it."""

from __future__ import annotations

import math

import pytest
import torch
from datasets import Dataset

import tiny_policy
import tiny_tables
from pluralign.losses.partition import optimum_kl
from pluralign.policy import OBJECTIVES, Objective, OfflineConfig
from pluralign.policy.offline.data import prepare
from pluralign.policy.offline.optimum import SURVIVED_KL, Optimum, optimum_of


def found(table=None, method="qrpo", objective=None, **options):
    table = tiny_tables.pairs() if table is None else table
    config = OfflineConfig("unused", method=method, report_to="none", use_cpu=True, **options)
    objective = OBJECTIVES[method] if objective is None else objective
    rows = prepare(table, tiny_policy.tokenizer(), config, objective).rows
    return optimum_of(table, rows, config, objective), rows


@pytest.mark.parametrize("method", ["qrpo", "qrpo_absolute"])
@pytest.mark.parametrize(("beta", "kl"), [(0.1, math.log(10) - 1), (0.01, math.log(100) - 1)])
def test_that_of_quantile_rewards_is_exact(method, beta, kl):
    optimum, _ = found(method=method, beta=beta)
    assert optimum.kl == pytest.approx(kl, abs=2e-3)
    assert f"KL of the optimum: {kl:.2f} nats (beta {beta:g}, identity)" in str(optimum)
    normal, _ = found(method=method, beta=beta, transform="normal")
    assert normal.kl == pytest.approx(0.5 / beta**2, rel=1e-6)


def test_a_beta_of_each_length_gives_the_mean():
    optimum, rows = found(beta=1.0, beta_max=None, length_normalized=True)
    lengths = torch.tensor([*rows["tokens_chosen"][:], *rows["tokens_rejected"][:]], dtype=torch.float64)
    assert optimum.kl == pytest.approx(float(optimum_kl(1.0 / lengths).mean()))
    assert "length, on average" in str(optimum)
    one_side, rows = found(beta=1.0, beta_max=None, length_normalized=True, pair_responses="rejected")
    lengths = torch.tensor(rows["tokens_rejected"][:], dtype=torch.float64)
    assert one_side.kl == pytest.approx(float(optimum_kl(1.0 / lengths).mean()))


def test_a_coin_can_be_followed_no_further_than_to_its_better_side():
    """Ranks of k successes among n: the optimum for beta to 0 is all on them, log(n / k) away."""
    row = tiny_tables.unpaired(1)[0]
    table = Dataset.from_list(
        [row | {"reward": 1.0, "ref_rewards": rewards} for rewards in ([0.0, 1.0], [0.0, 0.0, 0.0, 1.0])]
    )
    optimum, _ = found(table, beta=1e-3, partition="finite")
    assert optimum.kl == pytest.approx((math.log(2) + math.log(4)) / 2, abs=1e-6)
    assert "the ranks of the references" in str(optimum)
    assert optimum.warning is None
    exact, _ = found(table, beta=1e-3)
    assert exact.warning is not None


def test_that_of_rebel_is_read_off_the_reference_rewards():
    row = tiny_tables.pairs(1)[0]
    table = Dataset.from_list([row | {"ref_rewards": [0.0, 2.0]}, row | {"ref_rewards": [5.0, 5.0, 5.0]}])
    share = 1 / (1 + math.exp(-2.0 / 0.5))
    kl = math.log(2) + share * math.log(share) + (1 - share) * math.log(1 - share)
    optimum, _ = found(table, method="rebel", beta=0.5)
    assert optimum.kl == pytest.approx(kl / 2)  # a prompt whose references tie asks for nothing
    tied = Dataset.from_list([row | {"ref_rewards": [5.0, 5.0]}])
    assert found(tied, method="rebel", beta=0.5)[0].kl == pytest.approx(0.0, abs=1e-9)


def test_what_is_not_recorded_is_called_unknown():
    for method in ("dpo", "simpo"):
        optimum, _ = found(method=method)
        assert (optimum.kl, optimum.warning) == (None, None)
        assert (
            str(optimum) == f"KL of the optimum: unknown; it cannot be computed from this data for {method}"
        )
    bare = tiny_tables.pairs().remove_columns("ref_rewards")
    assert found(bare, method="rebel")[0].kl is None
    holes = Dataset.from_list([tiny_tables.pairs(1)[0] | {"ref_rewards": None}])
    assert found(holes, method="rebel")[0].kl is None
    own = Objective(lambda sides, settings: sides["chosen"].log_probs, beta=1.0)
    assert "this objective" in str(found(objective=own)[0])


def test_the_warning_begins_beyond_what_the_lab_survived():
    """QRPO at beta .1 asked for 1.30 nats, at .03 for 2.5."""
    assert float(optimum_kl(0.1)) < SURVIVED_KL < float(optimum_kl(0.03))
    assert Optimum(float(optimum_kl(0.1)), "").warning is None
    assert (
        "2.5 nats of KL, too far for the policies of our lab" in Optimum(float(optimum_kl(0.03)), "").warning
    )
