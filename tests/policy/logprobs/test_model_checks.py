"""What is said of a model before it is trained: too few positions, half precision, dropout, reference."""

from __future__ import annotations

import logging

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig

import tiny_policy
import tiny_tables
from pluralign import losses
from pluralign.errors import ArgumentError, ConfigError
from pluralign.policy import FunctionReward, Objective, OfflineConfig, OfflineTrainer
from pluralign.policy.offline.objectives import OBJECTIVES

LENGTH = FunctionReward(lambda prompts, texts: [float(len(text)) for text in texts], "length")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def made(folder, model=None, table=None, evaluation=None, options=None, **others):
    defaults = {"method": "dpo", "beta": 0.5, "report_to": "none", "use_cpu": True, "disable_tqdm": True}
    return OfflineTrainer(
        tiny_policy.model() if model is None else model,
        OfflineConfig(str(folder), **(defaults | (options or {}))),
        tiny_tables.pairs(6) if table is None else table,
        evaluation,
        tiny_policy.tokenizer(),
        **others,
    )


def test_sequences_that_the_model_has_no_positions_for(tmp_path):
    row = {"prompt": "ab", "chosen": "c" * 40, "rejected": "d"}
    with pytest.raises(
        ConfigError, match=r"up to \d+ tokens and the model 32 positions; allowed: at most 32"
    ):
        made(tmp_path, tiny_policy.model(positions=32), Dataset.from_list([row]))
    made(tmp_path, tiny_policy.model(positions=32), Dataset.from_list([row]), options={"max_length": 32})


def test_training_in_half_precision_is_reported(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "pluralign"):
        made(tmp_path / "whole")
        adapter = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
        made(tmp_path / "adapter", tiny_policy.model().bfloat16(), peft_config=adapter)
        assert "rounding" not in caplog.text
        made(tmp_path / "half", tiny_policy.model().bfloat16())
    assert "weights are trained in torch.bfloat16" in caplog.text


def test_an_adapters_dropout_does_not_vanish_in_silence(tmp_path, caplog):
    adapter = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", lora_dropout=0.1)
    with caplog.at_level(logging.WARNING, "pluralign"):
        made(tmp_path / "kept", peft_config=adapter, options={"disable_dropout": False})
        assert "lora_dropout" not in caplog.text
        made(tmp_path / "off", peft_config=adapter)
    assert caplog.text.count("lora_dropout is switched off") == 1


def test_a_reference_by_name_and_the_policy_as_its_own_reference(tmp_path):
    table = tiny_tables.pairs(4)
    folder = tiny_policy.saved(tmp_path / "reference", seed=1)
    found = []
    for reference in (str(folder), tiny_policy.model(1)):
        trainer = made(tmp_path / f"out{len(found)}", table=table, ref_model=reference)
        trainer.ensure_reference()
        found.append(trainer._reference)
    torch.testing.assert_close(found[0], found[1])
    policy = tiny_policy.model()
    options = {"eval_max_new_tokens": 6}
    made(tmp_path / "same", policy, table, tiny_tables.pairs(2), options, reward=LENGTH, ref_model=policy)
    assert all(weight.requires_grad for weight in policy.parameters())
    small = tiny_policy.model(1)
    small.resize_token_embeddings(100)
    with pytest.raises(ArgumentError, match="the model knows 100"):
        made(tmp_path / "small", table=table, ref_model=small)


def test_an_adapter_that_begins_anywhere_is_measured_from_there(tmp_path):
    """The reference is the policy as it is given, adapter included, and not what lies under the adapter."""
    adapter = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    torch.manual_seed(0)
    trainer = made(
        tmp_path,
        evaluation=tiny_tables.pairs(3, 1),
        peft_config=adapter,
        reward=LENGTH,
        options={"eval_max_new_tokens": 6},
    )
    assert trainer.evaluate()["eval_samples/kl"] == pytest.approx(0, abs=1e-5)


def test_a_reference_that_mixes_packed_sequences_is_run_one_by_one(tmp_path):
    """A recurrent reference knows nothing of positions that begin again."""
    from transformers import MambaConfig, MambaForCausalLM

    found = []
    for most in (1, 64):
        torch.manual_seed(0)
        config = MambaConfig(vocab_size=261, hidden_size=16, num_hidden_layers=1, initializer_range=1.0)
        other = MambaForCausalLM(config).eval()
        options = {"eval_max_new_tokens": 6, "eval_batch_prompts": most}
        table = tiny_tables.pairs(4, 1)
        trainer = made(tmp_path, evaluation=table, reward=LENGTH, ref_model=other, options=options)
        found.append(trainer.evaluate()["eval_samples/kl"])
    assert found[0] == pytest.approx(found[1], abs=1e-3)


def test_an_evaluation_table_does_not_replace_the_training_table(tmp_path):
    with pytest.raises(ArgumentError, match="called 'train'"):
        made(tmp_path, evaluation={"train": tiny_tables.pairs(2)})


def test_an_objective_of_ones_own_has_its_own_beta_everywhere(tmp_path):
    rows = [row | {"ref_rewards": [0.0, 0.5, 1.0]} for row in tiny_tables.unpaired(4).to_list()]
    objective = Objective(OBJECTIVES["qrpo"].loss, 0.7, ("unpaired",), rewards=True, ranks=True)
    trainer = made(
        tmp_path,
        table=Dataset.from_list(rows),
        objective=objective,
        options={"method": "qrpo", "beta": None, "partition": "finite"},
    )
    assert trainer.settings.beta == 0.7
    ranks = torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.float64)  # each among the other two
    wanted = float(losses.log_partition(0.7, reference_ranks=ranks))
    assert trainer.prepared["train"].rows["log_partition_completion"][:] == pytest.approx([wanted] * 4)


@pytest.mark.parametrize("name", ["partition", "pair_responses", "estimator", "log_prob_kernel"])
def test_a_misspelt_choice_is_an_error(tmp_path, name):
    with pytest.raises(ConfigError, match=f"{name}: received 'finit'; allowed:"):
        OfflineConfig(str(tmp_path), **{name: "finit"})
