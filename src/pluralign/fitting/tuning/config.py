"""Options for tuning the backbone. Imports nothing heavy.

The field documentation is printed by `pluralign fit --help`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pluralign.checks import check_choice, check_number, is_whole
from pluralign.errors import ConfigError

__all__ = ["TUNE", "TuningConfig"]

TUNE = ("lora", "full")

_LR = {"lora": 1e-3, "full": 1e-4}  # at the width of MiniLM
_WIDTH = 384


@dataclass(frozen=True)
class TuningConfig:
    """How the backbone is tuned together with the head.

    Attributes:
        lr: Peak learning rate of the backbone; null for 1e-3 with lora and 1e-4 with full up to a width of
            384, and less for wider models, as one over the width (ours).
        head_lr: Peak learning rate of the head, which starts at its fit on the frozen backbone; 0 leaves it
            there.
        epochs: Passes over the data.
        max_steps: Steps of the optimiser instead of epochs; -1 for epochs, 0 to train nothing.
        batch: Responses per batch, or pairs; both sides of a pair are in one batch.
        accumulate: Batches per step; 8 batches of 1 give the step of 1 batch of 8.
        max_tokens: Maximum tokens of what the model runs at once, padding included; null for the backbone's
            own limit. A batch is run in parts of similar length, so that little of it is padding.
        warmup: Share of the steps in which the learning rate rises; then it falls on a cosine.
        weight_decay: Weight decay of AdamW, for matrices of the backbone.
        max_grad_norm: Gradients are scaled down to this norm; 0 for no limit.
        held_out: Share of the groups that is held out to stop early; 0 trains on all and stops at the end.
        eval_every: Steps between two evaluations on the held-out groups; null for eight in all.
        patience: Evaluations without a better one after which training stops.
        rank: Rank of the adapter (lora).
        alpha: Scale of the adapter: alpha / rank times the product of its matrices is added to a layer.
        lora_dropout: Dropout of the adapter's input.
        targets: Layers with an adapter, all-linear, names separated by commas or a regular expression for
            their paths.
        dropout: Keep the backbone's own dropout, which most encoders have and few decoders. Without it
            nothing in the model is random, and a few thousand texts are memorised sooner.
        bf16: Compute in bfloat16; trained weights and the head stay in float32.
        gradient_checkpointing: Compute activations a second time instead of keeping them, which needs less
            memory and a third more time.
        label_smoothing: Of losses on pairs, the probability that a preference was recorded the wrong way
            round.
        centering: Coefficient of the squared sum of the two rewards of a pair, which keeps rewards near 0.
        margin_scale: Margin of a pair that comes from ratings, per unit of difference of its mean ratings.
        logging_steps: Steps between two lines of the log.
        loggers: Where the log goes as well, for example [tensorboard], as in transformers.
        tune_seed: Seed of the adapter, of the order of the data and of the held-out groups.
    """

    lr: float | None = None
    head_lr: float = 1e-4
    epochs: float = 2.0
    max_steps: int = -1
    batch: int = 32
    accumulate: int = 1
    max_tokens: int | None = None
    warmup: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    held_out: float = 0.1
    eval_every: int | None = None
    patience: int = 4
    rank: int = 16
    alpha: float = 32.0
    lora_dropout: float = 0.0
    targets: str = "all-linear"
    dropout: bool = True
    bf16: bool = False
    gradient_checkpointing: bool = False
    label_smoothing: float = 0.0
    centering: float = 0.0
    margin_scale: float = 0.0
    logging_steps: int = 10
    loggers: tuple[str, ...] = ()
    tune_seed: int = 0

    def __post_init__(self) -> None:
        for name, least in {
            "max_steps": -1, "batch": 1, "accumulate": 1, "patience": 1, "rank": 1, "logging_steps": 1,
        }.items():  # fmt: skip
            if not is_whole(value := getattr(self, name), least):
                raise ConfigError(f"{name} = {value!r}: a whole number of at least {least} is needed")
        for name in ("max_tokens", "eval_every"):
            if (value := getattr(self, name)) is not None and not is_whole(value, 1):
                raise ConfigError(f"{name} = {value!r}: null or a whole number of at least 1 is needed")
        for name in ("epochs", "alpha", *(("lr",) if self.lr is not None else ())):
            check_number(name, getattr(self, name), above=0)
        for name in ("head_lr", "weight_decay", "max_grad_norm", "centering", "margin_scale"):
            check_number(name, getattr(self, name), at_least=0)
        for name, below in {"warmup": 1.0, "held_out": 1.0, "lora_dropout": 1.0}.items():
            if not 0 <= getattr(self, name) < below:
                raise ConfigError(f"{name} = {getattr(self, name)}: at least 0 and below {below:g} is needed")
        if not 0 <= self.label_smoothing <= 0.5:
            raise ConfigError(f"label_smoothing = {self.label_smoothing}; allowed: 0 to 0.5")
        if not self.targets.strip():
            raise ConfigError("targets is empty; allowed: all-linear, names of layers, a regular expression")

    def rate(self, tune: str, width: int) -> float:
        """The peak learning rate of a backbone of a width, for `lora` or `full`."""
        check_choice("tune", tune, TUNE)
        return _LR[tune] * min(1.0, _WIDTH / width) if self.lr is None else self.lr


Tune = Literal["lora", "full"]
