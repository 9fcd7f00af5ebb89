"""All errors and warnings that pluralign raises itself.

There is one root class; each error also inherits from the built-in type that it refines, so `except
ValueError` works without knowing this package.

    PluralignError
    ├── ArgumentError (ValueError)          an argument is invalid: shape, range, NaN, unknown name
    │   ├── RiskError                       a risk measure does not exist or does not apply
    │   └── RowError (IndexError)           a batch has no such row
    ├── ConfigError (ValueError)            a configuration key or value is invalid
    ├── DataError (ValueError)              a file or table is invalid; carries all problems found
    ├── ArtifactError (ValueError)          a model folder or result file is damaged, foreign or too new
    │   └── FingerprintError                the backbone's weights are not those of the fit
    ├── CacheError (OSError)                the embedding cache cannot be read or written
    ├── RunError (RuntimeError)             a run folder is in use, or belongs to another run
    ├── SandboxError (RuntimeError)         this machine cannot confine programs as required
    └── MissingDependencyError (ImportError) an extra is not installed

    PluralignWarning (UserWarning)
    ├── ConvergenceWarning                  a solver stopped above its tolerance
    ├── TailWarning                         a tail measure refers to the tail beyond the outer levels
    ├── ConstantHeadWarning                 a fitted head predicts a constant
    ├── GateWarning                         a gate learned nothing, or its training stopped early
    ├── CacheWarning                        an embedding cache is read-only and stores nothing new
    ├── CategoryWarning                     categories have too few raters, or one was never chosen
    ├── DebiasWarning                       an attribute still follows the bias variable
    ├── EnsembleWarning                     the heads of an ensemble are nearly equal, or stopped early
    ├── VoterWarning                        votes without names each count as a person
    ├── SandboxWarning                      programs run with less protection than namespaces provide
    ├── RiskWarning                         a risk measure that was not better than a simpler one
    ├── TuningWarning                       tuning a backbone did not help
    └── RenamedWarning                      an option or attribute was used by its old name

A message says what was received, what is allowed and what to do; `did_you_mean` adds the nearest allowed
word.
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
    "RenamedWarning",
    "RiskError",
    "RiskWarning",
    "RowError",
    "RunError",
    "SandboxError",
    "SandboxWarning",
    "TailWarning",
    "TuningWarning",
    "VoterWarning",
    "did_you_mean",
    "nearest",
]


def nearest(word: object, allowed: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The allowed word closest to a misspelt one; None if none is close (`difflib`'s ratio)."""
    import difflib

    return next(iter(difflib.get_close_matches(str(word), list(allowed), n=1, cutoff=cutoff)), None)


def did_you_mean(word: object, allowed: Iterable[str]) -> str:
    """ " (did you mean 'mean'?)" for a message about an unknown word, or an empty text if no word is
    close."""
    close = nearest(word, allowed)
    return f" (did you mean {close!r}?)" if close else ""


class PluralignError(Exception):
    """Root of all errors that pluralign raises itself."""


class ArgumentError(PluralignError, ValueError):
    """An argument is invalid: wrong shape, out of range, NaN, or an unknown name.

    Attributes:
        allowed: the values that would be valid, where they are a short list; empty otherwise.
    """

    def __init__(self, message: str = "", *, allowed: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.allowed = tuple(allowed)


class RiskError(ArgumentError):
    """A risk measure does not exist, or does not apply to the distribution it was given."""


class RowError(ArgumentError, IndexError):
    """A batch has no such row; as an IndexError it also ends a `for` loop over the batch."""


class ConfigError(PluralignError, ValueError):
    """A configuration key or value is invalid."""


class DataError(PluralignError, ValueError):
    """A file or table is invalid.

    Attributes:
        problems: all problems found, as sentences that name file, row and column.
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
    """This machine cannot confine programs as strongly as required."""


class MissingDependencyError(PluralignError, ImportError):
    """A feature needs a package that is not installed; the message names the extra to install."""


class PluralignWarning(UserWarning):
    """Root of all warnings that pluralign gives itself."""


class ConvergenceWarning(PluralignWarning):
    """A solver stopped before it reached its tolerance."""


class TailWarning(PluralignWarning):
    """A tail measure refers to the tail beyond the outer quantile levels."""


class ConstantHeadWarning(PluralignWarning):
    """All weights of a fitted head are 0: it predicts the same for every text."""


class GateWarning(PluralignWarning):
    """A gate gives equal weights after training, or its training stopped early."""


class CacheWarning(PluralignWarning):
    """An embedding cache is not writable: its contents are used, but nothing new is stored."""


class CategoryWarning(PluralignWarning):
    """Categories have too few raters for the loss, or one was never chosen."""


class DebiasWarning(PluralignWarning):
    """No lambda on the grid stops an attribute from following the bias variable."""


class EnsembleWarning(PluralignWarning):
    """The heads of an ensemble are nearly equal, so comparing them has no effect, or training stopped
    early."""


class VoterWarning(PluralignWarning):
    """Votes have no names, so a person with many votes may count as many people."""


class SandboxWarning(PluralignWarning):
    """Programs run with less protection than namespaces provide."""


class RiskWarning(PluralignWarning):
    """A risk measure that was not better than a simpler one in our own results."""


class TuningWarning(PluralignWarning):
    """Tuning a backbone did not lower the loss on held-out groups."""


class RenamedWarning(PluralignWarning):
    """An option or attribute was used by its old name; the message says the new one."""
