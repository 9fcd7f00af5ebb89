"""Entry point: finds the command, runs it, and turns every failure into one clear message.

It imports only the module of the requested command, so `--help` and errors are fast.

Exit status: 0 success; 1 a failure that the message explains; 2 the command line is wrong; 130 interrupted.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from pluralign._version import __version__
from pluralign.cli.argument_words import as_flags
from pluralign.cli.console import shown
from pluralign.cli.parsing import UsageError, flags_of_command
from pluralign.errors import PluralignError, PluralignWarning, did_you_mean

__all__ = ["main"]

VERBS = {
    "check": "check a data file: shape, counts, raters, agreement, problems",
    "fit": "fit a reward model on ratings, pairs or votes",
    "calibrate": "correct a model's distributions on ratings that it was not fitted on",
    "embed": "embed prompts and responses with a backbone, in shards, on one machine or many",
    "score": "score responses with a model and a risk measure, on one machine or many",
    "evaluate": "evaluate a model on held-out data, against its baselines",
    "compare": "compare models or policies on the same rows: intervals, verdicts, dominance",
    "report": "turn evaluations into one HTML page with figures",
    "sample": "sample reference completions and score them: the table to train a policy on",
    "select": "select the best of sampled completions, as rows or pairs to train on",
    "align": "fit a policy to collected rewards or preferences, or to a reward model while it samples",
    "export": "write a model as a checkpoint that other software loads",
    "serve": "serve a model over HTTP, to trainers and to people who vote",
    "explore": "try a model on a page: type responses, see distributions, change the risk measure",
    "lab": "sample data from a simulated crowd whose true rewards are known",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"pluralign {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        return _complain(
            f"unknown command {verb!r}{did_you_mean(verb, VERBS)}; allowed: {', '.join(VERBS)}", 2
        )
    debug = "--debug" in rest
    rest = [a for a in rest if a != "--debug"]
    warnings.showwarning = _show_warning
    if not sys.stderr.isatty():  # a log: lines, and no bars of other packages that redraw themselves
        os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        importlib.import_module(f"pluralign.cli.{verb}").run(rest)
    except UsageError as error:
        return _complain(str(error), 2)
    except KeyboardInterrupt:
        if debug:
            raise
        return _complain("interrupted; the same command continues where this one stopped", 130)
    except BrokenPipeError:  # the reader of our output closed the pipe, as in `pluralign score ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except PluralignError as error:
        if debug:
            raise
        return _complain(as_flags(str(error), flags_of_command()), 1)
    except OSError as error:
        if debug:
            raise
        if error.errno == errno.ENOSPC:
            return _complain(
                f"the disk is full ({error.filename or 'while writing'}); free some space and repeat", 1
            )
        return _complain(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), 1)
    except Exception as error:
        if debug:
            raise
        return _complain(
            f"{type(error).__name__}: {error}\nThis is a bug in pluralign; --debug shows where.", 1
        )
    return 0


def _usage() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {text}" for verb, text in VERBS.items()]
    return "\n".join(
        [
            "usage: pluralign COMMAND [--config FILE.yaml] [flags]",
            "",
            *lines,
            "",
            "pluralign COMMAND --help lists the flags of a command; --json prints results for programs;",
            "--debug shows tracebacks; pluralign --version prints the version.",
        ]
    )


def _complain(message: str, status: int) -> int:
    print(shown(f"pluralign: {message}"), file=sys.stderr)
    return status


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    """Prints our own warnings on one line, without a source location; hides those users cannot act on."""
    if issubclass(category, PluralignWarning):
        print(shown(f"warning: {as_flags(str(message), flags_of_command())}"), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
