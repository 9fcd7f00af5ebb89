"""The reference stage on disk: resuming, full disks, foreign settings, damaged shards, foreign samples."""

from __future__ import annotations

import errno
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from pluralign.errors import ArgumentError, ArtifactError, DataError, RunError
from pluralign.policy.sampling.imported import import_samples
from pluralign.policy.sampling.prompt_sets import load_prompts
from pluralign.policy.sampling.settings import Completion, SamplingSettings, completion_seed, prompt_key
from pluralign.policy.sampling.stage import read_samples, sample_references
from tiny_policy import user

PROMPTS = [user(f"prompt {i}") for i in range(7)]
SETTINGS = SamplingSettings(completions=3, max_new_tokens=5)


class Echo:
    """Answers with its seeds; breaks off when told to."""

    def __init__(self, fingerprint="f", stop_after=None):
        self.fingerprint = fingerprint
        self.left = stop_after
        self.seen = []
        self.checked = 0

    def describe(self):
        return {"kind": "echo", "fingerprint": self.fingerprint}

    def check(self, prompts, settings):
        self.checked = len(prompts)

    def sample(self, prompts, settings):
        if self.left == 0:
            raise KeyboardInterrupt
        if self.left is not None:
            self.left -= 1
        self.seen += [prompt_key(prompt) for prompt in prompts]
        return [
            [
                Completion(str(completion_seed(settings.seed, prompt, i)), i + 1, i == 2)
                for i in range(settings.completions)
            ]
            for prompt in prompts
        ]


def run(path, sampler=None, prompts=PROMPTS, settings=SETTINGS, **options):
    return sample_references(prompts, sampler or Echo(), path, settings, prompts_per_shard=2, **options)


def test_rows(tmp_path):
    told = []
    path = run(tmp_path / "s", progress=lambda done, total: told.append((done, total)))
    rows = read_samples(path)
    assert told == [(2, 7), (4, 7), (6, 7), (7, 7)]
    assert len(rows) == 21
    assert rows[4] == {
        "prompt_id": prompt_key(PROMPTS[1]),
        "prompt": PROMPTS[1],
        "index": 1,
        "completion": str(completion_seed(0, PROMPTS[1], 1)),
        "num_tokens": 2,
        "cut_off": False,
        "reward": None,
        "token_ids": None,
        "tokenizer": None,
    }
    assert rows["cut_off"][:3] == [False, False, True]


@pytest.mark.parametrize("shards", [0, 1, 3])
def test_an_interruption_loses_at_most_a_shard(tmp_path, shards):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "s", Echo(stop_after=shards))
    with pytest.raises(ArtifactError, match=f"not finished: {4 - shards} of 4 shards are missing"):
        read_samples(tmp_path / "s")
    again = Echo()
    run(tmp_path / "s", again)
    assert again.seen == [prompt_key(p) for p in PROMPTS[2 * shards :]]
    assert read_samples(tmp_path / "s").to_list() == read_samples(run(tmp_path / "whole")).to_list()
    assert again.checked == 7  # all prompts, before the first is sampled
    third = Echo()
    run(tmp_path / "s", third)
    assert (third.seen, third.checked) == ([], 0)


def test_a_full_disk_leaves_whole_shards_only(tmp_path, monkeypatch):
    write, calls = pq.write_table, []

    def full(table, where, **options):
        calls.append(where)
        if len(calls) == 2:
            where.write_bytes(b"PAR1 half a shard")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(table, where, **options)

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(ArtifactError, match="shard-00001.parquet cannot be written: the disk is full"):
        run(tmp_path / "s")
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["manifest.json", "shard-00000.parquet"]
    monkeypatch.undo()
    again = Echo()
    run(tmp_path / "s", again)
    assert len(again.seen) == 5
    assert len(read_samples(tmp_path / "s")) == 21


def test_a_damaged_shard_is_made_again(tmp_path):
    path = run(tmp_path / "s")
    (path / "shard-00001.parquet").write_bytes(b"PAR1")
    again = Echo()
    run(path, again)
    assert again.seen == [prompt_key(p) for p in PROMPTS[2:4]]


def test_bits_that_rotted_are_noticed(tmp_path):
    path = run(tmp_path / "s")
    shard = path / "shard-00001.parquet"
    content = bytearray(shard.read_bytes())
    content[content.index(b"prompt 2") + 3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ArtifactError, match="shard-00001.parquet is damaged .*write it again"):
        read_samples(path)


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (lambda rows: rows.set_column(3, "completion", pa.nulls(len(rows), pa.string())), "completion"),
        (lambda rows: rows.drop_columns(["cut_off"]), "cut_off"),
    ],
)
def test_shards_without_texts_are_refused(tmp_path, change, column):
    path = run(tmp_path / "s")
    for shard in path.glob("*.parquet"):
        pq.write_table(change(pq.read_table(shard)), shard)
    with pytest.raises(ArtifactError, match=f"with missing values: {column}. Import"):
        read_samples(path)


