"""Chunked log-probabilities: against full logits in value and gradient, and what is held in memory."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pluralign.errors import ArgumentError
from pluralign.policy.logprobs.chunked import token_log_probs
from pluralign.policy.logprobs.logits import LogitRule


def problem(positions=13, width=8, vocabulary=29, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(positions, width, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(vocabulary, width, generator=generator).to(dtype).requires_grad_()
    bias = torch.randn(vocabulary, generator=generator).to(dtype).requires_grad_()
    tokens = torch.randint(vocabulary, (positions,), generator=generator)
    return hidden, weight, bias, tokens


def plain(hidden, weight, bias, tokens, rule):
    logits = rule.scale * (hidden @ weight.T + bias)
    if rule.cap is not None:
        logits = rule.cap * torch.tanh(logits / rule.cap)
    return logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]


@pytest.mark.parametrize("rule", [LogitRule(), LogitRule(scale=0.3), LogitRule(cap=2.0), LogitRule(1.7, 5.0)])
@pytest.mark.parametrize("chunk", [1, 5, 13, 100, None])
def test_values_and_gradients_are_those_of_full_logits(rule, chunk):
    hidden, weight, bias, tokens = problem()
    upstream = torch.randn(13, generator=torch.Generator().manual_seed(1))
    results = []
    for function in (
        lambda: plain(hidden, weight, bias, tokens, rule),
        lambda: token_log_probs(hidden, weight, tokens, bias, rule, chunk),
    ):
        value = function()
        gradients = torch.autograd.grad((value * upstream).sum(), (hidden, weight, bias))
        results.append((value, *gradients))
    for wanted, found in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rule", [LogitRule(), LogitRule(0.5, 3.0)])
def test_gradcheck(rule):
    hidden, weight, bias, tokens = problem(5, 3, 7, torch.float64)
    assert torch.autograd.gradcheck(
        lambda h, w, b: token_log_probs(h, w, tokens, b, rule, 2), (hidden, weight, bias)
    )


@given(st.integers(1, 20), st.integers(2, 40), st.integers(1, 25))
def test_chunks_do_not_change_values(positions, vocabulary, chunk):
    hidden, weight, _, tokens = problem(positions, 4, vocabulary)
    whole = token_log_probs(hidden, weight, tokens, chunk=positions)
    torch.testing.assert_close(token_log_probs(hidden, weight, tokens, chunk=chunk), whole)


def test_half_precision_is_summed_in_float32():
    """bfloat16 weights give the log-probabilities of exactly those weights, not of rounded logits."""
    hidden, weight, bias, tokens = problem(dtype=torch.bfloat16)
    found = token_log_probs(hidden, weight, tokens, bias)
    wanted = plain(hidden.double(), weight.double(), bias.double(), tokens, LogitRule())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-5)
    gradient = torch.autograd.grad(found.sum(), weight)[0]
    assert gradient.dtype == torch.bfloat16
    reference = torch.autograd.grad(wanted.sum(), weight)[0]
    torch.testing.assert_close(gradient, reference, atol=1e-2, rtol=1e-2)


def test_autocast_uses_its_dtype_and_gives_float32():
    hidden, weight, _, tokens = problem()
    with torch.autocast("cpu", torch.bfloat16):
        found = token_log_probs(hidden, weight, tokens)
    wanted = token_log_probs(hidden.bfloat16(), weight.bfloat16(), tokens)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=2e-2, rtol=2e-2)


def test_frozen_head_gets_no_gradient_and_no_buffer():
    hidden, weight, _, tokens = problem()
    frozen = weight.detach()
    token_log_probs(hidden, frozen, tokens).sum().backward()
    assert hidden.grad is not None
    assert frozen.grad is None


def test_no_tensor_has_positions_times_vocabulary():
    """Every tensor that torch allocates in both passes is smaller than the logits of all positions."""
    from torch.utils._python_dispatch import TorchDispatchMode

    positions, vocabulary = 256, 512
    largest = [0]

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest[0] = max(largest[0], out.numel())
            return out

    hidden, weight, _, tokens = problem(positions, 8, vocabulary)
    with Watch():
        token_log_probs(hidden, weight, tokens, chunk=16).sum().backward()
    assert largest[0] == 16 * vocabulary


def test_bad_input():
    hidden, weight, _, tokens = problem()
    with pytest.raises(ArgumentError, match="weight"):
        token_log_probs(hidden, weight[:, 1:], tokens)
    with pytest.raises(ArgumentError, match=r"tokens must have shape \[13\]"):
        token_log_probs(hidden, weight, tokens[1:])
    with pytest.raises(ArgumentError, match="chunk"):
        token_log_probs(hidden, weight, tokens, chunk=0)
