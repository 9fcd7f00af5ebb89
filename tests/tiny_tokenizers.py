"""Twenty tokenizers with the chat templates of as many model families, trained on the spot.

The templates are written for these tests after what each family renders; they are not copies.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

CORPUS = [
    "Hello world, how are you today? I am fine thanks.",
    "The quick brown fox jumps over the lazy dog.",
    "user assistant system model tool question answer yes no maybe",
    "Paris is the capital of France. 2+2=4.",
    "Bonjour! Es-tu là? naïve café\n\n",
    "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z 0 1 2 3 4 5 6 7 8 9",
    ". , ! ? : ; - + = ( ) [ ] { } < > / | _ ' \"",
] * 20

_EACH = "{% for m in messages %}"
_ASK = "{% if add_generation_prompt %}"
_ROLE_IS_USER = "{% if m['role'] == 'user' %}"
_END = "{% endfor %}"


def _turns(turn: str, opening: str, start: str = "") -> str:
    return f"{start}{_EACH}{turn}{_END}{_ASK}{opening}{{% endif %}}"


def _by_role(user: str, assistant: str, opening: str = "", start: str = "{{ bos_token }}") -> str:
    turn = f"{_ROLE_IS_USER}{user}{{% elif m['role'] == 'system' %}}{{{{ m['content'] }}}}\n"
    turn += f"{{% else %}}{assistant}{{% endif %}}"
    return _turns(turn, opening, start)


_CONTENT, _TRIMMED, _EOS = "{{ m['content'] }}", "{{ m['content'] | trim }}", "{{ eos_token }}"
_ROLE = "{{ m['role'] }}"
_GEMMA_ROLE = "{{ 'model' if m['role'] == 'assistant' else m['role'] }}"
_THOUGHTLESS = "{{ m['content'].split('</think>')[-1] }}"
_THOUGHT = (
    "{% if '</think>' in m['content'] %}{{ m['content'] }}"
    "{% else %}<think>\n\n</think>\n\n{{ m['content'] }}{% endif %}"
)


class Family(NamedTuple):
    """A tokenizer and its template.

    Attributes:
        kind: `bytes` (byte-level BPE), `first`, `always` or `never` (SentencePiece-like; where a blank is put
            before a text) or `words`.
        template: None for a base model.
        specials: special tokens beside begin and end.
        end: the token that a drawn response ends with.
        bos: begin-of-sequence token, or None.
        eos: end-of-sequence token.
        adds_bos: whether the tokenizer begins every text with it.
        adds_eos: whether it ends every text with the end-of-sequence token.
        loose: the special tokens eat white space behind them.
    """

    kind: str
    template: str | None
    specials: tuple[str, ...]
    end: str
    bos: str | None = "<s>"
    eos: str = "</s>"
    adds_bos: bool = False
    adds_eos: bool = False
    loose: bool = False


FAMILIES: dict[str, Family] = {
    "chatml": Family(
        "bytes",
        _turns(f"<|im_start|>{_ROLE}\n{_CONTENT}<|im_end|>\n", "<|im_start|>assistant\n"),
        ("<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
        bos=None,
        eos="<|endoftext|>",
    ),
    "chatml-eos": Family(
        "bytes",
        _turns(f"<|im_start|>{_ROLE}\n{_CONTENT}<|im_end|>\n", "<|im_start|>assistant\n"),
        ("<|im_start|>",),
        "<|im_end|>",
        bos=None,
        eos="<|im_end|>",
    ),
    "chatml-empty-thought": Family(
        "bytes",
        _turns(
            f"<|im_start|>{_ROLE}\n{{% if m['role'] == 'assistant' and loop.last %}}{_THOUGHT}"
            f"{{% else %}}{_CONTENT}{{% endif %}}<|im_end|>\n",
            "<|im_start|>assistant\n",
        ),
        ("<|im_start|>",),
        "<|im_end|>",
        bos=None,
        eos="<|im_end|>",
    ),
    "llama-2": Family(
        "first",
        _by_role(f"[INST] {_TRIMMED} [/INST]", f" {_TRIMMED} {_EOS}"),
        (),
        "</s>",
        adds_bos=True,
    ),
    "llama-2-always": Family(
        "always",
        _by_role(f"[INST] {_TRIMMED} [/INST]", f" {_TRIMMED} {_EOS}"),
        (),
        "</s>",
        adds_bos=True,
    ),
    "llama-3": Family(
        "bytes",
        _turns(
            f"<|start_header_id|>{_ROLE}<|end_header_id|>\n\n{_TRIMMED}<|eot_id|>",
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "{{ bos_token }}",
        ),
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
        adds_bos=True,
    ),
    "gemma": Family(
        "never",
        _turns(
            f"<start_of_turn>{_GEMMA_ROLE}\n{_TRIMMED}<end_of_turn>\n",
            "<start_of_turn>model\n",
            "{{ bos_token }}",
        ),
        ("<start_of_turn>", "<end_of_turn>"),
        "<end_of_turn>",
        bos="<bos>",
        eos="<eos>",
        adds_bos=True,
    ),
    "gemma-bytes": Family(
        "bytes",
        _turns(
            f"<start_of_turn>{_GEMMA_ROLE}\n{_TRIMMED}<end_of_turn>\n",
            "<start_of_turn>model\n",
            "{{ bos_token }}",
        ),
        ("<start_of_turn>", "<end_of_turn>"),
        "<end_of_turn>",
        bos="<bos>",
        eos="<eos>",
        adds_bos=True,
    ),
    "zephyr": Family(
        "first", _turns(f"<|{_ROLE}|>\n{_CONTENT}{_EOS}\n", "<|assistant|>\n"), (), "</s>", adds_bos=True
    ),
    "zephyr-always": Family(
        "always", _turns(f"<|{_ROLE}|>\n{_CONTENT}{_EOS}\n", "<|assistant|>\n"), (), "</s>", adds_bos=True
    ),
    "mistral": Family(
        "first", _by_role(f"[INST] {_CONTENT}[/INST]", f" {_CONTENT}{_EOS}"), (), "</s>", adds_bos=True
    ),
    "mistral-tekken": Family(
        "bytes",
        _by_role(f"[INST]{_CONTENT}[/INST]", f"{_CONTENT}{_EOS}"),
        ("[INST]", "[/INST]"),
        "</s>",
        adds_bos=True,
    ),
    "r1": Family(
        "bytes",
        _by_role(
            f"<|User|>{_CONTENT}",
            f"<|Assistant|>{_THOUGHTLESS}{_EOS}",
            "<|Assistant|><think>\n",
        ),
        ("<|User|>", "<|Assistant|>"),
        "<|end_of_sentence|>",
        bos="<|begin_of_sentence|>",
        eos="<|end_of_sentence|>",
        adds_bos=True,
    ),
    "phi-3": Family(
        "first",
        f"{_EACH}<|{_ROLE}|>\n{_CONTENT}<|end|>\n{_END}{_ASK}<|assistant|>\n{{% else %}}{_EOS}{{% endif %}}",
        ("<|user|>", "<|assistant|>", "<|end|>"),
        "<|end|>",
        eos="<|endoftext|>",
        loose=True,
    ),
    "phi-4": Family(
        "bytes",
        _turns(f"<|im_start|>{_ROLE}<|im_sep|>{_CONTENT}<|im_end|>", "<|im_start|>assistant<|im_sep|>"),
        ("<|im_start|>", "<|im_sep|>", "<|im_end|>"),
        "<|im_end|>",
        eos="<|endoftext|>",
    ),
    "vicuna-text-marks": Family(
        "first",
        _by_role(f"USER: {_CONTENT} ", f"ASSISTANT: {_CONTENT}{_EOS}", "ASSISTANT:"),
        (),
        "</s>",
        adds_bos=True,
    ),
    "alpaca-without-end": Family(
        "bytes",
        _by_role(f"### Instruction:\n{_CONTENT}\n\n", f"### Response:\n{_CONTENT}\n\n", "### Response:\n"),
        (),
        "</s>",
    ),
    "base-bytes": Family("bytes", None, (), "<|endoftext|>", bos="<|endoftext|>", eos="<|endoftext|>"),
    "base-first": Family("first", None, (), "</s>", adds_bos=True),
    "base-closes-texts": Family("bytes", None, (), "</s>", adds_bos=True, adds_eos=True),
    "words": Family(
        "words",
        _turns(f"<|{_ROLE}|>{_CONTENT}{_EOS}", "<|assistant|>"),
        ("<|user|>", "<|assistant|>"),
        "</s>",
    ),
}


@cache
def make_tokenizer(name: str) -> Any:
    """The tokenizer of a family; always the same."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[name]
    named = [family.bos, family.eos, family.end, *family.specials]
    specials = list(dict.fromkeys(token for token in named if token is not None))
    if family.kind == "bytes":
        raw = Tokenizer(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=specials,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
    elif family.kind == "words":
        raw = Tokenizer(models.WordLevel(unk_token="<unk>"))
        raw.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(special_tokens=["<unk>", *specials], show_progress=False)
    else:
        raw = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
        raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=family.kind)  # no token spans two words
        raw.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        every_byte = [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=["<unk>", *specials, *every_byte],
            show_progress=False,
            max_token_length=8,
        )
    raw.train_from_iterator(CORPUS, trainer)
    if family.kind not in ("bytes", "words"):
        raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=family.kind, split=False)
    if family.loose:
        raw.add_special_tokens([AddedToken(token, rstrip=True, special=True) for token in specials])
    around = (
        (f"{family.bos} " if family.adds_bos else "") + "$A" + (f" {family.eos}" if family.adds_eos else "")
    )
    if around != "$A":
        ids = [(token, raw.token_to_id(token)) for token in {family.bos, family.eos} if token]
        raw.post_processor = processors.TemplateProcessing(single=around, special_tokens=ids)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token=family.bos,
        eos_token=family.eos,
        unk_token=None if family.kind == "bytes" else "<unk>",
    )
    fast.chat_template = family.template
    return fast