def test_what_fails_before_the_first_prompt_leaves_no_folder(tmp_path):
    class Picky(Echo):
        def check(self, prompts, settings):
            raise DataError("too long")

    with pytest.raises(DataError, match="too long"):
        run(tmp_path / "s", Picky())
    assert not (tmp_path / "s").exists()


def test_what_a_killed_process_leaves_is_not_an_obstacle(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / f".manifest.json.{'0' * 8}-77-{'0' * 8}.partial").write_text("{")
    assert len(read_samples(run(tmp_path / "s"))) == 21


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": SamplingSettings(3, 5, seed=1)}, "settings.seed: 0 before, 1 now"),
        ({"settings": SamplingSettings(4, 5)}, "settings.completions: 3 before, 4 now"),
        ({"sampler": Echo("g")}, "sampler.fingerprint: 'f' before, 'g' now"),
        ({"prompts": PROMPTS[:6]}, "prompts.count: 7 before, 6 now"),
        ({"prompts": PROMPTS[::-1]}, "prompts.digest"),
    ],
)
def test_other_settings_are_not_mixed(tmp_path, change, message):
    run(tmp_path / "s")
    with pytest.raises(RunError, match=message):
        run(tmp_path / "s", **change)


def test_folders_that_are_none(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    with pytest.raises(RunError, match="has other content than shards"):
        run(tmp_path / "other")
    with pytest.raises(ArtifactError, match="not a folder of shards"):
        read_samples(tmp_path / "other")
    path = run(tmp_path / "s")
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"format": 9}))
    with pytest.raises(ArtifactError, match="format 9"):
        read_samples(path)
    (path / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="damaged"):
        run(path)


def test_illegal_prompts(tmp_path):
    with pytest.raises(ArgumentError, match="no prompts"):
        run(tmp_path / "s", prompts=[])
    with pytest.raises(ArgumentError, match="the same prompt twice"):
        run(tmp_path / "s", prompts=[PROMPTS[0], PROMPTS[0]])
    with pytest.raises(ArgumentError, match="prompts_per_shard"):
        sample_references(PROMPTS, Echo(), tmp_path / "s", prompts_per_shard=0)


# -- prompts ---------------------------------------------------------------------------------------


def test_prompts_of_any_table(tmp_path):
    rows = [
        {"prompt": "Hello"},
        {"prompt": user("Hello"), "reward": 1.0},
        {"prompt": [{"role": "system", "content": "s"}, *user("b")]},
    ]
    found = load_prompts(rows)
    assert found.rows == 3
    assert found.prompts == (user("Hello"), [{"role": "system", "content": "s"}, *user("b")])
    assert load_prompts(rows, limit=1).prompts == (user("Hello"),)
    file = tmp_path / "p.jsonl"
    file.write_text('{"instruction": "one"}\n{"instruction": "two"}\n')
    assert load_prompts(file, columns={"prompt": "instruction"}).prompts == (user("one"), user("two"))
    talk = [*user("q"), {"role": "assistant", "content": "a"}]
    implicit = [{"chosen": talk, "rejected": [*user("q"), {"role": "assistant", "content": "b"}]}]
    assert load_prompts(implicit).prompts == (user("q"),)


def test_prompts_that_are_none():
    with pytest.raises(DataError) as caught:
        load_prompts([{"prompt": ""}, {"prompt": 3}, {"text": "x"}, {"prompt": "fine"}])
    assert [problem.row for problem in caught.value.problems] == [1, 2, 3]


# -- samples from elsewhere ------------------------------------------------------------------------


