"""What requests and answers look like: checked as they are read, and the schemas of the OpenAPI page.

Keys that a request of ours does not have are errors; other software may send more than it documents.
"""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

LONGEST_MEASURE = 200  # characters of a risk measure

__all__ = [
    "LONGEST_MEASURE",
    "ClassifyRequest",
    "ClassifyResponse",
    "DistributionRequest",
    "DistributionResponse",
    "ErrorResponse",
    "GetRewardRequest",
    "GetRewardResponse",
    "HealthResponse",
    "LlamaFactoryRequest",
    "LlamaFactoryResponse",
    "PosteriorResponse",
    "ScoreRequest",
    "ScoreResponse",
    "VoteRow",
    "VotesRequest",
    "VotesResponse",
]


class Message(TypedDict):
    """One message of a conversation, as in OpenAI's interface."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    role: str
    content: NotRequired[str | None]


Measure = Annotated[str, Field(max_length=LONGEST_MEASURE)]
Conversation = Annotated[list[Message], Field(min_length=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Level = Annotated[float, Field(ge=0, le=1)]

_TALK: list[JsonValue] = [
    {"role": "user", "content": "How do I boil an egg?"},
    {"role": "assistant", "content": "Seven minutes."},
]


class ScoreRequest(BaseModel):
    """Conversations to score, each ending in the response."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"conversations": [_TALK], "risk": "cvar:0.1"}]},
    )

    conversations: list[Conversation] = Field(
        min_length=1, description="each ends with the assistant's response"
    )
    risk: Measure | None = Field(
        None, description="mean, cvar:0.1, entropic:1 ...; the server's own if left out"
    )
    weights: dict[str, Finite] | list[Finite] | None = Field(
        None, description="of the attributes, instead of the gate's: by name, or one number each"
    )
    steer: dict[str, Measure] | None = Field(
        None, description="attributes that count by a measure of their own, e.g. quantile:0.05"
    )


class DistributionRequest(ScoreRequest):
    """Conversations whose reward distributions are requested."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"conversations": [_TALK], "risk": "mean", "levels": [0.05, 0.5, 0.95]}]
        },
    )

    levels: list[Level] | None = Field(None, min_length=1, max_length=1000, description="of the quantiles")


class ScoreResponse(BaseModel):
    """A utility per conversation, in order."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"scores": [0.734]}]})

    scores: list[float]
    truncated: list[int] | None = Field(
        None,
        description="indices of conversations that were truncated; left out if there are none",
    )


class Distribution(BaseModel):
    """A reward distribution; `getattr(pluralign, kind)(**parameters)` rebuilds it as a batch of one row."""

    kind: str = Field(description="Quantiles, Categorical, GaussianEnsemble, Point, Empirical, Ensemble ...")
    utility: float
    mean: float
    std: float
    levels: list[float]
    quantiles: list[float]
    parameters: dict[str, Any]
    members: list[dict[str, Any]] | None = Field(
        None, description="of an ensemble: kind and parameters of each"
    )


class DistributionResponse(BaseModel):
    """A distribution per conversation, in order."""

    distributions: list[Distribution]
    truncated: list[int] | None = None


class Problem(BaseModel):
    """What was received, what is allowed, what to do."""

    message: str
    allowed: list[str] | None = None


class ErrorResponse(BaseModel):
    """Every refusal."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"error": {"message": "unknown risk measure 'cvr'", "allowed": ["mean"]}}]
        }
    )

    error: Problem


class HealthResponse(BaseModel):
    """Whether the server can score."""

    status: str
    risk: str | None = None
    attributes: list[str] | None = None


Texts = Annotated[list[str], Field(min_length=1)]

_QUERY = "<|im_start|>user\nHow do I boil an egg?<|im_end|>\n<|im_start|>assistant\nSeven minutes.<|im_end|>"
_PROMPT = "<|im_start|>user\nHow do I boil an egg?<|im_end|>\n<|im_start|>assistant\n"


class GetRewardRequest(BaseModel):
    """What OpenRLHF sends: prompt and response as one text, as the policy's template wrote it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": [_QUERY], "prompts": [_PROMPT], "labels": [""]}]}
    )

    query: Texts = Field(description="prompts with their responses, decoded with special tokens")
    prompts: list[str] | None = Field(None, description="the parts before the responses, as many")
    labels: list[Any] | None = Field(None, description="not used")


class GetRewardResponse(BaseModel):
    """What OpenRLHF reads; one number per query each."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[str, list[float]]


class ClassifyRequest(BaseModel):
    """What vLLM's /classify takes: conversations as the policy's template wrote them."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "reward", "input": [_QUERY]}]})

    input: Annotated[str, Field(min_length=1)] | Texts
    model: str | None = None
    use_activation: bool | None = Field(None, description="not used: scores are never squashed")


class ClassifyRow(BaseModel):
    """One text's score, as the only class."""

    index: int
    label: str
    probs: list[float] = Field(description="the score, which is not a probability")
    num_classes: int


class ClassifyResponse(BaseModel):
    """What vLLM answers."""

    id: str
    object: str
    created: int
    model: str
    data: list[ClassifyRow]
    usage: dict[str, int]


class LlamaFactoryRequest(BaseModel):
    """What LLaMA-Factory sends with `reward_model_type: api`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "model", "messages": [_QUERY]}]})

    messages: Texts = Field(description="conversations as the policy's template wrote them")
    model: str | None = None


class LlamaFactoryResponse(BaseModel):
    """What LLaMA-Factory reads."""

    scores: list[float]


Name = Annotated[str, Field(min_length=1, max_length=200)]


class VoteRow(BaseModel):
    """One person's vote on one response."""

    model_config = ConfigDict(extra="forbid")

    id: Name = Field(description="of the vote: sent again, it counts once")
    conversation: Conversation
    category: str | Annotated[int, Field(ge=0)] = Field(description="its name, or its position from 0")
    attribute: str | None = Field(None, description="needed where the model has several")
    voter: Name | None = Field(None, description="who votes; left out where the token says it")
    time: Finite | None = Field(None, description="Unix seconds; now if left out")


class VotesRequest(BaseModel):
    """Votes, of which either all are stored or none."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "votes": [
                        {"id": "7f1c", "conversation": _TALK, "category": "helpful, harmless", "voter": "ann"}
                    ]
                }
            ]
        },
    )

    votes: list[VoteRow] = Field(min_length=1, max_length=1000)


class VotesResponse(BaseModel):
    """Votes that are on the disk."""

    accepted: int = Field(description="those that were new")
    duplicates: int = Field(description="those that were there before")
    items: list[str] = Field(description="what each vote is about, for /v1/posterior")


class PosteriorResponse(BaseModel):
    """What people think of an item, or which items there are."""

    item: str | None = None
    attribute: str | None = None
    categories: list[str] | None = None
    prior: list[float] | None = Field(None, description="what the model predicted")
    posterior: list[float] | None = Field(None, description="with the votes")
    alpha: list[float] | None = Field(
        None, description="counts; their sum says how much supports the posterior"
    )
    voters: int | None = None
    votes: int | None = None
    items: list[dict[str, Any]] | None = None
