"""Every error and warning that pluralign raises on purpose.

One root class; each error also inherits the built-in type that it refines, so `except ValueError`
keeps working for people who do not know this package.

    PluralignError
    ├── ArgumentError (ValueError)          an argument is illegal: shape, range, NaN, unknown name
    │   ├── RiskError                       a risk measure does not exist or does not apply
    │   └── RowError (IndexError)           a batch has no such row
    ├── ConfigError (ValueError)            a configuration key or value is illegal
    ├── DataError (ValueError)              a file or table; carries every problem that was found
    ├── ArtifactError (ValueError)          a model folder or result file is not what it should be
    │   └── FingerprintError                the backbone's weights are not those the head was fitted on
    ├── CacheError (OSError)                the embedding cache cannot be read or written
    ├── RunError (RuntimeError)             a run folder is in use, or belongs to another run
    ├── SandboxError (RuntimeError)         this machine cannot confine programs as was demanded
    └── MissingDependencyError (ImportError)  an extra is not installed

    PluralignWarning (UserWarning)
    ├── ConvergenceWarning                  a solver stopped above its tolerance
    ├── TailWarning                         a tail measure asks for more than the levels can tell
    ├── ConstantHeadWarning                 a fitted head predicts a constant
    ├── GateWarning                         a gate learned nothing, or its training broke off
    ├── CacheWarning                        an embedding cache serves what it holds and keeps nothing new
    ├── CategoryWarning                     categories were rated by too few people, or one was never chosen
    ├── DebiasWarning                       an attribute still follows the bias variable
    ├── EnsembleWarning                     the heads of an ensemble are alike, or their training broke off
    ├── VoterWarning                        votes without names are counted as if each were a person
    ├── SandboxWarning                      programs run with less protection than namespaces give
    └── RiskWarning                         a risk measure that did no better than less did

A message says what was received, what is allowed and what to do; `did_you_mean` names the nearest
allowed word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = [
    "ArgumentError",
    "ArtifactError",
    "CacheError",
    "CacheWarning",
    "CategoryWarning",
    "ConfigError",
    "ConstantHeadWarning",
    "ConvergenceWarning",
    "DataError",
    "DebiasWarning",
    "EnsembleWarning",
    "FingerprintError",
    "GateWarning",
    "MissingDependencyError",
    "PluralignError",
    "PluralignWarning",
    "RiskError",
    "RiskWarning",
    "RowError",
    "RunError",
    "SandboxError",
    "SandboxWarning",
    "TailWarning",
    "VoterWarning",
    "did_you_mean",
    "nearest",
]


def nearest(word: object, allowed: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The allowed word that looks most like a misspelt one; None where none is near (`difflib`'s ratio)."""
    import difflib

    return next(iter(difflib.get_close_matches(str(word), list(allowed), n=1, cutoff=cutoff)), None)


def did_you_mean(word: object, allowed: Iterable[str]) -> str:
    """ " (did you mean 'mean'?)" for a message about an unknown word, or nothing where no word is near."""
    close = nearest(word, allowed)
    return f" (did you mean {close!r}?)" if close else ""


class PluralignError(Exception):
    """Root of all errors that pluralign raises on purpose."""


class ArgumentError(PluralignError, ValueError):
    """An argument is illegal: wrong shape, out of range, NaN, or an unknown name."""


class RiskError(ArgumentError):
    """A risk measure does not exist, or does not apply to the distribution it was given."""


class RowError(ArgumentError, IndexError):
    """A batch has no such row; as an IndexError it also ends a `for` loop over the batch."""


class ConfigError(PluralignError, ValueError):
    """A configuration key or value is illegal."""


class DataError(PluralignError, ValueError):
    """A file or table is not what it should be.

    Attributes:
        problems: every problem found, as sentences that name file, row and column.
    """

    def __init__(self, message: str, problems: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class ArtifactError(PluralignError, ValueError):
    """A model folder or result file is damaged, foreign or of another version."""


class FingerprintError(ArtifactError):
    """The backbone's weights are not those that the head was fitted on."""


class CacheError(PluralignError, OSError):
    """The embedding cache cannot be read or written."""


class RunError(PluralignError, RuntimeError):
    """A run folder is in use by another process, or belongs to another run."""


class SandboxError(PluralignError, RuntimeError):
    """This machine cannot confine programs as strongly as was demanded."""


class MissingDependencyError(PluralignError, ImportError):
    """A feature needs a package that is not installed; the message names the extra to install."""


class PluralignWarning(UserWarning):
    """Root of all warnings that pluralign gives on purpose."""


class ConvergenceWarning(PluralignWarning):
    """A solver stopped before it reached its tolerance."""


class TailWarning(PluralignWarning):
    """A tail measure asks for more than the quantile levels can tell."""


class ConstantHeadWarning(PluralignWarning):
    """A fitted head has no weights left: it predicts the same for every text."""


class GateWarning(PluralignWarning):
    """A gate gives equal weights after training, or its training broke off."""


class CacheWarning(PluralignWarning):
    """An embedding cache may not be written: it serves what it holds, and keeps nothing new."""


class CategoryWarning(PluralignWarning):
    """Categories were rated by too few people for the loss at hand, or one was never chosen."""


class DebiasWarning(PluralignWarning):
    """No lambda on the grid makes an attribute stop following the bias variable."""


class EnsembleWarning(PluralignWarning):
    """The heads of an ensemble say the same, so that comparing them does nothing, or training broke off."""


class VoterWarning(PluralignWarning):
    """Votes come without names, so that one person with many votes may count as many people."""


class SandboxWarning(PluralignWarning):
    """Programs run with less protection than namespaces give."""


class RiskWarning(PluralignWarning):
    """A risk measure that in our own results did no better than a simpler one."""
