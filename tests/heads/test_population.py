"""PopulationUpdater: counts of known people, maximum likelihood for unknown ones, order, files, bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize

from pluralign.errors import ArgumentError, ArtifactError, ConvergenceWarning, VoterWarning
from pluralign.heads import mixture_weights as module
from pluralign.heads.mixture_weights import mixture_weights
from pluralign.heads.population import PopulationUpdater, vote_likelihoods
from pluralign.heads.updater import PreferenceUpdater

PERSONAS = {"strict": 2.0, "lenient": 1.0, "odd": 1.0}
WEIGHTS = pytest.mark.parametrize("weight", ["person", "vote"])
STRANGERS = pytest.mark.filterwarnings("ignore::pluralign.errors.VoterWarning")


def drawn(num_votes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Likelihoods, times and raters, some of whom vote often."""
    rng = np.random.default_rng(seed)
    likelihoods = torch.tensor(rng.uniform(0.01, 1.0, (num_votes, 3)))
    times = torch.tensor(rng.uniform(0, 10, num_votes))
    names = [None if r == 0 else f"r{r}" for r in rng.integers(0, 6, num_votes)]
    return likelihoods, times, names


def by_scipy(prior, likelihoods, times, names, half_life, of_votes):
    """The maximum of the concave function of the docstring, by a general optimiser over softmax logits."""
    at = float(times.max())
    left = 2 ** (-(at - times.numpy()) / half_life)
    people: dict = {}
    for i, name in enumerate(names):
        people.setdefault(i if name is None else name, []).append(i)
    logs = np.stack([np.log(likelihoods.numpy()[rows]).sum(0) for rows in people.values()])
    total = np.array([of_votes(left[rows]) for rows in people.values()])
    counts = np.asarray(prior) * 2 ** (-at / half_life)

    def loss(logits):
        log_w = logits - np.log(np.exp(logits).sum())
        return -(counts @ log_w + total @ np.log(np.exp(logs + log_w).sum(1)))

    found = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9})
    return np.exp(found.x) / np.exp(found.x).sum()


@STRANGERS
@pytest.mark.parametrize(("weight", "of_votes"), [("person", np.max), ("vote", np.sum)])
def test_unknown_people_give_the_maximum_of_the_stated_function(weight, of_votes):
    likelihoods, times, names = drawn(40)
    updater = PopulationUpdater(PERSONAS, 4.0, weight=weight).update(likelihoods, times, raters=names)
    expected = by_scipy([2.0, 1.0, 1.0], likelihoods, times, names, 4.0, of_votes)
    np.testing.assert_allclose(updater.posterior().numpy(), expected, atol=1e-6)


