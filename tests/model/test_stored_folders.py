"""Model folders that were touched: every key of every family deleted, mistyped, enlarged.

What is not as it was saved is refused by an `ArtifactError` that names it, before anything is allocated;
never another exception, never another score. Folders from before there were digests are held against
the schema.
"""

from __future__ import annotations

import copy
import json
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import pluralign as pl
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, talk, votes_rows
from pluralign.backbones.config import CONVERSATION_FORMAT
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.heads import FAMILIES, Attribute, Gate, GateShape, QuantileHead, Reference
from pluralign.heads.debias import Debias
from pluralign.heads.scaling import ColumnScaling
from pluralign.heads.schema import choice, each, flag, listed, number, optional, record, text, whole
from pluralign.model import folder as model_folder

TEXTS = [talk(f"{x} {y} words") for x in (-1.5, 0.0, 2.0) for y in (0.3, 1.2)]
CONFIGS: dict[str, dict[str, Any]] = {
    "bradley_terry": {"l2": 0.01},
    "categorical": {"l2": 0.003, "steps": 20, "hidden": 3, "loss": "cross_entropy"},
    "gaussian_ensemble": {"l2": 0.1, "std_l2": 0.1, "heads": 2, "steps": 20, "hidden": 2},
    "quantile": {"l1": 0.003, "levels": [0.1, 0.5, 0.9]},
    "regression": {"l2": 0.1, "residual": "gaussian"},
}
# "compares" and "debiased" are no families: a categorical head on comparisons, and every part that mixes.
KINDS = [*sorted(FAMILIES), "compares", "debiased"]


def make(kind: str) -> pl.RewardModel:
    options: dict[str, Any] = {"backbone": FakeBackbone(), "cache": None}
    if kind == "bradley_terry":
        return pl.fit(kind, pairs=pl.load_pairs(pairs_rows()), config=CONFIGS[kind], **options)
    if kind == "compares":
        votes = pl.load_comparisons(votes_rows())
        return pl.fit(
            "categorical", votes=votes, config={"l2": 0.1, "steps": 20, "loss": "cross_entropy"}, **options
        )
    if kind == "debiased":
        return pl.RewardModel(FakeBackbone(), debiased())
    return pl.fit(kind, ratings=pl.load_ratings(ratings_rows(attributes=2)), config=CONFIGS[kind], **options)


def debiased() -> QuantileHead:
    torch.manual_seed(0)
    attributes = (Attribute("a", 0.0, 4.0), Attribute("b", 1.0, 5.0, 1.0))
    gate = Gate(GateShape(6, 2, hidden=3, layers=2, regularisation="batchnorm")).eval().requires_grad_(False)
    gate.out.weight.normal_()
    return QuantileHead(
        ColumnScaling.empty(6),
        torch.randn(2, 2, 6),
        torch.randn(2, 2),
        torch.tensor([0.25, 0.75]),
        attributes,
        Reference(0.1, 0.7),
        gate=gate,
        debias=Debias(
            torch.eye(2) + 0.1, length_slope=torch.ones(2), length_unit="characters", length_span=9.0
        ),
        mix="mixture",
    )


Saved = tuple[Path, torch.Tensor]


