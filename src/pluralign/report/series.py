"""What the curves of a run show, in which order and under which names.

In: nothing. Out: tables of names, which `run_content` fills with numbers. The names of measurements are
those of `policy.online.step_metrics`, `policy.rewards.samples` and the offline trainer.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AFTER", "CHARTS", "Chart", "Line"]


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        key: the measurement of a step.
        name: in words.
        spread: the measurement that is half the width of a band around it; no band where empty.
    """

    key: str
    name: str
    spread: str = ""


@dataclass(frozen=True)
class Chart:
    """One picture.

    Attributes:
        name: above it.
        meaning: one sentence.
        lines: of training.
        dots: the measurement of evaluations that is drawn too; none where empty.
        share: whether values are shares, shown in percent.
        level: the measurement of evaluations that is drawn as a level; none where empty.
    """

    name: str
    meaning: str
    lines: tuple[Line, ...]
    dots: str = ""
    share: bool = False
    level: str = ""


CHARTS = (
    Chart(
        "Reward",
        "The output of the risk measure, which training maximises. Band: one standard deviation between "
        "answers.",
        (Line("reward/utility", "training", "reward/utility_std"),),
        "reward",
    ),
    Chart(
        "Spread of the reward",
        "Standard deviations: between the answers of a step, and within the distribution predicted for an "
        "answer; of an ensemble also its parts, within a head (how people differ) and between heads (what "
        "the model does not know).",
        (
            Line("reward/utility_std", "between answers"),
            Line("reward/std", "within an answer"),
            Line("reward/within", "within a head"),
            Line("reward/disagreement", "between heads"),
        ),
        "reward_std",
    ),
    Chart(
        "Mean and worst tenth",
        "Of the distribution predicted for an answer, averaged over answers.",
        (Line("reward/mean", "mean"), Line("reward/tail", "worst tenth")),
    ),
    Chart("Gold reward", "Used by evaluations, never by training.", (), "gold"),
    Chart(
        "KL divergence from the reference",
        "Nats per answer, estimated by k3; dashed, where it is known, that of the optimum of beta.",
        (Line("kl_k3", "training"),),
        "kl_k3",
        level="optimum_kl",
    ),
    Chart(
        "Entropy", "Nats per token. Near 0 the policy says one thing only.", (Line("entropy", "training"),)
    ),
    Chart("Length", "Tokens per answer.", (Line("length", "training"),), "length"),
    Chart(
        "Cut off",
        "Share of answers without an end token: they hit the token limit.",
        (Line("cut_off", "training"),),
        "cut_off",
        share=True,
    ),
    Chart(
        "What the critic explains",
        "Share of the variance of the returns; below 0 it does harm.",
        (Line("value/explained", "training"),),
        share=True,
    ),
    Chart(
        "Clipped",
        "Share of tokens whose probability ratio moved beyond the clip within a step.",
        (Line("update/clipped", "training"),),
        share=True,
    ),
    Chart("Loss", "What the optimizer lowers.", (Line("loss", "training"),)),
    Chart(
        "Implicit rewards",
        "beta times the log-ratio to the reference, chosen less rejected.",
        (Line("rewards/margins", "training"),),
    ),
)

# Measurements of evaluations for the numbers at the top: key, name, share, which direction is better.
AFTER = (
    ("gold", "Gold reward", False, "higher"),
    ("reward", "Reward", False, "higher"),
    ("kl_k3", "KL from the reference", False, ""),
    ("length", "Length, tokens", False, ""),
    ("cut_off", "Cut off", True, "lower"),
)