@STRANGERS
@WEIGHTS
def test_order_batches_and_merging_do_not_matter(weight):
    likelihoods, times, names = drawn(30, seed=1)
    options = {"half_life": 2.0, "raters": {"r1": "odd", "r4": "strict"}, "weight": weight}
    whole = PopulationUpdater(PERSONAS, **options).update(likelihoods, times, raters=names)
    parts = [PopulationUpdater(PERSONAS, **options) for _ in range(2)]
    one_by_one = PopulationUpdater(PERSONAS, **options)
    for i in torch.randperm(30, generator=torch.Generator().manual_seed(0)).tolist():
        for updater in (one_by_one, parts[i % 2]):
            updater.update(likelihoods[i : i + 1], times[i : i + 1], raters=names[i : i + 1])
    for other in (one_by_one, parts[0].merge(parts[1]), parts[1].merge(parts[0])):
        torch.testing.assert_close(other.alpha(at=12.0), whole.alpha(at=12.0), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(other.posterior(), whole.posterior(), rtol=1e-9, atol=1e-12)


@WEIGHTS
def test_one_prolific_voter_weighs_as_much_as_people_are_counted(weight):
    """One teenager with 200 votes beside ten scientists with one each, known or told by what they say."""
    scientists = [f"s{i}" for i in range(10)]
    names = ["t"] * 200 + scientists
    raters = {"t": "teenager"} | dict.fromkeys(scientists, "scientist")
    known = PopulationUpdater({"scientist": 1, "teenager": 1}, raters=raters, weight=weight)
    known.update(None, 0.0, raters=names)
    told = PopulationUpdater({"scientist": 1, "teenager": 1}, weight=weight)
    told.update([[1e-4, 1.0]] * 200 + [[1.0, 1e-4]] * 10, 0.0, raters=names)
    counts = [11.0, 2.0] if weight == "person" else [11.0, 201.0]
    assert known.alpha().tolist() == pytest.approx(counts)
    assert told.alpha().tolist() == pytest.approx(counts, rel=0.05)


def test_a_person_counts_as_their_last_vote_counts():
    people = PopulationUpdater(PERSONAS, 1.0, raters={"ann": "odd", "bob": "strict"})
    people.update(None, [0.0, 3.0, 2.0], raters=["ann", "bob", "ann"])
    expected = torch.tensor([2 / 8 + 1, 1 / 8, 1 / 8 + 1 / 2], dtype=torch.float64)
    torch.testing.assert_close(people.alpha(), expected)
    people.update(None, 0.5, raters=["ann"])  # a late vote of a person who has voted since
    torch.testing.assert_close(people.alpha(), expected)
    torch.testing.assert_close(people.alpha(at=4.0), expected / 2)
    people.update(None, 4.0, raters=["ann"])
    after = torch.tensor([2 / 16 + 1 / 2, 1 / 16, 1 / 16 + 1], dtype=torch.float64)
    torch.testing.assert_close(people.alpha(), after)


def test_a_person_who_voted_in_both_counts_once_after_merging():
    parts = [PopulationUpdater(PERSONAS, 1.0, raters={"ann": "odd"}) for _ in range(2)]
    parts[0].update([[0.9, 0.1, 0.1]] * 2, [1.0, 0.0], raters=["ann", "zoe"])
    parts[1].update([[0.9, 0.1, 0.1]] * 2, [0.0, 2.0], raters=["ann", "zoe"])
    merged = parts[0].merge(parts[1])
    assert float(merged.alpha().sum()) == pytest.approx(4 / 4 + 1 / 2 + 1)


def test_votes_without_names_are_reported_once():
    people = PopulationUpdater(PERSONAS)
    people.update([[0.1, 0.2, 0.3]], 0.0, raters=["zoe"])
    with pytest.warns(VoterWarning, match="1 of 2 votes have no rater, and each counts as a separate person"):
        people.update([[0.1, 0.2, 0.3]] * 2, 0.0, raters=["zoe", None])
    people.update([[0.1, 0.2, 0.3]], 0.0)
    assert float(people.alpha().sum()) == pytest.approx(4 + 3)
    PopulationUpdater(PERSONAS, weight="vote").update([[0.1, 0.2, 0.3]], 0.0)


def test_known_votes_are_counted():
    people = PopulationUpdater(PERSONAS, 1.0, raters={"ann": "odd", "bob": "strict"}, weight="vote")
    people.update(None, [0.0, 3.0, 2.0], raters=["ann", "bob", "ann"])
    expected = torch.tensor([2 / 8 + 1, 1 / 8, 1 / 8 + 1 / 8 + 1 / 2], dtype=torch.float64)
    torch.testing.assert_close(people.alpha(), expected)
    torch.testing.assert_close(people.posterior(), expected / expected.sum())
    torch.testing.assert_close(people.alpha(at=4.0), expected / 2)


def test_votes_that_name_a_persona_count_as_if_it_were_known():
    one_hot = torch.eye(3, dtype=torch.float64)[[0, 2, 2]]
    inferred = PopulationUpdater(PERSONAS).update(one_hot, 1.0, raters=["a", "b", "c"])
    known = PopulationUpdater(PERSONAS, raters={"a": "strict", "b": "odd", "c": "odd"})
    known.update(None, 1.0, raters=["a", "b", "c"])
    torch.testing.assert_close(inferred.posterior(), known.posterior(), rtol=1e-9, atol=1e-9)


def test_one_person_is_of_one_persona():
    # Each vote of r points 2:1 to the first; ten votes of one person leave no doubt, ten strangers do.
    rows = torch.tensor([[0.6, 0.3]]).expand(10, 2)
    person = PopulationUpdater([1.0, 1.0]).update(rows, 0.0, raters=["r"] * 10)
    votes = PopulationUpdater([1.0, 1.0], weight="vote").update(rows, 0.0, raters=["r"] * 10)
    strangers = PopulationUpdater([1.0, 1.0]).update(rows[:5], 0.0, raters=list("abcde"))
    assert float(person.alpha()[0]) == pytest.approx(2, abs=0.05)
    assert float(votes.alpha()[0]) == pytest.approx(11, abs=0.05)
    assert float(strangers.alpha()[0]) < 6


def test_a_shifted_population_is_recovered_and_moves_every_text():
    rng = np.random.default_rng(0)
    distributions = torch.tensor(
        rng.dirichlet(np.full(4, 0.7), size=(3000, 3))
    )  # texts, personas, categories
    before, after = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.3, 0.6])
    updater = PopulationUpdater([1.0, 1.0, 1.0], half_life=400.0, weight="vote")
    for start, truth in ((0, before), (1500, after)):
        people = rng.choice(3, size=1500, p=truth)
        votes = [rng.choice(4, p=distributions[start + i, p].numpy()) for i, p in enumerate(people)]
        likelihoods = vote_likelihoods(votes, distributions[start : start + 1500])
        updater.update(likelihoods, np.arange(start, start + 1500.0))
        # 1,500 votes are 3.75 half-lives: 7 % of the old weight is left, and 600 votes' worth of news
        np.testing.assert_allclose(updater.posterior().numpy(), truth, atol=0.12)
    distribution = updater.predict(distributions[:5], [0.0, 1.0, 2.0, 3.0])
    torch.testing.assert_close(
        distribution.probs, torch.einsum("p,bpc->bc", updater.posterior(), distributions[:5])
    )