@pytest.fixture(scope="module", params=KINDS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A folder and what its model says."""
    model = make(request.param)
    return model.save_pretrained(tmp_path_factory.mktemp("saved") / "model"), model.score(TEXTS)


# The smallest, and the one with every part that mixes; the others' many keys are left to the slow tests.
QUICK = {"bradley_terry", "debiased"}
every_kind = pytest.mark.parametrize(
    "saved",
    [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in KINDS],
    indirect=True,
)


def reload(path: Path) -> pl.RewardModel:
    return pl.RewardModel.from_pretrained(path, backbone=FakeBackbone(), cache=None)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every key and entry of a JSON value stands."""
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, entry in entries:
        yield (*path, key)
        yield from places(entry, (*path, key))


MISSING = object()
NULLABLE = {"step", "revision", "quantization", "debias", "gate", "edges", "length_unit", "fingerprint"}
VALUES = [
    MISSING, None, True, False, 0, 1, -1, 2, 2**31, 2**62, -(2**40), 10**400, 0.5, -0.5, 1e30, 1e308,
    float("nan"), float("inf"), "", "x", "1", [], [1], [[]], {}, {"x": 1},
]  # fmt: skip


def changed(config: Any, place: tuple[Any, ...], value: Any) -> Any:
    result = copy.deepcopy(config)
    inner = result
    for key in place[:-1]:
        inner = inner[key]
    if value is MISSING:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return result


def old(path: Path, to: Path) -> Path:
    """The folder as it was saved before there were digests."""
    shutil.copytree(path, to)
    config = json.loads((to / "config.json").read_text())
    del config["sha256"]
    (to / "config.json").write_text(json.dumps(config))
    save_file(load_file(to / "model.safetensors"), to / "model.safetensors", metadata={"format": "pt"})
    return to


@every_kind
def test_a_changed_config_is_refused_or_says_the_same(saved: Saved, tmp_path: Path) -> None:
    path, scores = Path(shutil.copytree(saved[0], tmp_path / "model")), saved[1]
    config = json.loads((path / "config.json").read_text())
    head_places = [one for one in places(config) if one[0] not in ("fitted", "baselines")]
    before, refused, loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0, 0
    for place in [*head_places, ("fitted",), ("baselines",)]:
        for value in VALUES:
            (path / "config.json").write_text(json.dumps(changed(config, place, value)))
            try:
                found = reload(path).score(TEXTS)
            except ArtifactError:
                refused += 1
                continue
            assert torch.equal(found, scores), (place, value)
            loaded += 1
    assert refused > 10 * loaded > 0
    if sys.platform != "linux":
        return
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000  # KiB: nothing of the size that a config states


@every_kind
def test_a_changed_config_without_digests_is_refused_or_loads(saved: Saved, tmp_path: Path) -> None:
    path = old(saved[0], tmp_path / "model")
    torch.testing.assert_close(reload(path).score(TEXTS), saved[1], rtol=0, atol=0)
    config = json.loads((path / "config.json").read_text())
    for place in places(config):
        if place[0] in ("fitted", "baselines"):
            continue
        for value in VALUES:
            (path / "config.json").write_text(json.dumps(changed(config, place, value)))
            try:
                reload(path)
            except ArtifactError:
                continue
            # A number in its range cannot be told from the one that was saved; all else can.
            named = place[-1] in ("name_or_path", "revision", "pluralign", "fitted", "baselines", "sha256")
            assert value is not MISSING or named, place
            kept = [type(value)] if not isinstance(value, (int, float)) else [int, float]
            original = config
            for key in place:
                original = original[key]
            nullable = place[-1] in NULLABLE
            same = any(isinstance(original, one) for one in kept) or original is None or nullable
            assert value is MISSING or same, (place, value)


def test_every_family_says_which_tensors_it_has(saved: Saved) -> None:
    head = reload(saved[0]).head
    spec = json.loads(json.dumps(head.spec()))
    stated = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in head.state_dict().items()}
    assert head.tensor_shapes(spec) == stated


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int8])
def test_weights_of_another_dtype_are_refused(saved: Saved, tmp_path: Path, dtype: torch.dtype) -> None:
    path = old(saved[0], tmp_path / "model")
    tensors = load_file(path / "model.safetensors")
    name = next(name for name in tensors if name.startswith("head.") and name.endswith("weight"))
    tensors[name] = tensors[name].to(dtype)
    save_file(tensors, path / "model.safetensors")
    with pytest.raises(ArtifactError, match=rf"{name} is .*; needed: torch.float32"):
        reload(path)


