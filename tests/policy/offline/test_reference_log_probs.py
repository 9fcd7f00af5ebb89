"""Reference log-probabilities on disk: fingerprints, journals of interrupted work, damaged files."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset

import tiny_policy
from pluralign.errors import ArtifactError, FingerprintError
from pluralign.policy.offline.references import compute, load, model_digest, save

PRINTS = {"model": "a" * 64, "tokenizer": "b" * 64, "data": "c" * 64}
LENGTHS = [5, 9, 2, 7, 3, 8, 1]


def rows():
    return Dataset.from_dict({"length": LENGTHS})


class Scorer:
    """Row i scores (-i - 1, -10 i - 1); counts calls and can break off."""

    def __init__(self, fail_at=None):
        self.batches = []
        self.fail_at = fail_at

    def __call__(self, places):
        if self.fail_at is not None and len(self.batches) == self.fail_at:
            raise KeyboardInterrupt
        self.batches.append(places)
        return torch.tensor([[-i - 1.0, -10 * i - 1.0] for i in places])


EXPECTED = torch.tensor([[-i - 1.0, -10 * i - 1.0] for i in range(len(LENGTHS))])


def test_every_row_once_and_stored(tmp_path):
    path, scorer = tmp_path / "ref.safetensors", Scorer()
    found = compute(path, PRINTS, rows(), 2, scorer, 10)
    assert torch.equal(found, EXPECTED)
    assert sorted(i for batch in scorer.batches for i in batch) == list(range(len(LENGTHS)))
    assert all(sum(LENGTHS[i] for i in batch) <= 10 for batch in scorer.batches)
    assert torch.equal(load(path, PRINTS, len(LENGTHS), 2), EXPECTED)
    assert [p.name for p in tmp_path.iterdir()] == ["ref.safetensors"]


def test_interrupted_work_is_continued(tmp_path):
    path, first = tmp_path / "ref.safetensors", Scorer(fail_at=2)
    with pytest.raises(KeyboardInterrupt):
        compute(path, PRINTS, rows(), 2, first, 10)
    assert not path.exists()
    (journal,) = tmp_path.iterdir()
    with journal.open("a") as file:
        file.write("[[1, 2], [[-3")  # a line that the interruption cut short
    second = Scorer()
    assert torch.equal(compute(path, PRINTS, rows(), 2, second, 10), EXPECTED)
    done = {i for batch in first.batches for i in batch}
    assert not done & {i for batch in second.batches for i in batch}


def test_a_journal_of_other_work_is_not_used(tmp_path):
    path = tmp_path / "ref.safetensors"
    with pytest.raises(KeyboardInterrupt):
        compute(path, PRINTS, rows(), 2, Scorer(fail_at=2), 10)
    scorer = Scorer()
    compute(path, PRINTS | {"model": "d" * 64}, rows(), 2, scorer, 10)
    assert sum(map(len, scorer.batches)) == len(LENGTHS)


def test_processes_make_the_same_number_of_calls(tmp_path):
    """Three processes in turn, with what the others found given back by `gather`."""
    scorers = []
    for rank in range(3):
        scorer = Scorer()
        # The others' rows are missing here, so only the calls are looked at.
        with pytest.raises(KeyError):
            compute(tmp_path / f"{rank}", PRINTS, rows(), 2, scorer, 9, rank=rank, world=3)
        scorers.append(scorer)
    assert len({len(s.batches) for s in scorers}) == 1
    assert {i for s in scorers for batch in s.batches for i in batch} == set(range(len(LENGTHS)))


def test_journals_of_more_processes_are_used_and_then_gone(tmp_path):
    path = tmp_path / "ref.safetensors"
    with pytest.raises(KeyboardInterrupt):
        compute(path, PRINTS, rows(), 2, Scorer(fail_at=2), 10)
    (journal,) = tmp_path.iterdir()
    journal.rename(journal.with_name(journal.name.replace(".0.jsonl", ".7.jsonl")))
    scorer = Scorer()
    torch.testing.assert_close(compute(path, PRINTS, rows(), 2, scorer, 10), EXPECTED)
    assert sum(map(len, scorer.batches)) < len(LENGTHS)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_keeps_the_journal(tmp_path, monkeypatch):
    path = tmp_path / "ref.safetensors"

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pluralign.policy.offline.references.save", full)
        with pytest.raises(OSError, match="No space"):
            compute(path, PRINTS, rows(), 2, Scorer(), 10)
    scorer = Scorer()
    compute(path, PRINTS, rows(), 2, scorer, 10)
    assert scorer.batches == []


@pytest.mark.parametrize(
    ("key", "message"),
    [("model", "another reference model"), ("tokenizer", "another tokenizer"), ("data", "other data")],
)
def test_stale_files_are_refused(tmp_path, key, message):
    path = tmp_path / "ref.safetensors"
    save(path, EXPECTED, PRINTS)
    with pytest.raises(FingerprintError, match=message):
        load(path, PRINTS | {key: "e" * 64}, len(LENGTHS), 2)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "ref.safetensors"
    assert load(path, PRINTS, 7, 2) is None
    save(path, EXPECTED, PRINTS)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ArtifactError, match="damaged"):
        load(path, PRINTS, 7, 2)
    save(path, EXPECTED[:3], PRINTS)
    with pytest.raises(ArtifactError, match=r"needed finite \[7, 2\]"):
        load(path, PRINTS, 7, 2)


def test_broken_weights_are_noticed(tmp_path):
    with pytest.raises(ArtifactError, match="not finite"):
        compute(tmp_path / "r", PRINTS, rows(), 1, lambda places: torch.full((len(places), 1), torch.nan), 10)


def test_the_digest_sees_any_weight_and_nothing_else():
    model = tiny_policy.model()
    before = model_digest(model)
    assert model_digest(tiny_policy.model()) == before
    assert model_digest(tiny_policy.model(1)) != before
    weight = model.model.layers[0].mlp.down_proj.weight
    with torch.no_grad():
        swapped = weight.flatten()[[1, 0]].clone()
        weight.flatten()[:2] = swapped  # the same numbers in other places
    assert model_digest(model) != before
    assert model_digest(tiny_policy.model().bfloat16()) != before
