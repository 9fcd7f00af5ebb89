"""Twenty tokenizers and templates: what is trained, scored and embedded is the rendered conversation."""

from __future__ import annotations

from typing import Any

import datasets
import pytest
import torch

import pluralign as pl
from pluralign.backbones.tokens import Reader
from pluralign.conversations import ConversationReader, stop_token_ids
from pluralign.policy import OfflineConfig
from pluralign.policy.offline.data import prepare
from pluralign.policy.offline.objectives import find_objective
from tiny_tokenizers import FAMILIES, make_tokenizer


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


TALKS = {
    "short": [user("hi"), assistant("yes maybe")],
    "a word of the end mark": [user("What is 2+2?"), assistant("of")],
    "several turns": [
        user("hi"),
        assistant("hello"),
        user("how are you?"),
        assistant("fine, thanks.\nAnd you?"),
    ],
    "accents": [user("Es-tu là?"), assistant("naïve café")],
    "a response as in the prompt": [user("yes"), assistant("yes")],
    "a line break first": [user("hi"), assistant("\nyes")],
}


def rendered_ids(tokenizer: Any, talk: list[dict[str, str]], end: str) -> list[int]:
    """The ids of the rendered conversation up to the end of its last turn, made without our code."""
    if tokenizer.chat_template is None:
        *prompt, last = talk
        joined = prompt[0]["content"] + "\n"
        if len(prompt) > 1:
            joined = "".join(f"{m['role']}: {m['content']}\n" for m in prompt) + "assistant: "
        response = last["content"]
        text = joined.rstrip() + response if response.startswith("\n") else joined + response
        ids = tokenizer(text)["input_ids"]
        ids = ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids
        return [*ids, tokenizer.eos_token_id]
    ids = tokenizer.apply_chat_template(talk, tokenize=True, return_dict=False)
    end_id = tokenizer.convert_tokens_to_ids(end)
    if end_id in ids[-4:]:
        return ids[: len(ids) - ids[::-1].index(end_id)]
    text = tokenizer.apply_chat_template(talk, tokenize=False).rstrip()
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], end_id]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("talk", TALKS.values(), ids=TALKS)
def test_ids_are_those_of_the_rendered_conversation(name: str, talk: list[dict[str, str]]) -> None:
    tokenizer, end = make_tokenizer(name), FAMILIES[name].end
    found = pl.conversations.tokenize(talk, tokenizer)
    assert found.ids == rendered_ids(tokenizer, talk, end)
    start, stop = found.response_span
    assert found.prompt_span[0] == 0
    assert 0 < found.prompt_span[1] <= start <= stop
    assert found.ids[stop:] == found.end_ids
    assert tokenizer.convert_ids_to_tokens(found.end_ids)[-1] == end
    said = tokenizer.decode(found.ids[start:stop], skip_special_tokens=True)
    said = said.removeprefix("<think>\n\n</think>\n\n")
    if FAMILIES[name].kind != "words":
        assert said.strip() == talk[-1]["content"].strip()


@pytest.mark.parametrize("name", FAMILIES)
def test_training_scoring_and_embedding_read_alike(name: str) -> None:
    tokenizer = make_tokenizer(name)
    talk = TALKS["short"]
    one = pl.conversations.tokenize(talk, tokenizer)
    embedded = Reader(tokenizer, 512, with_types=False).read("conversation", [talk])[0]
    assert embedded.ids.tolist() == one.ids
    assert embedded.start == one.response_span[0]
    table = datasets.Dataset.from_list(
        [{"prompt": talk[:-1], "chosen": talk[-1]["content"], "rejected": "no", "among_references": drawn}
         for drawn in (False, True)]
    )  # fmt: skip
    config = OfflineConfig("unused", method="dpo", report_to="none", use_cpu=True)
    finished, drawn = prepare(table, tokenizer, config, find_objective("dpo")).rows
    assert finished["prompt_ids"] + finished["chosen_ids"] == one.ids
    # What the policy draws stands behind what it was given, and ends in what ends its sampling.
    reader = ConversationReader(tokenizer)
    assert drawn["prompt_ids"] == reader.prompt_ids(talk[:-1])
    assert drawn["chosen_ids"][-1] in stop_token_ids(tokenizer)
    assert drawn["chosen_ids"][-1] == one.ids[-1]


@pytest.mark.parametrize("name", ["chatml", "gemma", "zephyr", "base-first", "r1"])
def test_log_probs_are_those_of_the_models_own_logits(name: str) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer(name)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.3,
        )
    )  # fmt: skip
    model.train()
    talks = list(TALKS.values())
    found = pl.policy.log_probs(model, tokenizer, talks)
    assert model.training
    assert found.dtype == torch.float32
    model.eval()
    for talk, value in zip(talks, found, strict=True):
        one = pl.conversations.tokenize(talk, tokenizer)
        ids = torch.tensor([one.ids])
        with torch.no_grad():
            logits = model(ids).logits[0, :-1].double().log_softmax(-1)
        start = one.response_span[0]
        wanted = logits.gather(1, ids[0, 1:, None])[start - 1 :].sum()
        assert abs(wanted - value) < 1e-4 * max(1.0, abs(wanted))


def test_log_probs_refuses_what_is_longer_than_the_models_positions() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer("chatml")
    one = pl.conversations.tokenize(TALKS["short"], tokenizer)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=len(one.ids), **sizes)
    model = LlamaForCausalLM(config)
    assert pl.policy.log_probs(model, tokenizer, [TALKS["short"]]).isfinite().all()
    with pytest.raises(pl.errors.ConfigError, match=rf"conversations: .* the model {len(one.ids)} positions"):
        pl.policy.log_probs(model, tokenizer, [TALKS["short"], TALKS["several turns"]])
