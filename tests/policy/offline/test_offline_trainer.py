"""The trainer: the same step however it is split, packed or resumed; adapters; what is logged; bad input."""

from __future__ import annotations

import json
import logging
import math

import pytest
import torch
from datasets import Dataset

import tiny_policy
import tiny_tables
from pluralign import losses
from pluralign.errors import ArgumentError, ConfigError, DataError, FingerprintError, RunError
from pluralign.policy import Objective, OfflineConfig, OfflineTrainer

GENTLY = {"num_train_epochs": 8, "per_device_train_batch_size": 12, "learning_rate": 2e-4}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def trainer(folder, objective="dpo", table=None, model=None, evaluation=None, **options):
    made = {key: options.pop(key) for key in ("peft_config", "ref_model", "callbacks") if key in options}
    own = options.pop("own_objective", None)
    defaults = {
        "beta": 0.5,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 4,
        "logging_steps": 1,
        "warmup_steps": 0,
        "max_grad_norm": 0.0,
    }
    config = OfflineConfig(
        str(folder),
        method=objective,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        **(defaults | options),
    )
    return OfflineTrainer(
        tiny_policy.model() if model is None else model,
        config,
        tiny_tables.pairs() if table is None else table,
        evaluation,
        tiny_policy.tokenizer(),
        objective=own,
        **made,
    )


def weights(made):
    return {name: value.clone() for name, value in made.model.state_dict().items()}


def assert_equal_weights(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], **tolerance, msg=lambda m, n=name: f"{n}: {m}")


def plain_sums(model, table, side, prompt="prompt"):
    """Log-probabilities of each response, one at a time, from full logits."""
    tokenizer = tiny_policy.tokenizer()
    sums = []
    for row in table:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": row[prompt]}], tokenize=False, add_generation_prompt=True
        )
        before = tokenizer(text, add_special_tokens=False)["input_ids"]
        response = [*tokenizer(row[side], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        logits = model(input_ids=torch.tensor([[*before, *response]])).logits[0, len(before) - 1 : -1]
        sums.append(logits.log_softmax(-1).gather(1, torch.tensor(response)[:, None]).sum())
    return torch.stack(sums)


@pytest.mark.parametrize("objective", ["dpo", "qrpo", "qrpo_absolute", "rebel", "simpo"])
def test_every_objective_moves_what_it_measures(tmp_path, objective):
    beta = 2.0 if objective == "simpo" else 0.5
    made = trainer(tmp_path, objective, beta=beta, **GENTLY)
    made.train()
    lines = [line for line in made.state.log_history if "loss" in line]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert ("log_ratio/chosen" in lines[0]) == (objective != "simpo")
    assert ("break_even" in lines[0]) == objective.startswith("qrpo")


@pytest.mark.parametrize("objective", ["qrpo", "qrpo_absolute"])
def test_unpaired_rows(tmp_path, objective):
    made = trainer(tmp_path, objective, tiny_tables.unpaired(), **GENTLY)
    made.train()
    lines = [line for line in made.state.log_history if "loss" in line]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert {"logps/completion", "rewards/completion", "num_tokens", "cut_off"} <= set(lines[0])


def published_dpo(sums, fixed, rows):
    return losses.dpo(*sums, *fixed, beta=0.5)


def published_qrpo(sums, fixed, rows):
    """The definition: ranks among the references, both responses of a pair averaged."""
    total = 0
    for side, policy, reference in zip(("chosen", "rejected"), sums, fixed, strict=True):
        ranks = torch.tensor(
            [
                sum(r < row[f"reward_{side}"] for r in row["ref_rewards"]) / len(row["ref_rewards"])
                for row in rows
            ]
        )
        target = ranks - 0.5 * torch.log(torch.tensor(0.5) * (torch.exp(torch.tensor(2.0)) - 1))
        total = total + 0.5 * (target - 0.5 * (policy - reference)) ** 2
    return total


@pytest.mark.parametrize(("objective", "formula"), [("dpo", published_dpo), ("qrpo", published_qrpo)])
def test_the_first_step_is_the_gradient_of_the_published_formula(tmp_path, objective, formula):
    """One SGD step, the reference another model, against full logits of one response at a time."""
    table = tiny_tables.pairs(8)
    made = trainer(
        tmp_path,
        objective,
        table,
        ref_model=tiny_policy.model(1),
        max_steps=1,
        optim="sgd",
        per_device_train_batch_size=8,
        learning_rate=1e-3,
    )
    made.train()
    model, reference = tiny_policy.model(), tiny_policy.model(1)
    with torch.no_grad():
        fixed = [plain_sums(reference, table, side) for side in ("chosen", "rejected")]
    sums = [plain_sums(model, table, side) for side in ("chosen", "rejected")]
    loss = formula(sums, fixed, table).mean()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 1e-3 * parameter.grad
    assert_equal_weights(weights(made), dict(model.state_dict()), atol=2e-5, rtol=1e-4)
    assert made.state.log_history[0]["loss"] == pytest.approx(loss.item(), rel=1e-4)


COMMON = {"max_steps": 2, "optim": "sgd", "learning_rate": 0.01}


@pytest.fixture(scope="module", params=["dpo", "qrpo"])
def whole(request, tmp_path_factory):
    """A run whose steps are one batch each."""
    folder, table = tmp_path_factory.mktemp("whole"), tiny_tables.pairs(10)
    made = trainer(folder, request.param, table, per_device_train_batch_size=10, **COMMON)
    made.train()
    return request.param, made


@pytest.mark.parametrize(
    "split",
    [
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 10},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3},  # batches of 4, 4 and 2
        {"per_device_train_batch_size": 10, "bin_tokens": 1},
        {"per_device_train_batch_size": 10, "bin_tokens": 10_000},
    ],
)
def test_a_step_does_not_depend_on_how_it_is_split_or_packed(tmp_path, whole, split):
    objective, whole = whole
    parts = trainer(tmp_path, objective, tiny_tables.pairs(10), **split, **COMMON)
    parts.train()
    assert_equal_weights(weights(whole), weights(parts), atol=1e-5, rtol=1e-4)
    for one, other in zip(whole.state.log_history[:2], parts.state.log_history[:2], strict=True):
        for key in set(one) - {"epoch", "grad_norm"}:
            if not key.startswith("train_"):
                assert one[key] == pytest.approx(other[key], rel=1e-4, abs=1e-5), key


