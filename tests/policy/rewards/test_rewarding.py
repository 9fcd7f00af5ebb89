"""Rewards of stored completions, and the training tables made of them."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset

from fake_backbone import FakeBackbone, ratings_rows
from pluralign import fit, load_ratings
from pluralign.distributions import Quantiles
from pluralign.errors import ArgumentError, ArtifactError, DataError, RunError
from pluralign.policy.rewards.columns import check_training_table
from pluralign.policy.rewards.ranks import pad_references, quantile_rewards
from pluralign.policy.rewards.smooth_ranks import smooth_reference_ranks, smooth_scores
from pluralign.policy.rewards.sources import (
    ColumnReward,
    FunctionReward,
    ModelReward,
    SmoothReward,
    read_rewards,
    reward_samples,
    rewards_of,
)
from pluralign.policy.rewards.training_tables import (
    References,
    attach_references,
    pairs_table,
    unpaired_table,
)
from pluralign.policy.sampling.alpaca_eval import write_alpaca_eval
from pluralign.policy.sampling.imported import import_samples
from pluralign.policy.sampling.settings import Completion, SamplingSettings
from pluralign.policy.sampling.stage import read_samples, sample_references
from tiny_policy import user

PROMPTS = [user(f"prompt {i}") for i in range(5)]


class Numbers:
    """Completions "x y" that the fake backbone reads; the last of each prompt is cut off."""

    def describe(self):
        return {"kind": "numbers"}

    def check(self, prompts, settings):
        pass

    def sample(self, prompts, settings):
        return [
            [
                Completion(
                    f"{(7 * int(p[0]['content'][-1]) + 3 * i) % 5} 1 w", 3 + i, i == settings.completions - 1
                )
                for i in range(settings.completions)
            ]
            for p in prompts
        ]


@pytest.fixture
def samples(tmp_path):
    return sample_references(
        PROMPTS, Numbers(), tmp_path / "samples", SamplingSettings(4, 8), prompts_per_shard=2
    )


def first_number(prompts, completions):
    return [float(text.split()[0]) for text in completions]


def test_rewards_of_a_function(samples, tmp_path):
    told = []
    path = reward_samples(
        samples, FunctionReward(first_number, "first"), tmp_path / "r", progress=lambda *p: told.append(p)
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    rows = read_rewards(samples, path)
    assert rows["reward"] == first_number(None, rows["completion"])
    assert rows["index"] == list(range(4)) * 5
    tensor = FunctionReward(lambda p, c: torch.tensor(first_number(p, c)), "first")
    assert rewards_of(tensor, rows[:4]) == rows["reward"][:4]
    for scalar in (np.int64, np.float32, torch.tensor):
        each = FunctionReward(lambda p, c, one=scalar: [one(len(text)) for text in c], "length")
        assert rewards_of(each, rows[:4]) == [len(text) for text in rows["completion"][:4]]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "returned NoneType"),
        (1.0, "returned float"),
        ("12", "returned str"),
        (
            [np.zeros(2)] * 8,
            r"the first is array\(\[0., 0.\]\), of completion 0. Allowed: an int or a float",
        ),
        ([torch.zeros(1, 2)] * 8, "the first is tensor.*, of completion 0"),
        ([10**400] * 8, "the first is 1000.*, of completion 0"),
    ],
)
def test_a_function_that_gives_no_list(samples, tmp_path, answer, message):
    with pytest.raises(DataError, match=message):
        reward_samples(samples, FunctionReward(lambda p, c: answer, "odd"), tmp_path / "r")


def test_a_function_that_fails_is_named(samples, tmp_path):
    with pytest.raises(DataError, match="the reward function broken failed: ZeroDivisionError"):
        reward_samples(samples, FunctionReward(lambda p, c: [1 / 0], "broken"), tmp_path / "r")


def test_rewards_of_any_model_and_any_measure(samples, tmp_path):
    ratings = load_ratings(ratings_rows(15))
    model = fit("quantile", ratings=ratings, backbone=FakeBackbone(), cache=None)
    texts = read_samples(samples)
    for risk in ("mean", "cvar:0.1", "entropic:1"):
        path = reward_samples(samples, ModelReward(model, risk), tmp_path / risk)
        talks = [
            [*p, {"role": "assistant", "content": c}]
            for p, c in zip(texts["prompt"], texts["completion"], strict=True)
        ]
        expected = model.score(talks, risk=risk).tolist()
        assert read_rewards(samples, path)["reward"] == pytest.approx(expected)
    with pytest.raises(RunError, match="reward.risk: 'mean' before, 'cvar:0.5' now"):
        reward_samples(samples, ModelReward(model, "cvar:0.5"), tmp_path / "mean")


def test_smooth_rewards_rank_as_smooth_quantile_rewards(samples, tmp_path):
    model = fit("quantile", ratings=load_ratings(ratings_rows(15)), backbone=FakeBackbone(), cache=None)
    rows = read_rewards(samples, reward_samples(samples, SmoothReward(model), tmp_path / "smooth"))
    talks = [
        [*p, {"role": "assistant", "content": c}]
        for p, c in zip(rows["prompt"], rows["completion"], strict=True)
    ]
    distributions = model.distribution(talks)
    scores = torch.tensor(rows["reward"][:]).reshape(5, 4)
    torch.testing.assert_close(scores.double(), smooth_scores(distributions, 4), rtol=0, atol=1e-6)
    assert scores.mean(-1).tolist() == pytest.approx([0.5] * 5)
    table = unpaired_table(References(rows)).rows
    ranks = quantile_rewards(table["reward"][:], table["ref_rewards"][:], leave_one_out=True)
    assert ranks.tolist() == pytest.approx(smooth_reference_ranks(distributions, 4).flatten().tolist())


class Drifting:
    """A model whose rewards of equal texts differ in the last places, by where they stand in the batch."""

    def score(self, talks, risk):
        return torch.tensor([len(talk[-1]["content"]) * (1 + 1e-7 * i) for i, talk in enumerate(talks)])

    def distribution(self, talks):
        return Quantiles(self.score(talks, None)[:, None] + torch.tensor([-1.0, 0.0, 1.0]), [0.2, 0.5, 0.8])


@pytest.mark.parametrize("source", [ModelReward, SmoothReward])
def test_equal_completions_of_a_prompt_tie_whatever_rounding_does(source):
    said = ["aa", "b", "aa", "ccc", "b", "aa"]
    rewards = source(Drifting())({"prompt": [PROMPTS[0]] * 6, "completion": said})
    assert len(set(zip(said, rewards, strict=True))) == len(set(rewards)) == 3


def test_rewards_of_a_column(tmp_path):
    rows = [{"prompt": "a", "completion": c, "score": r} for c, r in (("x", 1.0), ("y", 0), ("z", 1))]
    path = import_samples(rows, tmp_path / "s", columns={"reward": "score"})
    rewards = reward_samples(path, ColumnReward(), tmp_path / "r")
    assert read_rewards(path, rewards)["reward"] == [1.0, 0.0, 1.0]
    bare = import_samples(rows, tmp_path / "bare")
    with pytest.raises(
        DataError, match="3 of 3 rewards are not finite numbers; the first is None, of completion 0"
    ):
        reward_samples(bare, ColumnReward(), tmp_path / "none")
    with pytest.raises(DataError, match="a finite number, or null"):
        import_samples([{"prompt": "a", "completion": "x", "reward": math.nan}], tmp_path / "nan")


def test_interrupted_rewarding_continues(samples, tmp_path):
    calls = []

    def breaks(prompts, completions):
        calls.append(len(completions))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return first_number(prompts, completions)

    source = FunctionReward(breaks, "first")
    with pytest.raises(KeyboardInterrupt):
        reward_samples(samples, source, tmp_path / "r")
    with pytest.raises(ArtifactError, match="not finished"):
        read_rewards(samples, tmp_path / "r")
    reward_samples(samples, source, tmp_path / "r")
    assert calls == [8, 8, 8, 4]
    with pytest.raises(RunError, match="reward.name"):
        reward_samples(samples, FunctionReward(first_number, "other"), tmp_path / "r")


@pytest.mark.parametrize("wrong", [math.nan, math.inf, None, "3", True])
def test_rewards_that_are_not_numbers(samples, tmp_path, wrong):
    source = FunctionReward(lambda p, c: [*first_number(p, c)[:-1], wrong], "bad")
    with pytest.raises(
        DataError, match="1 of 8 rewards are not finite numbers; the first is .*, of completion 7"
    ):
        reward_samples(samples, source, tmp_path / "r")
    with pytest.raises(DataError, match="received 2 rewards for 8 completions"):
        reward_samples(samples, FunctionReward(lambda p, c: [1.0, 2.0], "short"), tmp_path / "s")


def test_nothing_is_left_of_a_first_shard_that_has_no_rewards(samples, tmp_path):
    with pytest.raises(DataError):
        reward_samples(samples, FunctionReward(lambda p, c: [math.nan] * len(c), "f"), tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.slice(0, 7),
        lambda rows: rows.take(pa.array(range(len(rows))[::-1])),
        lambda rows: rows.set_column(2, "reward", pa.array([math.nan] * len(rows))),
    ],
)
def test_altered_rewards_are_refused(samples, tmp_path, change):
    path = reward_samples(samples, FunctionReward(first_number, "first"), tmp_path / "r")
    shard = path / "shard-00001.parquet"
    pq.write_table(change(pq.read_table(shard)), shard)
    with pytest.raises(ArtifactError, match="is damaged"):
        read_rewards(samples, path)


def test_rewards_of_other_samples_are_refused(samples, tmp_path):
    path = reward_samples(samples, FunctionReward(first_number, "first"), tmp_path / "r")
    other = sample_references(PROMPTS, Numbers(), tmp_path / "o", SamplingSettings(3, 8), prompts_per_shard=2)
    with pytest.raises(ArgumentError, match="the rewards of other samples"):
        read_rewards(other, path)


# -- training tables -------------------------------------------------------------------------------


def rewarded(*groups, tokens=True):
    """Rows of prompts p0, p1 ... with the rewards given; the last of each is cut off."""
    return [
        {"prompt": f"p{i}", "completion": f"{i}{j}", "reward": r, "cut_off": j == len(group) - 1}
        | ({"num_tokens": 5 + j + i} if tokens else {})
        for i, group in enumerate(groups)
        for j, r in enumerate(group)
    ]


def references(tmp_path, *groups, tokens=True, **options):
    path = import_samples(rewarded(*groups, tokens=tokens), tmp_path / "s")
    return References(read_rewards(path, reward_samples(path, ColumnReward(), tmp_path / "r")), **options)


def test_unpaired_rows(tmp_path):
    table = unpaired_table(references(tmp_path, [3.0, 1.0, 2.0], [5.0, 5.0]))
    assert table.left_out == {"references all tie": 2}
    assert check_training_table(table.rows) == "unpaired"
    assert table.rows[2] == {
        "prompt": user("p0"),
        "completion": "02",
        "reward": 2.0,
        "ref_rewards": [3.0, 1.0, 2.0],
        "ref_lengths": [5, 6, 7],
        "num_tokens": 7,
        "cut_off": True,
        "among_references": True,
    }
    ranks = quantile_rewards(
        table.rows["reward"][:], *pad_references(table.rows["ref_rewards"][:])[:1], leave_one_out=True
    )
    assert ranks.tolist() == [1.0, 0.0, 0.5]


def test_fewer_training_rows_keep_all_references(tmp_path):
    groups = references(tmp_path, [3.0, 1.0, 2.0], [5.0, 5.0])
    table = unpaired_table(groups, per_prompt=1, leave_out_tied=False)
    assert table.rows["completion"][:] == ["00", "10"]
    assert table.rows["ref_rewards"][:] == [[3.0, 1.0, 2.0], [5.0, 5.0]]
    table = unpaired_table(groups, leave_out_cut_off=True)
    assert table.rows["completion"][:] == ["00", "01"]
    assert table.left_out == {"references all tie": 2, "cut off": 1}


def test_pairs(tmp_path):
    table = pairs_table(references(tmp_path, [1.0, 3.0, 2.0], [5.0, 5.0], [0.0, 1.0, 9.0]))
    assert check_training_table(table.rows) == "pairs"
    assert [(r["chosen"], r["rejected"]) for r in table.rows] == [("01", "00"), ("22", "20")]
    assert table.rows["cut_off_chosen"][:] == [False, True]
    assert table.left_out == {"references all tie": 1}
    (tmp_path / "more").mkdir()
    ended = pairs_table(references(tmp_path / "more", [0.0, 1.0, 9.0], [0.0, 1.0]), leave_out_cut_off=True)
    assert [(r["chosen"], r["rejected"]) for r in ended.rows] == [("01", "00")]
    assert ended.left_out == {"cut off": 1}
    assert ended.rows["ref_rewards"][0] == [0.0, 1.0, 9.0]


def test_single_completions_and_nothing_left(tmp_path):
    with pytest.raises(DataError, match=r"has a single completion \(1 of 1 prompts have\)"):
        unpaired_table(references(tmp_path, [3.0]))
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match=r"no training rows are left \(2 x references all tie\)"):
        unpaired_table(references(tmp_path / "b", [1.0, 1.0]))
    with pytest.raises(ArgumentError, match="per_prompt"):
        unpaired_table(references(tmp_path / "b", [1.0, 1.0]), per_prompt=0)


def test_responses_from_elsewhere(tmp_path):
    groups = references(tmp_path, [3.0, 1.0], [5.0, 6.0])
    table = Dataset.from_list(
        [
            {"prompt": "p0", "chosen": "2.5", "rejected": "0.5", "cut_off_rejected": True},
            {"prompt": "p9", "chosen": "2.5", "rejected": "0.5", "cut_off_rejected": False},
        ]
    )
    found = attach_references(table, groups, FunctionReward(first_number, "first"))
    assert found.left_out == {"prompt was not sampled": 1}
    assert check_training_table(found.rows) == "pairs"
    (row,) = found.rows
    assert (row["reward_chosen"], row["reward_rejected"], row["ref_rewards"]) == (2.5, 0.5, [3.0, 1.0])
    assert (row["among_references"], row["cut_off_chosen"], row["cut_off_rejected"]) == (False, False, True)


def test_length_controlled_rewards(tmp_path):
    groups = [[1.0, 2.0, 3.5], [0.0, 1.0, 1.5], [4.0, 3.0, 9.0]]
    plain = unpaired_table(references(tmp_path, *groups))
    (tmp_path / "c").mkdir()
    held = references(tmp_path / "c", *groups, length_control=True)
    controlled = unpaired_table(held)
    rewards = torch.tensor(groups, dtype=torch.float64)
    lengths = torch.tensor(plain.rows["ref_lengths"][:])[::3].double()
    expected = held.control(rewards, lengths, rewards, lengths)
    assert controlled.rows["reward"][:] == pytest.approx(expected.flatten().tolist())
    assert controlled.rows["ref_rewards"][0] == pytest.approx(expected[0].tolist())
    assert 0.5 < held.control.slope <= 1.0
    # a response that equals a reference in reward and length gets that reference's reward
    table = Dataset.from_list([{"prompt": "p2", "completion": "9.0"}])
    source = FunctionReward(first_number, "first")
    found = attach_references(table, held, source, {"completion": [9]})
    assert found.rows["reward"][0] == pytest.approx(expected[2, 2].item())
    with pytest.raises(ArgumentError, match="lengths of the responses are needed"):
        attach_references(table, held, source)
    (tmp_path / "d").mkdir()
    with pytest.raises(DataError, match="needs num_tokens"):
        references(tmp_path / "d", *groups, tokens=False, length_control=True)


# -- AlpacaEval ------------------------------------------------------------------------------------


def test_alpaca_eval_format(samples, tmp_path):
    file = write_alpaca_eval(read_samples(samples), tmp_path / "out.json", generator="policy-a")
    rows = json.loads(file.read_text())
    assert len(rows) == 5
    assert rows[1] == {
        "dataset": "alpaca_eval",
        "instruction": "prompt 1",
        "output": "2 1 w",
        "generator": "policy-a",
    }
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_alpaca_eval_takes_single_instructions_only(tmp_path):
    talk = [*user("a"), {"role": "assistant", "content": "b"}, *user("c")]
    with pytest.raises(DataError, match="single instructions"):
        write_alpaca_eval(
            Dataset.from_list([{"prompt": talk, "index": 0, "completion": "x"}]),
            tmp_path / "o",
            generator="g",
        )
    asked = [{"role": "system", "content": "be brief"}, *user("a")]
    file = write_alpaca_eval(
        Dataset.from_list([{"prompt": asked, "index": 0, "completion": "x"}]), tmp_path / "o", generator="g"
    )
    assert json.loads(file.read_text())[0]["instruction"] == "a"
    with pytest.raises(ArgumentError, match="empty name"):
        write_alpaca_eval(Dataset.from_list([]), tmp_path / "o", generator=" ")