def test_tensors_of_another_shape_or_name_are_refused(saved: Saved, tmp_path: Path) -> None:
    path = old(saved[0], tmp_path / "model")
    tensors = load_file(path / "model.safetensors")
    for name, tensor in tensors.items():
        rest = {key: value for key, value in tensors.items() if key != name}
        larger = torch.zeros(
            (*tensor.shape[:-1], tensor.shape[-1] + 1) if tensor.ndim else (1,), dtype=tensor.dtype
        )
        for wrong in (rest, rest | {name: larger}, rest | {name + "x": tensor}):
            save_file(wrong, path / "model.safetensors")
            with pytest.raises(ArtifactError, match="does not fit its config"):
                reload(path)


def test_weights_that_were_changed_are_refused(saved: Saved, tmp_path: Path) -> None:
    path = Path(shutil.copytree(saved[0], tmp_path / "model"))
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-2] ^= 1  # a bit of a float: still finite, another score
    (path / "model.safetensors").write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match=r"model\.safetensors is not the file that was saved|NaN"):
        reload(path)


def test_a_model_may_move_and_be_renamed(saved: Saved, tmp_path: Path) -> None:
    path = Path(shutil.copytree(saved[0], tmp_path / "model"))
    config = json.loads((path / "config.json").read_text())
    config["backbone"] |= {"name_or_path": "elsewhere", "revision": "abc"}
    config["fitted"]["note"] = "moved"
    (path / "config.json").write_text(json.dumps(config))
    assert torch.equal(reload(path).score(TEXTS), saved[1])


def test_what_could_not_be_read_back_is_not_saved(tmp_path: Path) -> None:
    head = debiased()
    for spoilt, message in (
        (copy.deepcopy(head).half(), "torch.float16.*only torch.float32"),
        (copy.deepcopy(head), "NaN or infinite"),
    ):
        if spoilt.weight.dtype == torch.float32:
            spoilt.weight[0, 0, 0] = float("nan")
        with pytest.raises(ArtifactError, match=message):
            pl.RewardModel(FakeBackbone(), spoilt).save_pretrained(tmp_path / "model")
    with pytest.raises(ArtifactError, match="fitted"):
        pl.RewardModel(FakeBackbone(), head, fitted={"loss": float("nan")}).save_pretrained(
            tmp_path / "model"
        )
    assert list(tmp_path.iterdir()) == []


def test_backbones_of_another_width_are_refused(saved: Saved) -> None:
    backbone = FakeBackbone()
    backbone.response_size = 7  # type: ignore[attr-defined]
    with pytest.raises(ArtifactError, match="vectors of 6 numbers, those of the backbone have 7"):
        pl.RewardModel.from_pretrained(saved[0], backbone=backbone, cache=None)


def test_keys_that_come_twice_and_depths_without_end_are_not_json(tmp_path: Path) -> None:
    path = make("debiased").save_pretrained(tmp_path / "model")
    content = (path / "config.json").read_text()
    for wrong in (
        content.replace('"format": 1', '"format": 1, "format": 1'),
        "[" * 100_000,
        '{"format": NaN}',
    ):
        (path / "config.json").write_text(wrong)
        with pytest.raises(ArtifactError, match="damaged"):
            reload(path)


def test_scores_are_finite_or_name_their_rows() -> None:
    model = pl.RewardModel(FakeBackbone(), debiased())
    model.head.reference = Reference(0.0, 1e-300)  # legal, and beyond float32
    with pytest.raises(
        ArgumentError, match=r"mean gives -?(inf|nan) for conversation 0, 1, 2, 3, 4, \.\.\.; needed: finite"
    ):
        model.score(TEXTS)
    model = pl.RewardModel(FakeBackbone(), debiased())
    assert model.score(TEXTS).isfinite().all()
    with pytest.raises(ArgumentError, match="exponential:1000.* gives -inf for conversation"):
        model.score(TEXTS, risk="exponential:1000")


# -- combinations ----------------------------------------------------------------------------------