@pytest.mark.parametrize("interrupt", [2, 4])
def test_resuming_is_exact(tmp_path, interrupt):
    options = {"max_steps": 6, "save_steps": 2, "lr_scheduler_type": "cosine", "num_train_epochs": 9}
    straight = trainer(tmp_path / "straight", "qrpo", **options)
    straight.train()

    class Stop(__import__("transformers").TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == interrupt + 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "broken", "qrpo", callbacks=[Stop()], **options).train()
    half_written = tmp_path / "broken" / "checkpoint-99"
    half_written.mkdir()
    resumed = trainer(tmp_path / "broken", "qrpo", **options)
    resumed.train(resume_from_checkpoint=True)
    assert_equal_weights(weights(straight), weights(resumed), atol=0, rtol=0)
    last = [made.state.log_history[-2]["loss"] for made in (straight, resumed)]
    assert last[0] == last[1]


def test_nothing_to_resume_from_is_an_error(tmp_path):
    with pytest.raises(RunError, match="no complete checkpoint"):
        trainer(tmp_path).train(resume_from_checkpoint=True)


def test_resuming_without_the_reference_is_an_error(tmp_path):
    options = {"max_steps": 2, "save_steps": 2}
    trainer(tmp_path, **options).train()
    (tmp_path / "reference_log_probs.safetensors").unlink()
    with pytest.raises(RunError, match="no longer exists"):
        trainer(tmp_path, **options | {"max_steps": 4}).train(resume_from_checkpoint=True)


def test_reference_is_the_model_as_given(tmp_path):
    table = tiny_tables.pairs(6)
    made = trainer(tmp_path, "dpo", table)
    made.ensure_reference()
    with torch.no_grad():
        wanted = torch.stack([plain_sums(tiny_policy.model(), table, s) for s in ("chosen", "rejected")], 1)
    torch.testing.assert_close(made._reference, wanted, atol=1e-4, rtol=1e-5)
    again = trainer(tmp_path, "dpo", table)
    again.ensure_reference()
    assert torch.equal(again._reference, made._reference)


def test_adapters_leave_the_model_alone_and_start_at_the_reference(tmp_path):
    from peft import LoraConfig

    model = tiny_policy.model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    peft_config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", lora_dropout=0.1)
    made = trainer(
        tmp_path,
        "qrpo",
        model=model,
        peft_config=peft_config,
        num_train_epochs=6,
        per_device_train_batch_size=12,
    )
    made.train()
    lines = [line for line in made.state.log_history if "loss" in line]
    assert lines[0]["log_ratio/chosen"] == pytest.approx(0, abs=1e-5)
    assert lines[-1]["loss"] < lines[0]["loss"]
    after = made.model.get_base_model().state_dict()
    for name, value in before.items():
        place = name if name in after else name.replace(".weight", ".base_layer.weight")
        assert torch.equal(after[place], value)
    saved = {p.name for p in (tmp_path / "checkpoint-6").iterdir()}
    assert "adapter_model.safetensors" in saved
    assert "model.safetensors" not in saved