def test_an_impossible_person_and_forgotten_votes_leave_numbers():
    updater = PopulationUpdater([1.0, 1.0], 1.0, weight="vote")
    updater.update([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0], raters=["r", "r"])  # contradicts both personas
    assert updater.posterior().tolist() == pytest.approx([0.5, 0.5])
    updater.update([[0.5, 0.1]] * 50, [0.0] * 50)
    assert len(updater._voters.weight) == 51
    updater.update([[0.1, 0.9]], [500.0])
    assert len(updater._voters.weight) == 2  # the named rater and the new vote
    assert float(updater.posterior()[1]) > 0.99


@pytest.mark.parametrize(("num_rows", "spread"), [(0, 1.0), (5, 3.0), (2000, 0.05), (200, 300.0), (50, 0.0)])
@pytest.mark.parametrize("count", [1.0, 1e-6])
def test_weights_solve_their_equations(num_rows, spread, count):
    generator = torch.Generator().manual_seed(num_rows)
    logs = spread * torch.randn(num_rows, 6, generator=generator, dtype=torch.float64)
    weight = torch.rand(num_rows, generator=generator, dtype=torch.float64)
    counts = torch.full((6,), count, dtype=torch.float64)
    w = mixture_weights(counts, logs, weight)
    assert float(w.sum()) == pytest.approx(1)
    assert bool((w > 0).all())
    shared = counts + weight @ (logs + w.log()).softmax(1)
    torch.testing.assert_close(w, shared / shared.sum(), rtol=0, atol=1e-9)


def test_a_solution_that_is_not_reached_is_reported(monkeypatch):
    monkeypatch.setattr(module, "_STEPS", 2)
    with pytest.warns(ConvergenceWarning, match="after 2 steps"):
        mixture_weights(torch.ones(2).double(), torch.tensor([[0.0, -3.0]]).double(), torch.ones(1).double())


@STRANGERS
@WEIGHTS
def test_saved_and_loaded_it_continues_the_same(tmp_path, weight):
    likelihoods, times, names = drawn(20, seed=2)
    updater = PopulationUpdater(PERSONAS, 2.0, raters={"r1": "odd"}, weight=weight)
    updater.update(likelihoods, times, raters=names)
    updater.save(tmp_path / "people")
    twin = PopulationUpdater.load(tmp_path / "people")
    for both in (updater, twin):
        both.update(likelihoods[:3], 11.0, raters=["r1", "r2", None])
    torch.testing.assert_close(twin.posterior(), updater.posterior())
    assert (twin.personas, twin.weight) == (tuple(PERSONAS), weight)
    updater.merge(twin)
    with pytest.raises(ArtifactError, match="not a preference updater"):
        PreferenceUpdater.load(tmp_path / "people")


def test_a_file_from_before_people_were_weighed_goes_on_counting_votes(tmp_path):
    path = tmp_path / "people"
    updater = PopulationUpdater(PERSONAS, 2.0, raters={"ann": "odd"}, weight="vote")
    updater.update([[0.1, 0.2, 0.3]] * 4, 1.0, raters=["ann", "ann", "zoe", "zoe"]).save(path)
    with safe_open(path, framework="pt") as opened:
        settings = json.loads(opened.metadata()["pluralign"])
    tensors = load_file(path)
    del settings["sha256"], settings["weight"], settings["named"], tensors["named"]
    save_file(tensors, path, metadata={"pluralign": json.dumps(settings)})
    old = PopulationUpdater.load(path)
    assert old.weight == "vote"
    for both in (updater, old):
        both.update(None, 2.0, raters=["ann"])
    torch.testing.assert_close(old.alpha(), updater.alpha())
    with pytest.raises(ArgumentError, match="the same prior, half_life, start, weight and known raters"):
        old.merge(PopulationUpdater(PERSONAS, 2.0, raters={"ann": "odd"}))


