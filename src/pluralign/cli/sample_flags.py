"""Flags of `pluralign sample`. Nothing heavy is imported here, not even for types (see `flags`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["RewardFlags", "SampleFlags"]


@dataclass(frozen=True)
class SampleFlags:
    """Sample reference completions, score them, and make the table that a policy is trained on.

    Attributes:
        prompts: File, folder or hub id with prompts; any table with a prompt column.
        model: Folder or hub id of the policy, smollm2 or smollm2-q4.
        server: Address of an OpenAI-compatible server (vLLM) that has the policy; --model then names its
            tokenizer. The key is read from the environment variable PLURALIGN_SERVER_KEY.
        key_over_http: Send that key unencrypted (http) to another machine too.
        served_model: Name of the policy on the server, if it serves several.
        shards: Completions made elsewhere, which are checked and used as they are.
        samples: Run or samples folder of an earlier call, whose completions are scored.
        completions: Completions per prompt.
        max_new_tokens: Maximum tokens per completion.
        temperature: 1 samples from the policy itself, as quantile rewards require.
        top_p: 1 samples from all tokens.
        seed: Seed of the sampling.
        end_tokens: Tokens that end a completion, e.g. '["<|eot_id|>"]'; empty for the tokenizer's and the
            model's own.
        limit: Use only this many distinct prompts, the first ones.
        columns: Mapping from our column names to the file's, e.g. --columns.prompt instruction.
        hub_split: Split of a hub data set.
        revision: Branch, tag or commit of the policy on the hub.
        dtype: Precision of the policy.
        device: cpu, cuda, ...; null for a GPU if there is one.
        batch_size: Completions at a time; does not change them.
        prompts_per_shard: Prompts per file; an interruption loses at most one file.
        concurrency: Requests to the server at a time.
        engine: local samples in this process; ray on the workers of a Ray cluster.
        alpaca_eval: Name of the policy; writes alpaca_eval.json with the first completion of each prompt.
        out: Run folder; null for one under runs/.
        json: Print the result as JSON.
    """

    prompts: str | None = None
    model: str | None = None
    server: str | None = None
    key_over_http: bool = False
    served_model: str | None = None
    shards: str | None = None
    samples: str | None = None
    completions: int = 8
    max_new_tokens: int = 1024
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    end_tokens: tuple[str, ...] = ()
    limit: int | None = None
    columns: dict[str, str] | None = None
    hub_split: str | None = None
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str | None = None
    batch_size: int = 32
    prompts_per_shard: int = 64
    concurrency: int = 16
    engine: Literal["local", "ray"] = "local"
    alpaca_eval: str | None = None
    out: str | None = None
    json: bool = False


@dataclass(frozen=True)
class RewardFlags:
    """Where rewards come from, and which table is made from them.

    Attributes:
        reward_model: Reward model folder, or the run folder of a fit.
        risk: Risk measure that turns its distributions into numbers, e.g. mean, cvar:0.1.
        smooth: Instead of a risk measure, the probability that a completion beats the other completions of
            its prompt, with both rewards random.
        reward_function: FILE.py:NAME of a function of (prompts, completions) that returns one number each.
        programs: Tables with prompts and tests; the reward is the share of tests that the program in a
            completion passes. May be the file of --prompts; several as [a.jsonl,b.jsonl].
        reward_column: Use the rewards that came with --shards.
        table: unpaired, every completion; or pairs, the best against the worst of each prompt.
        per_prompt: Number of completions of a prompt to train on, the first ones; all stay references.
        leave_out_cut_off: Do not train on completions that hit the token limit.
        length_control: Remove the part of the rewards that follows length.
        beta: Print a diagnosis of QRPO's targets with this beta; null for none.
        transform: Transform of the quantile reward, in the diagnosis.
        cache: Embedding cache; null for the default one, none for no cache.
    """

    reward_model: str | None = None
    risk: str = "mean"
    smooth: bool = False
    reward_function: str | None = None
    programs: tuple[str, ...] | str = ()
    reward_column: bool = False
    table: Literal["unpaired", "pairs"] = "unpaired"
    per_prompt: int | None = None
    leave_out_cut_off: bool = False
    length_control: bool = False
    beta: float | None = 0.1
    transform: str = "identity"
    cache: str | None = None

    @property
    def sources(self) -> list[str]:
        """The flags that name where rewards come from."""
        names = ("reward_model", "reward_function", "programs", "reward_column")
        return [name for name in names if getattr(self, name)]