def test_evaluation_does_not_depend_on_batches(tmp_path):
    table = tiny_tables.pairs(7, seed=3)
    found = []
    for size in (2, 7):
        made = trainer(tmp_path / str(size), evaluation=table, per_device_eval_batch_size=size)
        made.ensure_reference()
        with torch.no_grad():
            made.model.lm_head.weight *= 1.1
        found.append(made.evaluate())
    for key in ("eval_loss", "eval_rewards/margins", "eval_logps/chosen", "eval_rewards/accuracies"):
        assert found[0][key] == pytest.approx(found[1][key], rel=1e-5), key


def test_several_evaluation_tables(tmp_path):
    tables = {"first": tiny_tables.pairs(3, 1), "second": tiny_tables.pairs(4, 2)}
    metrics = trainer(tmp_path, evaluation=tables).evaluate()
    assert metrics["eval_first_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert metrics["eval_second_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert metrics["eval_first_logps/chosen"] != metrics["eval_second_logps/chosen"]


def test_an_objective_of_ones_own(tmp_path):
    def hinge(sides, settings):
        ratios = [side.log_probs - side.reference_log_probs for side in (sides["chosen"], sides["rejected"])]
        return torch.relu(1 - settings.beta * (ratios[0] - ratios[1]))

    assert trainer(tmp_path, own_objective=Objective(hinge, beta=0.7), beta=None).settings.beta == 0.7
    made = trainer(
        tmp_path, own_objective=Objective(hinge, beta=0.1), num_train_epochs=6, per_device_train_batch_size=12
    )
    made.train()
    lines = [line for line in made.state.log_history if "loss" in line]
    assert lines[0]["loss"] == pytest.approx(1.0)
    assert lines[-1]["loss"] < 0.9


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_one_response_of_each_pair_is_unpaired_data(tmp_path, side):
    table = tiny_tables.pairs(8)
    rows = [
        {
            "prompt": row["prompt"],
            "completion": row[side],
            "reward": row[f"reward_{side}"],
            "ref_rewards": row["ref_rewards"],
        }
        for row in table
    ]
    one = trainer(tmp_path / "pairs", "qrpo", table, pair_responses=side)
    other = trainer(tmp_path / "unpaired", "qrpo", Dataset.from_list(rows))
    one.train()
    other.train()
    assert_equal_weights(weights(one), weights(other))


def test_length_normalised_qrpo_uses_a_beta_per_response(tmp_path):
    made = trainer(
        tmp_path, "qrpo", beta=0.5, beta_max=None, length_normalized=True, max_steps=1,
        per_device_train_batch_size=12,
    )  # fmt: skip
    made.train()
    rows = made.prepared["train"].rows
    wanted = []
    for row in rows:
        for side in ("chosen", "rejected"):
            beta = 0.5 / row[f"tokens_{side}"]
            wanted.append((row[f"rank_{side}"] - beta * float(losses.log_partition(beta))) ** 2)
    assert made.state.log_history[0]["loss"] == pytest.approx(sum(wanted) / len(wanted), rel=1e-4)


def test_dropout_is_off(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=261, n_embd=32, n_layer=1, n_head=2, resid_pdrop=0.5))
    made = trainer(tmp_path, model=model, max_steps=1)
    made.train()
    assert made.state.log_history[0]["log_ratio/chosen"] == pytest.approx(0, abs=1e-5)


def test_cut_off_and_truncated_responses_have_no_end_token(tmp_path, caplog):
    rows = [
        {
            "prompt": "ab",
            "chosen": "cd",
            "rejected": "e" * 50,
            "cut_off_chosen": True,
            "cut_off_rejected": None,
        }
    ]
    with caplog.at_level(logging.WARNING, "pluralign"):
        made = trainer(tmp_path, table=Dataset.from_list(rows), max_length=20)
    row = made.prepared["train"].rows[0]
    assert 1 not in row["chosen_ids"]  # 1 is the end token
    assert len(row["prompt_ids"]) + len(row["rejected_ids"]) == 20
    assert 1 not in row["rejected_ids"]
    assert row["cut_off"] == 1.0
    assert "1 prompts lost their beginning and 1 responses their end" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward_chosen": float("nan")}, "reward_chosen"),
        ({"reward_rejected": float("inf")}, "reward_rejected"),
        ({"ref_rewards": []}, "ref_rewards"),
        ({"chosen": "", "cut_off_chosen": True}, "no tokens to train on"),
    ],
)
def test_bad_rows(tmp_path, change, message):
    row = {"cut_off_chosen": False} | tiny_tables.pairs(1)[0] | change
    with pytest.raises(DataError, match=message):
        trainer(tmp_path, "qrpo", Dataset.from_list([row]))


@pytest.mark.parametrize(("partition", "told"), [("exact", True), ("finite", False)])
def test_references_that_tie_ask_for_the_finite_partition(tmp_path, caplog, partition, told):
    row = tiny_tables.pairs(1)[0] | {"ref_rewards": [0.0, 0.0, 1.0]}
    with caplog.at_level(logging.WARNING, "pluralign"):
        trainer(tmp_path, "qrpo", Dataset.from_list([row] * 2), partition=partition)
    assert ("tie with probability 33.3 %" in caplog.text) == told


