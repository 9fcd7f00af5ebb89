"""What the lab's policy study works with: a language model, proxies, sampled responses, their rewards.

In: a work folder and a seed. Out: a `World`, computed once per seed and kept in the work folder. It does not
know what is trained on it.

One language model serves all seeds. A seed draws the prompts that are trained on and those that are held out,
the ratings that the proxy is fitted on, and the responses. The proxy is a quantile model on 2,000 rated texts
of the behaviour policy, its backbone the frozen language model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import pluralign as pl
from pluralign.files import whole_file
from pluralign.lab import PROMPTS, Crowd, Request, Samples, cached_language_model
from pluralign.lab.sampling import draw_items

NUM_TRAINED, NUM_HELD_OUT = 256, 128  # prompts
NUM_POOL, NUM_MORE = (
    16,
    34,
)  # responses per trained prompt; the second lot only where 50 references are needed
NUM_TEST = 4  # responses per held-out prompt
MAX_NEW_TOKENS = 80
RATED = 2000
CROWD = Crowd(seed=0)

_SAMPLED_TOGETHER = 1024


@dataclass(frozen=True)
class Responses:
    """Responses to prompts: `texts[i][j]` and `cut_off[i, j]` belong to prompt i."""

    prompts: list[Request]
    texts: list[list[str]]
    cut_off: Tensor

    @property
    def conversations(self) -> list[list[dict[str, str]]]:
        """Prompt by prompt."""
        return [
            [*prompt.messages, {"role": "assistant", "content": text}]
            for prompt, texts in zip(self.prompts, self.texts, strict=True)
            for text in texts
        ]

    def samples(self, **known: Any) -> Samples:
        """As the lab measures them, with what else is known."""
        conversations = self.conversations
        return Samples(
            [conversation[:-1] for conversation in conversations],
            [conversation[-1]["content"] for conversation in conversations],
            cut_off=self.cut_off.flatten(),
            **known,
        )


class World:
    """All that runs of one seed share."""

    def __init__(self, work: Path, seed: int) -> None:
        self.seed = seed
        self.folder = work / f"seed-{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.base = cached_language_model(work)
        order = random.Random(seed).sample(PROMPTS, NUM_TRAINED + NUM_HELD_OUT)
        self.trained, self.held_out = order[:NUM_TRAINED], order[NUM_TRAINED:]

    def kept(self, name: str, compute: Callable[[], Any]) -> Any:
        """What `compute` gives, from the work folder where it is there already."""
        path = self.folder / f"{name}.pt"
        if not path.exists():
            value = compute()
            with whole_file(path) as work:
                torch.save(value, work)
        return torch.load(path, weights_only=False)

    @cached_property
    def proxy(self) -> pl.RewardModel:
        """The reward model; fitted where it is not there yet."""
        path = self.folder / "proxy"
        if not path.exists():
            backbone = pl.backbones.load(str(self.base), pooling="last_mean", num_threads=1)
            ratings = CROWD.ratings(RATED, 5, seed=100 + self.seed)
            pl.fit("quantile", ratings=ratings, backbone=backbone).save_pretrained(path)
        return pl.RewardModel.from_pretrained(path)

    @cached_property
    def pool(self) -> Responses:
        """16 responses of the language model to every trained prompt."""
        return self.kept("pool", lambda: self._sample(self.trained, NUM_POOL, 1))

    @cached_property
    def more(self) -> Responses:
        """34 more of them."""
        return self.kept("more", lambda: self._sample(self.trained, NUM_MORE, 2))

    @cached_property
    def before(self) -> Responses:
        """Responses of the language model to every held-out prompt, as many as there are trained ones."""
        return self.kept("before", lambda: self._sample(self.held_out, NUM_POOL, 3))

    @cached_property
    def offline(self) -> Responses:
        """Texts of the behaviour policy itself to the trained prompts: data that the model did not write."""
        items = draw_items(576 * 8, "offline", 0, self.seed, 8, "behaviour")
        texts: dict[Request, list[str]] = {}
        for prompt, text in zip(items.prompts, items.responses, strict=True):
            texts.setdefault(prompt, []).append(text)
        rows = [texts[prompt] for prompt in self.trained]
        return Responses(self.trained, rows, torch.zeros(len(rows), 8, dtype=torch.bool))

    def rewards(self, name: str, reward: str) -> Tensor:
        """[prompts, responses] of `pool`, `more`, `before` or `offline`, in standard deviations of the pool.

        Args:
            name: of the responses.
            reward: `gold`, or a risk measure of the proxy.
        """
        shift, scale = self.unit(reward)
        return (self._raw(name, reward) - shift) / scale

    def unit(self, reward: str) -> tuple[float, float]:
        """Mean and standard deviation of a reward over the pool."""
        pool = self._raw("pool", reward)
        return float(pool.mean()), float(pool.std())

    def _raw(self, name: str, reward: str) -> Tensor:
        responses: Responses = getattr(self, name)
        safe = reward.replace(":", "-").replace(".", "_")
        values = self.kept(f"{name}-{safe}", lambda: self._score(responses.conversations, reward))
        return values.reshape(len(responses.prompts), -1)

    def _score(self, conversations: Sequence[Any], reward: str) -> Tensor:
        if reward == "gold":
            return CROWD.gold(conversations)
        return self.proxy.score(conversations, risk=reward).double()

    def _sample(self, prompts: list[Request], count: int, stream: int) -> Responses:
        return sample(base_model(self.base), prompts, count, seed=1000 * self.seed + stream)[0]

    def evaluated(self, model: Any, reward: str) -> Samples:
        """Samples of a trained model on the held-out prompts, with log-ratios and the reward it learned."""
        responses, tokens = sample(model, self.held_out, NUM_TEST, seed=1000 * self.seed + 9)
        with torch.inference_mode():
            ratios = torch.cat(
                [
                    token_log_probs(model, *part) - token_log_probs(base_model(self.base), *part)
                    for part in zip(*(t.split(128) for t in tokens), strict=True)
                ]
            )
        shift, scale = self.unit(reward)
        proxy = (self._score(responses.conversations, reward) - shift) / scale
        return responses.samples(log_ratios=ratios, proxy=proxy)


@lru_cache(maxsize=1)
def base_model(folder: Path) -> Any:
    """The language model before training, with its tokenizer as an attribute."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    model.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return model


