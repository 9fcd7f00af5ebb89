"""`python -m studies`: what there is, the runs of a study, and the pages made of them."""

from __future__ import annotations

import argparse
import sys

import studies
from studies import records, results
from studies.runner import Wanted, perform


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.list:
        _list()
        return 0
    if given.study is None:
        parser.error(f"name a study, `results`, or --list; studies are {', '.join(studies.NAMES)}")
    if given.study == "results":
        return results.main(check=given.check)
    study = studies.load(given.study)
    if unknown := set(given.arms) - set(study.arms):
        parser.error(f"{', '.join(sorted(unknown))}: {study.name} has the arms {', '.join(study.arms)}")
    wanted = Wanted(given.arms, given.seeds, _where(parser, given.where))
    if given.dry_run:
        for arm, _, settings in wanted.of(study):
            name = records.name_of(arm, settings)
            known = {records.name_of(r["arm"], r["settings"]) for r in records.read(study.name, arm)}
            print(f"{'there  ' if name in known else 'missing'} {name}")
        return 0
    _quiet()
    done = perform(study, wanted, force=given.force, minutes=given.minutes, report=_say)
    print(f"{done} run{'' if done == 1 else 's'} done; {records.file_of(study.name)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m studies", description=studies.__doc__.splitlines()[0])
    parser.add_argument("study", nargs="?", choices=[*studies.NAMES, "results"], metavar="STUDY | results")
    parser.add_argument(
        "--list", action="store_true", help="the studies, their arms, and how many runs there are"
    )
    parser.add_argument("--arms", nargs="+", default=[], metavar="ARM")
    parser.add_argument("--seeds", type=int, metavar="N", help="so many, from 0 (default: what the arm says)")
    parser.add_argument("--where", nargs="+", default=[], metavar="KEY=VALUE,...", help="only these settings")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after that")
    parser.add_argument("--force", action="store_true", help="do again what is there")
    parser.add_argument("--dry-run", action="store_true", help="name the runs, do none")
    parser.add_argument(
        "--check", action="store_true", help="with `results`: write nothing, fail if pages differ"
    )
    return parser


def _where(parser: argparse.ArgumentParser, pairs: list[str]) -> dict[str, list[str]]:
    found = {}
    for pair in pairs:
        key, equals, values = pair.partition("=")
        if not equals:
            parser.error(f"--where takes KEY=VALUE,..., not {pair!r}")
        found[key] = values.split(",")
    return found


def _list() -> None:
    for name in studies.NAMES:
        study = studies.load(name)
        print(f"{name}: {study.question}")
        for arm in study.arms:
            print(f"  {arm:20} {len(records.read(name, arm)):4} runs")


def _say(line: str) -> None:
    print(line, flush=True)


def _quiet() -> None:
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()


if __name__ == "__main__":
    sys.exit(main())
