"""Compiled kernels give what plain ones give, compiled once; where they cannot be had, that is said."""

from __future__ import annotations

import logging

import pytest
import torch

import tiny_policy
from pluralign.errors import ConfigError
from pluralign.policy.logprobs import logits
from pluralign.policy.logprobs.chunked import token_log_probs
from pluralign.policy.logprobs.logits import PLAIN, Kernels, LogitRule, choose_kernels
from pluralign.policy.logprobs.scored_forward import install, use_kernels

CPU = torch.device("cpu")
CHOICE = {"vocabulary": 17, "bias": True, "rule": LogitRule(0.5, 3.0), "dtype": torch.float32}


def problem(positions, dtype=torch.float32, device=CPU, width=16, vocabulary=53):
    generator = torch.Generator().manual_seed(positions)
    hidden = torch.randn(positions, width, generator=generator).to(device, dtype).requires_grad_()
    weight = torch.randn(vocabulary, width, generator=generator).to(device, dtype).requires_grad_()
    bias = torch.randn(vocabulary, generator=generator).to(device, dtype).requires_grad_()
    tokens = torch.randint(vocabulary, (positions,), generator=generator).to(device)
    upstream = torch.randn(positions, generator=generator).to(device)
    return hidden, weight, bias, tokens, upstream


def answers(kernels, rule, hidden, weight, bias, tokens, upstream, chunk=7):
    found = token_log_probs(hidden, weight, tokens, bias, rule, chunk, kernels)
    return found, *torch.autograd.grad((found * upstream).sum(), (hidden, weight, bias))


@pytest.mark.slow
@pytest.mark.parametrize("rule", [LogitRule(), LogitRule(1.7, 5.0)])
def test_compiled_kernels_are_the_plain_ones_for_any_number_of_positions(rule):
    kernels = choose_kernels("compiled", CPU, 53, True, rule, torch.float32)
    assert kernels.name == "compiled"
    answers(kernels, rule, *problem(10))
    answers(kernels, rule, *problem(9))
    with torch._dynamo.config.patch(error_on_recompile=True):
        for positions in (12, 31):
            given = problem(positions)
            for one, other in zip(answers(kernels, rule, *given), answers(PLAIN, rule, *given), strict=True):
                torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_model_computes_with_the_kernels_that_it_was_given():
    from pluralign.policy.logprobs.packing import pack
    from pluralign.policy.logprobs.scored_forward import response_log_probs

    model, packed = tiny_policy.model(), pack([([3, 4], [5, 6, 7]), ([8], [9])], None)
    install(model)
    plain = response_log_probs(model, packed)
    assert use_kernels(model, "auto", CPU, None) == "plain"
    assert use_kernels(model, "compiled", CPU, torch.bfloat16) == "compiled"
    torch.testing.assert_close(response_log_probs(model, packed), plain)


def broken(*_):
    raise RuntimeError("no compiler\nsecond line")


def wrong(raw, bias, tokens, rule):
    chosen, normalizers = PLAIN.reduce(raw, bias, tokens, rule)
    return chosen, normalizers + 0.1


@pytest.mark.parametrize(
    ("kernels", "message"),
    [
        (Kernels("compiled", broken, PLAIN.slope), r"does not work here \(RuntimeError: no compiler\)"),
        (Kernels("compiled", wrong, PLAIN.slope), "numbers are off by 0.1"),
    ],
)
def test_kernels_that_do_not_work_are_refused(monkeypatch, kernels, message):
    monkeypatch.setattr(logits, "_compiled", lambda: kernels)
    with pytest.raises(ConfigError, match=message):
        choose_kernels("compiled", CPU, **CHOICE)
    assert choose_kernels("plain", CPU, **CHOICE) is PLAIN
    assert choose_kernels("auto", CPU, **CHOICE) is PLAIN


def test_auto_continues_without_them(monkeypatch, caplog):
    monkeypatch.setattr(logits, "_compiled", lambda: Kernels("compiled", broken, PLAIN.slope))
    with caplog.at_level(logging.WARNING, "pluralign"):
        assert choose_kernels("auto", torch.device("cuda"), **CHOICE) is PLAIN
    assert "are computed without compiled kernels" in caplog.text


def test_the_run_says_which_it_was(tmp_path):
    import tiny_tables
    from pluralign.policy import OfflineConfig, OfflineTrainer

    def made(**options):
        config = OfflineConfig(str(tmp_path), method="dpo", report_to="none", use_cpu=True, **options)
        return OfflineTrainer(
            tiny_policy.model(), config, tiny_tables.pairs(2), processing_class=tiny_policy.tokenizer()
        )

    assert made().log_prob_kernel == "plain"
    with pytest.raises(ConfigError, match="allowed: auto, plain, compiled"):
        made(log_prob_kernel="triton")


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@gpu
@pytest.mark.parametrize("asked", ["plain", "compiled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rule", [LogitRule(), LogitRule(0.5, 30.0)])
def test_on_a_gpu_values_and_gradients_are_those_of_float64(asked, dtype, rule):
    device = torch.device("cuda")
    kernels = choose_kernels(asked, device, 1000, True, rule, dtype)
    assert kernels.name == asked
    given = problem(300, dtype, device, 128, 1000)
    found = answers(kernels, rule, *given, chunk=128)
    wide = [tensor.detach().cpu().double() for tensor in given[:3]]
    wide = [tensor.requires_grad_() for tensor in wide]
    wanted = answers(PLAIN, rule, *wide, given[3].cpu(), given[4].cpu().double())
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found[0].cpu().double(), wanted[0], atol=1e-4, rtol=1e-5)
    for one, other in zip(found[1:], wanted[1:], strict=True):
        off = (one.cpu().double() - other).norm() / other.norm()
        assert off < (1e-2 if dtype == torch.bfloat16 else 1e-5)


@gpu
@pytest.mark.parametrize("asked", ["plain", "compiled"])
def test_on_a_gpu_less_is_held_than_the_logits(asked):
    device, positions, vocabulary = torch.device("cuda"), 8192, 65536  # logits: 2 GiB in float32
    kernels = choose_kernels(asked, device, vocabulary, False, LogitRule(), torch.bfloat16)
    hidden, weight, _, tokens, upstream = problem(positions, torch.bfloat16, device, 256, vocabulary)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    found = token_log_probs(hidden, weight, tokens, chunk=512, kernels=kernels)
    (found * upstream).sum().backward()
    assert torch.cuda.max_memory_allocated() - before < 4 * positions * vocabulary / 2
