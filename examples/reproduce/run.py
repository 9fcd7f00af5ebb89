"""Runs a recipe: the commands of a paper's experiment, one after the other.

    python examples/reproduce/run.py qrm
    python examples/reproduce/run.py qrm --set fit.backbone=minilm fit.test_share=0.5
    python examples/reproduce/run.py qrm --dry-run

A recipe is a YAML file in this folder: what was published, and under `steps` commands of pluralign with their
flags. A flag that begins with @ is the folder of an earlier step. Each step's flags are written to
runs/reproduce/NAME/STEP.yaml, so that it can also be run by hand (`pluralign fit --config fit.yaml`). A
recipe that was interrupted goes on with the same command: finished steps are not done again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pluralign.errors import did_you_mean

HERE = Path(__file__).parent


class RecipeError(SystemExit):
    """A recipe, or what was to be changed in it, cannot be used."""


def steps_of(recipe: dict[str, Any], folder: Path, changes: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """The flags of each step by its name, with changes, and with folders in place of references.

    Args:
        recipe: the content of its file.
        folder: where the steps write.
        changes: `STEP.FLAG=VALUE`, the value as in YAML; an empty one removes the flag.

    Raises:
        RecipeError: a change or a reference names no step, or a change is none.
    """
    steps: dict[str, dict[str, Any]] = {name: dict(step["flags"]) for name, step in recipe["steps"].items()}
    for change in changes:
        place, equals, value = change.partition("=")
        name, dot, flag = place.partition(".")
        if not (equals and dot):
            raise RecipeError(f"--set {change}: received no STEP.FLAG=VALUE, such as fit.backbone=minilm")
        if name not in steps:
            raise RecipeError(
                f"--set {change}: no step {name!r}{did_you_mean(name, steps)}; steps: {', '.join(steps)}"
            )
        if value:
            steps[name][flag] = _value(change, value)
        else:
            steps[name].pop(flag, None)
    for name, flags in steps.items():
        flags.setdefault("out", str(folder / name))
        for flag, value in flags.items():
            if isinstance(value, str) and value.startswith("@"):
                earlier, _, inside = value[1:].partition("/")
                if earlier not in steps:
                    raise RecipeError(f"{name}.{flag}: {value} names no step; steps: {', '.join(steps)}")
                flags[flag] = str(Path(steps[earlier]["out"]) / inside)
    return steps


def _value(change: str, value: str) -> Any:
    """A value as in YAML, or a reference to a step."""
    if value.startswith("@"):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {change}: the value is not YAML ({' '.join(str(error).split())})") from None


def pluralign(verb: str, config: Path) -> int:
    """Runs a command in a process of its own, which gives its memory back; its exit status."""
    return subprocess.run(
        [sys.executable, "-m", "pluralign.cli.main", verb, "--config", str(config)]
    ).returncode


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the arguments and runs the steps."""
    names = sorted(path.stem for path in HERE.glob("*.yaml"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", choices=names, help="the recipe")
    parser.add_argument("--set", nargs="+", default=[], metavar="STEP.FLAG=VALUE", help="other flags")
    parser.add_argument("--folder", type=Path, help="default: runs/reproduce/NAME")
    parser.add_argument("--dry-run", action="store_true", help="write the flags of all steps, run none")
    given = parser.parse_args(arguments)
    recipe = yaml.safe_load((HERE / f"{given.name}.yaml").read_text(encoding="utf-8"))
    folder = given.folder or Path("runs", "reproduce", given.name)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{recipe['paper']}\npublished: {recipe['published']}")
    for name, flags in steps_of(recipe, folder, given.set).items():
        config = folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump(flags, sort_keys=False, allow_unicode=True), encoding="utf-8")
        verb = recipe["steps"][name]["command"]
        print(f"\npluralign {verb} --config {config}", flush=True)
        if not given.dry_run and (status := pluralign(verb, config)):
            raise SystemExit(status)
    print(f"\nto compare with: {recipe['published']}")


if __name__ == "__main__":
    main()
