"""Flags and config files: values arrive typed, mistakes are named with their nearest match."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from pluralign.cli.fit import run as fit_command
from pluralign.cli.parsing import UsageError, choice_from, parse


@dataclass(frozen=True)
class One:
    """One.

    Attributes:
        file: Where it is.
        size: How large.
        kind: Which.
        loud: Whether.
    """

    file: str
    size: float | None = None
    kind: Literal["a", "b"] = "a"
    loud: bool = False


@dataclass(frozen=True)
class Two:
    """Two.

    Attributes:
        levels: Levels.
        learning_rate: Step.
        table: Numbers by name.
        choice: One, or none.
    """

    levels: tuple[float, ...] = (0.5,)
    learning_rate: float = 0.1
    table: dict[str, float] | None = None
    choice: Literal["a", "b"] | None = None


@dataclass(frozen=True)
class Three:
    """Three.

    Attributes:
        size: How large.
        speed: How fast.
    """

    size: float | None = None
    speed: float = 1.0


def parsed(*arguments, positional=None):
    return parse("verb", "Purpose.", arguments, One, Two, positional=positional)


def test_flags_become_dataclasses():
    one, two = parsed("--file", "x", "--levels", "[0.1,0.9]", "--size", "3")
    assert one == One("x", 3.0)
    assert two == Two((0.1, 0.9))
    one, _ = parsed("x", "--kind", "b", positional="file")
    assert one == One("x", kind="b")


@pytest.mark.parametrize(
    ("arguments", "loud"),
    [
        (["--loud"], True),
        (["--loud", "--size", "3"], True),
        (["--loud", "x"], True),
        (["--loud", "true"], True),
        (["--loud", "false"], False),
        (["--loud=false"], False),
        ([], False),
    ],
)
def test_a_switch_needs_no_value(arguments, loud):
    if "x" in arguments:
        one, _ = parsed(*arguments, positional="file")
    else:
        one, _ = parsed("--file", "x", *arguments)
    assert one.loud is loud


def test_a_field_of_two_dataclasses_is_one_flag():
    one, three = parse("verb", "Purpose.", ["--file", "x", "--size", "2"], One, Three)
    assert (one, three) == (One("x", 2.0), Three(2.0))


def test_flags_win_over_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text("file: y\nlearning_rate: 0.5\nsize: 2\n")
    one, two = parsed("--config", str(tmp_path / "c.yaml"), "--size", "4")
    assert (one.file, one.size, two.learning_rate) == ("y", 4.0, 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--file", "x", "--learning-rat", "1"],
            "unknown option --learning-rat: did you mean --learning_rate",
        ),
        (["--file", "x", "--qqqq", "1"], "unknown option --qqqq: pluralign verb --help"),
        (["--file", "x", "--size", "big"], "--size: received 'big'; allowed: float or null"),
        (["--file", "x", "--kind", "c"], "--kind: received 'c'; allowed: a, b"),
        (
            ["--file", "x", "--levels", "c"],
            "--levels: received 'c'; allowed: a list such as [a,b], or [0.1,0.9] of",
        ),
        (
            ["--file", "x", "--table", "c"],
            """--table: received 'c'; allowed: a mapping such as {"a": 1}, that is, --table.a 1 or null""",
        ),
        (["--file", "x", "--choice", "c"], "--choice: received 'c'; allowed: a, b or null"),
        (["--file", "x", "--config", "absent.yaml"], "absent.yaml"),
        ([], "file"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UsageError) as caught:
        parsed(*arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_of_another_family_says_whose_it_is():
    line = ["fit", "--ratings", "r.jsonl", "--family", "gaussian_ensemble"]
    for key, owner in {"num_categories": "categorical", "levels": "quantile"}.items():
        with pytest.raises(
            UsageError, match=f"unknown option --{key}: it is valid only with --family {owner}$"
        ):
            fit_command([*line[1:], f"--{key}", "4"])
    with pytest.raises(UsageError, match="did you mean --heads"):
        fit_command([*line[1:], "--head", "4"])


def test_a_misspelt_key_in_a_file_is_named(tmp_path):
    (tmp_path / "c.yaml").write_text("file: y\nlevel: [0.1]\n")
    with pytest.raises(UsageError, match="unknown key level: did you mean levels"):
        parsed("--config", str(tmp_path / "c.yaml"))


def test_choice_from_flags_and_files(tmp_path):
    (tmp_path / "c.yaml").write_text("family: b\n")
    assert choice_from([], "family", "ab", default="a") == "a"
    assert choice_from(["--family", "b"], "family", "ab", default="a") == "b"
    assert choice_from(["--family=b"], "family", "ab", default="a") == "b"
    assert choice_from(["--config", str(tmp_path / "c.yaml")], "family", "ab", default="a") == "b"
    with pytest.raises(UsageError, match="did you mean 'quantile'"):
        choice_from(["--family", "quantil"], "family", ["quantile", "bradley_terry"], default="quantile")


@pytest.mark.parametrize("flag", ["--file", "--fil", "--file=x"])
def test_what_has_no_flag_is_not_proposed_as_one(flag):
    with pytest.raises(UsageError, match="write file without a flag, pluralign look FILE"):
        parse("look", "Looks.", ["x", flag, "y"], One, positional="file")


def test_what_is_missing_is_named_as_it_is_given(command):
    with pytest.raises(UsageError, match="missing: --file; pluralign verb --help lists all options"):
        parsed("--size", "1")
    with pytest.raises(UsageError, match="missing: FILE; "):
        parsed("--size", "1", positional="file")
    assert "missing: --model, --data; " in command("align")[2]
    status, _, err = command("align --method qrpoo")
    assert (status, "--method: received 'qrpoo'" in err) == (2, True), err


def test_nothing_stays_of_the_command_before(tmp_path):
    """Parsers are kept: what one call gives or refuses, another in the same process knows nothing of."""
    file = tmp_path / "c.yaml"
    file.write_text("levels: [0.2]\ntable: {b: 2}\nsize: 7\n")
    for _ in range(2):
        assert parsed("--file", "y") == [One("y"), Two()]
        one, two = parsed("--file", "x", "--config", str(file), "--table.a", "1", "--loud")
        assert (one.size, one.loud, two.levels, two.table) == (7.0, True, (0.2,), {"b": 2.0, "a": 1.0})
        assert two.table is not None
        two.table["c"] = 3.0
        with pytest.raises(UsageError, match="--size: received 'much'"):
            parsed("--file", "x", "--size", "much")
        with pytest.raises(UsageError, match="file"):
            parsed("--size", "1")
