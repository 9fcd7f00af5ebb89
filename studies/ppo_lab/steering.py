"""What a quantile model's measures choose among answers, with texts: the runs of `steering`.

In: a seed. Out: for every measure the accuracy on held-out pairs, what people think of the best of n answers
by it, and the texts of the first prompts on which the mean and a cautious measure differ.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from studies.lab_policy.world import CROWD, base_model, sample
from studies.ppo_lab.training import RATES
from studies.ppo_lab.world import lab

ANSWERS, SHOWN, TESTED = 16, 3, 2000
CAUTIOUS = "exponential:1"
MEASURES = ("mean", *(f"exponential:{rate:g}" for rate in RATES))


def steering(seed: int) -> dict[str, Any]:
    """Accuracy, choices and worked cases, with the reward model of `training.pressure`."""
    own = lab(seed)
    model = own.reward_model("quantile")
    prompts = own.held_out
    drawn = own.kept("steering", lambda: sample(base_model(own.base), prompts, ANSWERS, 2000 + own.seed)[0])
    shape = (len(prompts), ANSWERS)
    truth = CROWD.truth(drawn.conversations)
    measured = {
        "gold": truth.mean().reshape(shape),
        "worst 5 %": truth.cvar(0.05).reshape(shape),
        "worst 10 %": truth.cvar(0.10).reshape(shape),
        "harm": CROWD.harm_rate(drawn.conversations).reshape(shape),
    }
    utilities = {risk: model.score(drawn.conversations, risk=risk).reshape(shape) for risk in MEASURES}
    chosen = {risk: utility.argmax(1) for risk, utility in utilities.items()}
    rows = torch.arange(len(prompts))
    predicted = model.distribution(drawn.conversations)
    pairs = CROWD.pairs(TESTED, seed=900 + own.seed)
    sides = [
        [
            [*prompt, {"role": "assistant", "content": text}]
            for prompt, text in zip(pairs["prompt"], pairs[side], strict=True)
        ]
        for side in ("chosen", "rejected")
    ]
    differ = (chosen["mean"] != chosen[CAUTIOUS]).nonzero()[:, 0].tolist()
    return {
        "measures": {
            risk: {
                "accuracy": _accuracy(*(model.score(side, risk=risk) for side in sides)),
                **{name: float(value[rows, best].mean()) for name, value in measured.items()},
            }
            for risk, best in chosen.items()
        },
        "differ": len(differ) / len(prompts),
        "cases": [
            {
                "prompt": prompts[row].text,
                "chosen": {
                    risk: _case(row, int(chosen[risk][row]), drawn.texts, predicted, measured)
                    for risk in ("mean", CAUTIOUS)
                },
            }
            for row in differ[:SHOWN]
        ],
    }


def _accuracy(chosen: Tensor, rejected: Tensor) -> float:
    """The share of pairs in which the chosen response has the higher utility; ties count 0."""
    return float((chosen > rejected).double().mean())


def _case(
    row: int, place: int, texts: list[list[str]], predicted: Any, measured: dict[str, Tensor]
) -> dict[str, Any]:
    one = row * ANSWERS + place
    return {
        "text": texts[row][place],
        "predicted": {
            "mean": float(predicted.mean()[one]),
            "worst 10 %": float(predicted.cvar(0.10)[one]),
        },
        "people": {name: float(value[row, place]) for name, value in measured.items()},
    }