@pytest.mark.parametrize(
    ("said", "option", "first", "told"),
    [
        (None, None, 0.5 / 3, True),  # nothing is said: the tie counts half, and the trainer asks
        (True, None, 0.0, False),
        (False, None, 0.5 / 3, False),
        (None, True, 0.0, False),
        (None, False, 0.5 / 3, False),
        (True, False, 0.5 / 3, False),  # who calls has the last word
    ],
)
def test_a_response_is_left_out_where_table_or_caller_says_so(tmp_path, caplog, said, option, first, told):
    row = {"prompt": "ab", "completion": "c", "reward": 0.0, "ref_rewards": [0.0, 1.0, 2.0]}
    other = row | {"reward": 2.0}
    column = {} if said is None else {"among_references": said}
    with caplog.at_level(logging.WARNING, "pluralign"):
        table = Dataset.from_list([row | column, other | column])
        made = trainer(tmp_path, "qrpo", table, leave_one_out=option)
    ranks = made.prepared["train"].rows["rank_completion"][:]
    assert ranks == pytest.approx([first, 1 - first])
    assert (
        caplog.text.count("100.0 % of responses have exactly the reward of one of their references") == told
    )


def test_an_empty_response_that_ended_is_one_token(tmp_path):
    row = tiny_tables.pairs(1)[0] | {"chosen": ""}
    made = trainer(tmp_path, table=Dataset.from_list([row]))
    assert made.prepared["train"].rows[0]["chosen_ids"] == [1]


def test_stale_reference_says_what_changed(tmp_path):
    trainer(tmp_path).ensure_reference()
    with pytest.raises(FingerprintError, match="another reference model"):
        trainer(tmp_path, model=tiny_policy.model(1)).ensure_reference()
    with pytest.raises(FingerprintError, match="other data"):
        trainer(tmp_path, table=tiny_tables.pairs(12, seed=9)).ensure_reference()
    other = trainer(tmp_path)
    other.processing_class.chat_template = "{{ messages[0]['content'] }}"
    with pytest.raises(FingerprintError, match="another tokenizer"):
        other.ensure_reference()


def test_wrong_arguments(tmp_path):
    with pytest.raises(ArgumentError, match="did you mean 'qrpo'"):
        OfflineConfig(str(tmp_path), method="qrop")
    with pytest.raises(ConfigError, match="beta"):
        OfflineConfig(str(tmp_path), beta=0.0)
    with pytest.raises(ConfigError, match="estimator"):
        OfflineConfig(str(tmp_path), estimator="median")
    with pytest.raises(DataError, match="do not fit"):
        trainer(tmp_path, "dpo", tiny_tables.unpaired())
    with pytest.raises(ArgumentError, match="train_dataset"):
        OfflineTrainer(
            tiny_policy.model(),
            OfflineConfig(str(tmp_path), use_cpu=True),
            processing_class=tiny_policy.tokenizer(),
        )
    small = tiny_policy.model()
    small.resize_token_embeddings(100)
    with pytest.raises(ArgumentError, match="261 tokens and the model knows 100"):
        trainer(tmp_path, model=small)
    made = trainer(tmp_path)
    with pytest.raises(ArgumentError, match="to the trainer's constructor"):
        made.evaluate(tiny_tables.pairs(2))


def test_a_checkpoint_that_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    made = trainer(tmp_path, max_steps=4, save_steps=2)
    real = made._save_optimizer_and_scheduler

    def full(folder):
        if "checkpoint-4" in folder:
            raise OSError(28, "No space left on device")
        real(folder)

    monkeypatch.setattr(made, "_save_optimizer_and_scheduler", full)
    with pytest.raises(RunError, match=r"checkpoint-4 could not be written.*No space left"):
        made.train()
    assert sorted(p.name for p in tmp_path.glob("checkpoint-*")) == ["checkpoint-2"]
    state = json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["global_step"] == 2


def test_flags_of_transformers_own_parser():
    """`HfArgumentParser` reads the configuration, and every field of ours has its help."""
    from dataclasses import fields

    from transformers import HfArgumentParser, TrainingArguments

    line = ["--output_dir", "x", "--method", "dpo", "--beta", "0.3", "--learning_rate", "2e-6", "--use_cpu"]
    (config,) = HfArgumentParser(OfflineConfig).parse_args_into_dataclasses(line)
    assert (config.method, config.beta, config.learning_rate) == ("dpo", 0.3, 2e-6)
    inherited = {field.name for field in fields(TrainingArguments)}
    assert all(f.metadata["help"] for f in fields(OfflineConfig) if f.name not in inherited)