@pytest.mark.parametrize(
    ("likelihoods", "times", "raters", "message"),
    [
        ([[0.5, 0.5]], 0.0, None, r"likelihoods must be \[V, 3\]"),
        ("likely", 0.0, None, "likelihoods must be numbers"),
        ([[0.5, 0.5, 1.5]], 0.0, None, "probabilities in"),
        ([[0.5, 0.5, float("nan")]], 0.0, None, "probabilities in"),
        ([[0.1, 0.1, 0.1], [0.0, 0.0, 0.0]], 0.0, None, "vote 1 has probability 0 under every persona"),
        ([[0.1, 0.1, 0.1]], 0.0, ["a", "b"], "1 likelihoods and 2 raters"),
        ([[0.1, 0.1, 0.1]], -1.0, None, "older than the prior"),
        (None, 0.0, None, "received raters None and no likelihoods"),
        ([[0.1, 0.1, 0.1]] * 3, 0.0, "ann", "received raters 'ann' and some likelihoods"),
        ([[0.1, 0.1, 0.1]] * 3, [0.0], None, "every vote needs a time"),
        (None, 0.0, ["ann", "zoe"], "persona of rater 'zoe' is unknown"),
        (None, 0.0, [None], "persona of rater None is unknown"),
    ],
)
def test_illegal_votes_are_named_and_change_nothing(likelihoods, times, raters, message):
    updater = PopulationUpdater(PERSONAS, raters={"ann": "odd"})
    before = updater.alpha()
    with pytest.raises(ArgumentError, match=message):
        updater.update(likelihoods, times, raters=raters)
    assert torch.equal(updater.alpha(), before)


def test_illegal_settings_and_distributions_are_named():
    for prior in ([1.0, 0.0], [[1.0]], [float("nan")], "people"):
        with pytest.raises(ArgumentError, match="prior must be"):
            PopulationUpdater(prior)
    with pytest.raises(ArgumentError, match="the personas are strict, lenient, odd"):
        PopulationUpdater(PERSONAS, raters={"ann": "kind"})
    with pytest.raises(ArgumentError, match="lies before the last vote"):
        PopulationUpdater(PERSONAS).update([[1.0, 1.0, 1.0]], 2.0, raters=["a"]).alpha(at=1.0)
    with pytest.raises(ArgumentError, match="'person' or 'vote', received 'people'"):
        PopulationUpdater(PERSONAS, weight="people")
    with pytest.raises(ArgumentError, match="same prior"):
        PopulationUpdater(PERSONAS).merge(PopulationUpdater(PERSONAS, 1.0))
    updater = PopulationUpdater(PERSONAS)
    with pytest.raises(ArgumentError, match="every vote would count twice"):
        updater.merge(updater)
    with pytest.raises(ArgumentError, match="probs must be numbers, received str"):
        updater.predict("likely", [0.0, 1.0])
    with pytest.raises(ArgumentError, match="sum to 1"):
        vote_likelihoods([0], torch.full((1, 3, 2), 0.4))
    with pytest.raises(ArgumentError, match="sum to 1"):
        PopulationUpdater(PERSONAS).predict(torch.full((1, 3, 2), 0.6), [0.0, 1.0])
    with pytest.raises(ArgumentError, match=r"needed: votes \[V\]"):
        vote_likelihoods([0, 0], torch.full((1, 3, 2), 0.5))
    with pytest.raises(ArgumentError, match=r"votes must be whole numbers in \[0, 2\)"):
        vote_likelihoods([2], torch.full((1, 3, 2), 0.5))


def test_probabilities_may_be_lists():
    assert vote_likelihoods([1], [[[0.25, 0.75], [1, 0]]]).tolist() == [[0.75, 0.0]]
    distribution = PopulationUpdater({"a": 1, "b": 3}).predict([[[0.0, 1.0], [1.0, 0.0]]], [0.0, 1.0])
    torch.testing.assert_close(distribution.probs, torch.tensor([[0.75, 0.25]]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"clock": "now"},
        {"rows": {"zoe": 7}},
        {"rows": {"zoe": -1}},
        {"rows": {"zoe": 0, "ann": 0}},
        {"rows": ["zoe"]},
        {"named": {"zoe": 0}},
        {"named": {"ann": 3}},
        {"named": 1},
        {"weight": "people"},
        {"prior": 3},
        {"format": 2},
        {"kind": "preference updater"},
    ],
)
def test_a_damaged_state_is_refused(tmp_path, wrong):
    path = tmp_path / "state"
    updater = PopulationUpdater(PERSONAS, raters={"ann": "odd"})
    updater.update([[0.1, 0.2, 0.3]] * 2, 1.0, raters=["zoe", "ann"]).save(path)
    with safe_open(path, framework="pt") as opened:
        settings = json.loads(opened.metadata()["pluralign"])
    del settings["sha256"]  # as in older files: with it, any change at all is refused
    save_file(load_file(path), path, metadata={"pluralign": json.dumps(settings | wrong)})
    with pytest.raises(ArtifactError):
        PopulationUpdater.load(path)
    for header in ("[]", json.dumps({"kind": "population updater"})):
        save_file(load_file(path), path, metadata={"pluralign": header})
        with pytest.raises(ArtifactError):
            PopulationUpdater.load(path)