def test_samples_made_elsewhere(tmp_path):
    flat = [
        {"prompt": "a", "completion": "x", "num_tokens": 2, "cut_off": False},
        {"prompt": "b", "completion": "", "num_tokens": 1, "cut_off": False},
        {"prompt": "a", "completion": "y", "num_tokens": 9, "cut_off": True},
    ]
    rows = read_samples(import_samples(flat, tmp_path / "flat", note={"model": "m", "temperature": 1.0}))
    assert [(r["prompt"][0]["content"], r["index"], r["completion"], r["cut_off"]) for r in rows] == [
        ("a", 0, "x", False),
        ("a", 1, "y", True),
        ("b", 0, "", False),
    ]
    nested = [{"q": "a", "outs": ["x", "y"]}, {"q": "b", "outs": [""]}]
    file = tmp_path / "n.parquet"
    Dataset.from_list(nested).to_parquet(str(file))
    again = read_samples(import_samples(file, tmp_path / "n", columns={"prompt": "q", "completions": "outs"}))
    assert again["completion"] == rows["completion"]
    assert again["num_tokens"] == [None] * 3
    with pytest.raises(ArgumentError, match="prompts_per_shard must be at least 1"):
        import_samples(flat, tmp_path / "none", prompts_per_shard=0)
    parts = import_samples(flat, tmp_path / "parts", prompts_per_shard=1)
    assert sorted(p.name for p in parts.glob("*.parquet")) == ["shard-00000.parquet", "shard-00001.parquet"]
    assert read_samples(parts).to_list() == rows.to_list()
    ours = run(tmp_path / "ours")  # our own shards are a legal source
    moved = read_samples(import_samples(read_samples(ours), tmp_path / "moved"))
    assert moved.to_list() == read_samples(ours).to_list()


def test_samples_of_a_csv_file_and_of_one_with_gaps(tmp_path):
    file = tmp_path / "s.csv"
    file.write_text("prompt,completion,num_tokens,cut_off,reward\na,7,3,True,1\na,y,,False,0.5\n")
    rows = read_samples(import_samples(file, tmp_path / "s"))
    assert (rows["completion"], rows["num_tokens"]) == (["7", "y"], [3, None])
    assert (rows["cut_off"], rows["reward"]) == ([True, False], [1.0, 0.5])
    gaps = [{"prompt": "a", "completion": c, "num_tokens": n} for c, n in (("7", 3.0), ("y", None))]
    assert read_samples(import_samples(gaps, tmp_path / "g"))["num_tokens"] == [3, None]


def test_columns_that_may_be_meant_are_named(tmp_path):
    with pytest.raises(DataError, match="column 'completion': found nothing.* the columns 'prompt', 'out'"):
        import_samples([{"prompt": "a", "out": "x"}], tmp_path / "s")
    with pytest.raises(DataError, match=r"column 'prompt': found nothing.* the columns \['question'\]"):
        load_prompts([{"question": "a"}])


def test_conversations_in_a_csv_file(tmp_path):
    file = tmp_path / "p.csv"
    turns = [*user("a"), {"role": "assistant", "content": "b"}, *user("c")]
    quoted = json.dumps(turns).replace('"', '""')
    file.write_text(f'prompt\n"{quoted}"\n[1] is text\n')
    assert load_prompts(file).prompts == (turns, user("[1] is text"))


def test_importing_is_repeatable_and_does_not_mix(tmp_path):
    rows = [{"prompt": "a", "completion": "x"}]
    import_samples(rows, tmp_path / "s")
    import_samples(rows, tmp_path / "s")
    with pytest.raises(RunError, match="digest"):
        import_samples([{"prompt": "a", "completion": "z"}], tmp_path / "s")


def test_illegal_samples_are_all_named(tmp_path):
    rows = [
        {"prompt": "a", "completion": "x"},
        {"prompt": "a", "completion": None},
        {"prompt": "", "completion": "x"},
        {"prompt": "a", "completions": []},
        {"prompt": "a", "completions": ["x", 3]},
        {"prompt": "a", "completions": ["x", "y"], "cut_off": [True]},
        {"prompt": "a", "completion": "x", "num_tokens": -1},
        {"prompt": "a", "completion": "x", "cut_off": "no"},
        {"prompt": "a", "completion": "x", "completions": ["y"]},
        {"prompt": "a", "completion": "x\ud83d"},
        {"prompt": "a", "completion": "x", "num_tokens": 2**31},
        {"prompt": "a", "completion": "x", "num_tokens": 2.5},
        {"prompt": "a", "completion": "x", "reward": 10**400},
    ]
    with pytest.raises(DataError) as caught:
        import_samples(rows, tmp_path / "s")
    places = [(problem.row, problem.column) for problem in caught.value.problems]
    assert places == [
        (2, "completion"),
        (3, "prompt"),
        (4, "completions"),
        (5, "completions"),
        (6, "cut_off"),
        (7, "num_tokens"),
        (8, "cut_off"),
        (9, "completions"),
        (10, "completion"),
        (11, "num_tokens"),
        (12, "num_tokens"),
        (13, "reward"),
    ]
    assert not (tmp_path / "s").exists()
    with pytest.raises(ArgumentError, match="is not a column of samples; allowed: prompt"):
        import_samples(rows, tmp_path / "s", columns={"text": "x"})