def test_changed_combinations_are_refused_or_say_the_same(tmp_path: Path) -> None:
    sources = [make("bradley_terry"), make("debiased")]
    reference = [talk(f"{x / 7 - 2:.3f} 1 r{x}") for x in range(30)]
    both = pl.combine(sources, reference=reference, weights=[1, 3])
    path, scores = both.save_pretrained(tmp_path / "both"), both.score(TEXTS)
    config = json.loads((path / "config.json").read_text())
    load = pl.model.Combination.from_pretrained
    for place in places(config):
        for value in VALUES:
            (path / "config.json").write_text(json.dumps(changed(config, place, value)))
            try:
                found = load(path, backbone=FakeBackbone(), cache=None).score(TEXTS)
            except ArtifactError:
                continue
            assert torch.equal(found, scores), (place, value)
    (path / "config.json").write_text(json.dumps({**config, "sha256": {}}))
    tensors = load_file(path / "maps.safetensors")
    save_file({k: v.float() for k, v in tensors.items()}, path / "maps.safetensors")
    with pytest.raises(ArtifactError, match=r"0\.knots is torch\.float32"):
        load(path, backbone=FakeBackbone(), cache=None)


# -- checkers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (number(0, 1), [0, 1, 0.5], [-0.1, 1.1, True, "1", None, [1], float("nan"), float("inf"), 10**400]),
        (number(above=0), [1e-9], [0, -1]),
        (whole(1, 5), [1, 5], [0, 6, 1.0, True, "1", None]),
        (flag, [True, False], [0, 1, None, "true"]),
        (text, ["a"], ["", 1, None]),
        (choice("a", "b"), ["a"], ["c", ["a"], {}, None]),
        (optional(flag), [None, True], [0]),
        (listed(whole(), 1), [[0], [1, 2]], [[], 0, (1,), [None], {"0": 1}]),
        (listed(number(), ascending=True), [[], [1, 2]], [[1, 1], [2, 1]]),
        (listed(text, distinct=True), [["a", "b"]], [["a", "a"]]),
        (record({"a": flag}), [{"a": True}], [{}, {"b": "x"}, {"a": True, "c": 1}, [], None]),
        (record({"a": flag}, {"b": text}), [{"a": True}, {"a": True, "b": "x"}], [{}, {"b": "x"}]),
        (each(flag), [{}, {"x": True}], [{"x": 1}, [True]]),
    ],
)  # fmt: skip
def test_checkers(check: Any, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        check(value, "here")
    for value in bad:
        with pytest.raises(ArtifactError, match="here"):
            check(value, "here")


def test_a_message_names_file_key_found_and_allowed(tmp_path: Path) -> None:
    path = make("debiased").save_pretrained(tmp_path / "model")
    config = json.loads((path / "config.json").read_text())
    config["head"]["gate"]["hidden"] = "many"
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError) as caught:
        model_folder.read(path)
    assert str(caught.value) == (
        f"{path}/config.json: config.head.gate.hidden is 'many'; allowed: a whole number from 1 to {2**53}"
    )


class FakeDecoder(FakeBackbone):
    """As a backbone describes itself that reads whole conversations."""

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "context": "conversation", "reading": CONVERSATION_FORMAT}


def test_a_decoder_that_was_fitted_on_other_tokens_is_refused(tmp_path: Path) -> None:
    pairs = pl.load_pairs(pairs_rows())
    model = pl.fit("bradley_terry", pairs=pairs, config={"l2": 0.01}, backbone=FakeDecoder(), cache=None)
    model.save_pretrained(tmp_path / "m")
    assert pl.RewardModel.from_pretrained(tmp_path / "m", backbone=FakeDecoder()).head.family
    file = tmp_path / "m" / "config.json"
    config = json.loads(file.read_text())
    del config["backbone"]["reading"]  # as before there was one
    file.write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match="conversations had other tokens .format 1, now 2"):
        pl.RewardModel.from_pretrained(tmp_path / "m", backbone=FakeDecoder())