def sample(
    model: Any, prompts: Sequence[Request], count: int, seed: int
) -> tuple[Responses, tuple[Tensor, ...]]:
    """Sample at temperature 1, without truncation of the distribution.

    Returns:
        The responses, and their tokens [B, T], the attention mask of prompt and response [B, T], and which
        tokens are the response's, end token included [B, T].
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.config._name_or_path, padding_side="left")
    opening = tokenizer.apply_chat_template(
        [prompt.messages for prompt in prompts], tokenize=False, add_generation_prompt=True
    )
    inputs = tokenizer(opening, add_special_tokens=False, return_tensors="pt", padding=True)
    ids, mask = (inputs[k].repeat_interleave(count, 0) for k in ("input_ids", "attention_mask"))
    parts = []
    torch.manual_seed(seed)
    with torch.inference_mode():
        for some_ids, some_mask in zip(
            ids.split(_SAMPLED_TOGETHER), mask.split(_SAMPLED_TOGETHER), strict=True
        ):
            found = model.generate(
                input_ids=some_ids,
                attention_mask=some_mask,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=MAX_NEW_TOKENS,
            )
            missing = ids.shape[1] + MAX_NEW_TOKENS - found.shape[1]
            parts.append(torch.nn.functional.pad(found, (0, missing), value=tokenizer.pad_token_id))
    whole = torch.cat(parts)
    said = whole[:, ids.shape[1] :]
    ended = (said == tokenizer.eos_token_id).cumsum(1)
    kept = (ended == 0) | ((ended == 1) & (said == tokenizer.eos_token_id))
    texts = [
        tokenizer.decode(row[keep & (row != tokenizer.eos_token_id)])
        for row, keep in zip(said, kept, strict=True)
    ]
    longest = ids.shape[1] + int(kept.sum(1).max())
    full_mask = torch.cat([mask.bool(), kept], 1)[:, :longest]
    spoken = torch.cat([torch.zeros_like(mask, dtype=torch.bool), kept], 1)[:, :longest]
    responses = Responses(
        list(prompts),
        [texts[i : i + count] for i in range(0, len(texts), count)],
        (ended[:, -1] == 0).reshape(-1, count),
    )
    return responses, (whole[:, :longest], full_mask, spoken)


def token_log_probs(model: Any, ids: Tensor, mask: Tensor, is_response: Tensor) -> Tensor:
    """log pi of each response token, [B, T - 1], 0 elsewhere."""
    positions = (mask.long().cumsum(1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=mask.long(), position_ids=positions, use_cache=False).logits
    found = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    return torch.where(is_response[:, 1:], found, 0.0)
