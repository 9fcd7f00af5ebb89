"""pluralign: reward models that predict the whole distribution of human reward.

    ratings / preferences / votes            data/
        │  validated tables (Arrow)
        ▼
    text ──────────────► embeddings          backbones/     any Hugging Face model; cached, each text once
                             │
                             ▼
                     head parameters         heads/, fitting/, solvers/
                             │
                             ▼
                    RewardDistribution       distributions/ Quantiles, Point, GaussianEnsemble, ...
                             │
                             ▼
                     utility (a number)      risk/          mean, cvar:0.1, entropic:1, ...
                             │
                             ▼
                        evaluation/          accuracy, calibration, against the constant model and length

Every reward model answers with a `RewardDistribution`; a risk measure turns it into a utility.
Names are imported when they are first used, so `import pluralign` stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pluralign._version import __version__

# name -> module that defines it; one line each, no logic.
_NAMES = {
    "Categorical": "distributions",
    "Empirical": "distributions",
    "GaussianEnsemble": "distributions",
    "Point": "distributions",
    "PopulationUpdater": "heads",
    "PreferenceUpdater": "heads",
    "Quantiles": "distributions",
    "RewardDistribution": "distributions",
    "RewardModel": "model",
    "combine": "model",
    "fit": "fitting",
    "load_comparisons": "data",
    "load_pairs": "data",
    "load_ratings": "data",
    "load_responses": "data",
    "split": "data",
}

__all__ = [
    "Categorical",
    "Empirical",
    "GaussianEnsemble",
    "Point",
    "PopulationUpdater",
    "PreferenceUpdater",
    "Quantiles",
    "RewardDistribution",
    "RewardModel",
    "__version__",
    "backbones",
    "combine",
    "conversations",
    "data",
    "distributions",
    "engines",
    "errors",
    "evaluation",
    "families",
    "fit",
    "fitting",
    "heads",
    "integrations",
    "lab",
    "load_comparisons",
    "load_pairs",
    "load_ratings",
    "load_responses",
    "losses",
    "model",
    "policy",
    "report",
    "risk",
    "server",
    "solvers",
    "split",
]

if TYPE_CHECKING:  # what type checkers and the API reference see; tests/test_types.py holds it to _NAMES
    from pluralign import (
        backbones,
        conversations,
        data,
        distributions,
        engines,
        errors,
        evaluation,
        families,
        fitting,
        heads,
        integrations,
        lab,
        losses,
        model,
        policy,
        report,
        risk,
        server,
        solvers,
    )
    from pluralign.data import load_comparisons, load_pairs, load_ratings, load_responses, split
    from pluralign.distributions import (
        Categorical,
        Empirical,
        GaussianEnsemble,
        Point,
        Quantiles,
        RewardDistribution,
    )
    from pluralign.fitting import fit
    from pluralign.heads import PopulationUpdater, PreferenceUpdater
    from pluralign.model import RewardModel, combine
else:

    def __getattr__(name: str) -> Any:
        if name in _NAMES:
            return getattr(importlib.import_module(f"pluralign.{_NAMES[name]}"), name)
        if name in __all__:
            return importlib.import_module(f"pluralign.{name}")
        raise AttributeError(f"module 'pluralign' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
