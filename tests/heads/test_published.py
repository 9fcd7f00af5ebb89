"""Published weights of ArmoRM and QRM: made-up tensors of their shapes against a plain computation."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import batch_norm, relu

from pluralign.errors import ArgumentError, ArtifactError
from pluralign.heads import FAMILIES, Attribute
from pluralign.heads.published import PUBLISHED_ATTRIBUTES, load_armorm, load_qrm

WIDTH, HIDDEN, K, A = 24, 16, 5, len(PUBLISHED_ATTRIBUTES)


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shared(rows):
    return {
        "regression_layer.weight": 0.2 * draw(rows, WIDTH, seed=1),
        "reward_transform_matrix": torch.eye(A) - 0.3 * torch.rand(A, A, generator=torch.manual_seed(2)),
        "gating.logit_scale": torch.tensor([1.7]),
        "lm_head.weight": draw(3, 3, seed=3),  # of the backbone, in the same files
    }


def armorm_tensors():
    tensors = shared(A)
    for i, (rows, columns) in enumerate([(HIDDEN, WIDTH), (HIDDEN, HIDDEN), (HIDDEN, HIDDEN), (A, HIDDEN)]):
        tensors[f"gating.layers.{i}.weight"] = draw(rows, columns, seed=10 + i)
        tensors[f"gating.layers.{i}.bias"] = draw(rows, seed=20 + i)
    return tensors


def qrm_tensors():
    tensors = shared(A * K)
    for i, columns in ((0, WIDTH), (3, HIDDEN), (6, HIDDEN)):
        tensors[f"gating.layers.{i}.weight"] = draw(HIDDEN, columns, seed=30 + i)
        norm = f"gating.layers.{i + 2}"
        tensors[f"{norm}.weight"] = draw(HIDDEN, seed=40 + i)
        tensors[f"{norm}.bias"] = draw(HIDDEN, seed=50 + i)
        tensors[f"{norm}.running_mean"] = draw(HIDDEN, seed=60 + i)
        tensors[f"{norm}.running_var"] = draw(HIDDEN, seed=70 + i).square() + 0.1
        tensors[f"{norm}.num_batches_tracked"] = torch.tensor(7)
    tensors["gating.layers.9.weight"] = draw(A, HIDDEN, seed=80)
    tensors["gating.layers.9.bias"] = draw(A, seed=81)
    return tensors


@pytest.fixture(scope="module")
def states():
    return draw(40, WIDTH, seed=90), draw(40, WIDTH, seed=91)


def test_armorm_equals_a_plain_computation(states):
    t, (response, prompt) = armorm_tensors(), states
    head = load_armorm(t)
    x = prompt
    for i in range(4):
        x = x @ t[f"gating.layers.{i}.weight"].T + t[f"gating.layers.{i}.bias"]
        x = relu(x) if i < 3 else x
    weights = torch.softmax(x / 10, 1)
    rewards = response @ t["regression_layer.weight"].T @ t["reward_transform_matrix"]
    score = (weights * 1.7 * rewards).sum(1)
    torch.testing.assert_close(head.gate_weights(prompt), weights)
    torch.testing.assert_close(head.raw(response, prompt).mean(), score)
    plain = response @ t["regression_layer.weight"].T
    distributions = head.attribute_distributions(response)
    assert list(distributions) == list(PUBLISHED_ATTRIBUTES)
    for i, distribution in enumerate(distributions.values()):
        torch.testing.assert_close(distribution.mean(), plain[:, i])


def test_qrm_equals_a_plain_computation(states):
    t, (response, prompt) = qrm_tensors(), states
    head = load_qrm(t, temperature=5.0)
    x = prompt
    for i in (0, 3, 6):
        norm = f"gating.layers.{i + 2}"
        x = relu(x @ t[f"gating.layers.{i}.weight"].T)
        x = batch_norm(
            x,
            t[f"{norm}.running_mean"],
            t[f"{norm}.running_var"],
            t[f"{norm}.weight"],
            t[f"{norm}.bias"],
        )
    x = x @ t["gating.layers.9.weight"].T + t["gating.layers.9.bias"]
    weights = torch.softmax(x / 5, 1)
    values = torch.zeros(40, A, K)
    for a in range(A):  # attribute-major: all levels of an attribute lie together
        for k in range(K):
            values[:, a, k] = response @ t["regression_layer.weight"][a * K + k]
    transformed = torch.einsum("nak,ab->nbk", values, t["reward_transform_matrix"])
    score = (1.7 * weights[:, :, None] * transformed).sum(1).mean(1)
    torch.testing.assert_close(head.gate_weights(prompt), weights)
    torch.testing.assert_close(head.raw(response, prompt).plain_average(), score)
    torch.testing.assert_close(head.levels, torch.arange(1, K + 1).double() / (K + 1))
    distribution = head.attribute_distributions(response)["helpsteer-verbosity"]
    torch.testing.assert_close(distribution.values, values[:, 4].sort(-1).values)


@pytest.mark.parametrize(("load", "make"), [(load_armorm, armorm_tensors), (load_qrm, qrm_tensors)])
def test_files_folders_and_dtypes_give_the_same_head(load, make, states, tmp_path):
    tensors = {
        name: tensor.bfloat16().contiguous() if tensor.is_floating_point() else tensor
        for name, tensor in make().items()
    }
    names = list(tensors)
    save_file(tensors, tmp_path / "whole.safetensors")
    parts = tmp_path / "parts"
    parts.mkdir()
    for i, chosen in enumerate((names[::2], names[1::2])):
        save_file({n: tensors[n] for n in chosen}, parts / f"model-{i}.safetensors")
    heads = [load(tensors), load(tmp_path / "whole.safetensors"), load(str(parts))]
    scores = [head.raw(*states).mean() for head in heads]
    torch.testing.assert_close(scores[0], scores[1])
    torch.testing.assert_close(scores[0], scores[2])
    twin = FAMILIES[heads[0].family].from_spec(heads[0].spec()).eval()
    twin.load_state_dict(heads[0].state_dict())
    assert torch.equal(twin.raw(*states).mean(), scores[0])


def test_attributes_and_levels_can_be_given(states):
    scales = [Attribute(f"a{i}", -0.5, 4.5) for i in range(A)]
    head = load_armorm(armorm_tensors(), scales)
    plain = states[0] @ armorm_tensors()["regression_layer.weight"].T
    torch.testing.assert_close(head.attribute_distributions(states[0])["a2"].mean(), 5 * plain[:, 2] - 0.5)
    levels = [0.1, 0.2, 0.5, 0.8, 0.9]
    assert load_qrm(qrm_tensors(), levels=levels).levels.tolist() == levels


def without(tensors, name):
    return {k: v for k, v in tensors.items() if k != name}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: load_armorm({}), ArtifactError, "regression_layer.weight"),
        (lambda: load_armorm(without(armorm_tensors(), "gating.logit_scale")), ArtifactError, "logit_scale"),
        (lambda: load_armorm(armorm_tensors(), ["a", "b"]), ArgumentError, "19 rows"),
        (lambda: load_qrm(qrm_tensors(), levels=[0.2, 0.8]), ArgumentError, "2 were given"),
        (lambda: load_qrm(qrm_tensors(), ["a", "b"]), ArgumentError, "attributes times"),
        (
            lambda: load_armorm(armorm_tensors() | {"reward_transform_matrix": torch.eye(3)}),
            ArtifactError,
            "needed: \\(19, 19\\)",
        ),
        (
            lambda: load_qrm(without(qrm_tensors(), "gating.layers.5.running_mean")),
            ArtifactError,
            "do not fit|BatchNorm",
        ),
        (
            lambda: load_armorm(armorm_tensors() | {"gating.layers.1.weight": torch.zeros(4, 4)}),
            ArtifactError,
            "do not fit together",
        ),
        (
            lambda: load_armorm(armorm_tensors() | {"gating.logit_scale": torch.tensor([float("nan")])}),
            ArtifactError,
            "NaN or infinite",
        ),
        (lambda: load_armorm("/nowhere/at/all"), ArtifactError, "no safetensors"),
    ],
)
def test_what_does_not_fit_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(ArtifactError, match="damaged"):
        load_qrm(tmp_path)
