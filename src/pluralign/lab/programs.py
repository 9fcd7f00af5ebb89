"""A task of the lab with a verifiable reward: short instructions, and programs in Python that tests run.

In: seeds. Out: prompts such as `plus 3 then at most 4 then flip`, programs of a behaviour policy that errs,
tests, and the share of tests that a program passes.

A program reads `def f(x): x+= 3; x=min(x, 4); x=-x; return x`: tokens are the words between spaces, and it is
Python, which `policy.ProgramReward` runs. `share_passed` interprets the same programs thousands of times
faster; whatever is not of this form is not Python either, or returns nothing, so both give it 0.

The behaviour policy mistakes an operation or a constant now and then, and takes "at most" for "at least"
more often than not: what it does most is wrong there, and only the reward tells. Tests with few inputs do not
tell all wrong programs from right ones; `right` asks 41 inputs.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["OPERATIONS", "WORDS", "Instruction", "behaviour", "draw_instructions", "right", "share_passed"]

_CONSTANTS = (2, 3, 4, 5)
_INPUTS = range(-20, 21)  # that decide whether a program is right
_LENGTHS = (1, 2, 3, 4, 5, 6)  # operations of an instruction

# word -> whether it takes a constant, its code up to the constant, what ends it, its meaning
_Operation = tuple[bool, str, str, Callable[[int, int], int]]
OPERATIONS: dict[str, _Operation] = {
    "plus": (True, "x+=", ";", lambda x, k: x + k),
    "minus": (True, "x-=", ";", lambda x, k: x - k),
    "times": (True, "x*=", ";", lambda x, k: x * k),
    "modulo": (True, "x%=", ";", lambda x, k: x % k),
    "at most": (True, "x=min(x,", ");", lambda x, k: min(x, k)),
    "at least": (True, "x=max(x,", ");", lambda x, k: max(x, k)),
    "size": (False, "x=abs(x);", "", lambda x, _: abs(x)),
    "flip": (False, "x=-x;", "", lambda x, _: -x),
}
_OPPOSITE = {"at most": "at least", "at least": "at most"}
_BY_CODE = {code: (needs, end, meaning) for needs, code, end, meaning in OPERATIONS.values()}

WORDS = tuple(
    dict.fromkeys(
        [
            *(part for word in OPERATIONS for part in word.split()),
            *("then", "def", "f(x):", "return", "x"),
            *map(str, _CONSTANTS),
            *(code for _, code, _, _ in OPERATIONS.values()),
            *(f"{k}{end}" for k in _CONSTANTS for end in (";", ");")),
        ]
    )
)

# How often the behaviour policy errs: takes the opposite bound, another operation, another constant; leaves
# an operation out.
_BOUND, _OTHER, _CONSTANT, _LEFT_OUT = 0.6, 0.08, 0.1, 0.04


@dataclass(frozen=True)
class Instruction:
    """What a program should do, step by step.

    Attributes:
        steps: words of `OPERATIONS`, each with its constant, or 0 where it has none.
    """

    steps: tuple[tuple[str, int], ...]

    @property
    def text(self) -> str:
        """The instruction as the policy reads it."""
        return " then ".join(f"{word} {k}" if OPERATIONS[word][0] else word for word, k in self.steps)

    @property
    def messages(self) -> list[dict[str, str]]:
        """The prompt."""
        return [{"role": "user", "content": self.text}]

    @property
    def solution(self) -> str:
        """A correct program."""
        return _program(self.steps)

    def __call__(self, x: int) -> int:
        """Its output for a number."""
        for word, k in self.steps:
            x = OPERATIONS[word][3](x, k)
        return x

    def inputs(self, count: int) -> list[int]:
        """The inputs of the tests, always the same: `count` numbers from -9 to 9."""
        return random.Random(self.text).sample(range(-9, 10), count)

    def tests(self, count: int) -> list[str]:
        """The tests for `policy.ProgramReward`."""
        return [f"assert f({x}) == {self(x)}" for x in self.inputs(count)]


def draw_instructions(count: int, seed: int, without: Collection[Instruction] = ()) -> list[Instruction]:
    """Distinct instructions of one to six steps.

    Args:
        count: how many.
        seed: random seed.
        without: instructions that are not drawn.
    """
    rng = random.Random(f"instructions/{seed}")
    excluded = set(without)
    found: dict[Instruction, None] = {}
    while len(found) < count:
        words = [rng.choice(list(OPERATIONS)) for _ in range(rng.choice(_LENGTHS))]
        one = Instruction(tuple((w, rng.choice(_CONSTANTS) if OPERATIONS[w][0] else 0) for w in words))
        if one not in excluded:
            found[one] = None
    return list(found)


def behaviour(instruction: Instruction, rng: random.Random) -> str:
    """A program as the behaviour policy writes it, with its mistakes."""
    steps = []
    for word, k in instruction.steps:
        if rng.random() < _LEFT_OUT:
            continue
        if word in _OPPOSITE and rng.random() < _BOUND:
            word = _OPPOSITE[word]
        elif rng.random() < _OTHER:
            word = rng.choice(list(OPERATIONS))
        if not k or rng.random() < _CONSTANT:
            k = rng.choice(_CONSTANTS)
        steps.append((word, k))
    return _program(steps)


def share_passed(instruction: Instruction, text: str, inputs: Sequence[int]) -> float:
    """The share of inputs for which a text is a program with the right result, in [0, 1]."""
    steps = _read(text)
    if steps is None:
        return 0.0
    return sum(_run(steps, x) == instruction(x) for x in inputs) / len(inputs)


def right(instruction: Instruction, text: str) -> bool:
    """Whether a text is a program that does what it should, on 41 inputs."""
    return share_passed(instruction, text, _INPUTS) == 1.0


def _program(steps: Sequence[tuple[str, int]]) -> str:
    parts = ["def f(x):"]
    for word, k in steps:
        needs, code, end, _ = OPERATIONS[word]
        parts.append(f"{code} {k}{end}" if needs else code)
    return " ".join([*parts, "return x"])


def _read(text: str) -> list[tuple[Any, int]] | None:
    """The meanings and constants of a program; None if it is not a program."""
    whole = re.fullmatch(r"def f\(x\):(.*) return x", text)
    if whole is None:
        return None
    tokens = whole[1].split()
    steps: list[tuple[Any, int]] = []
    place = 0
    while place < len(tokens):
        needs, end, meaning = _BY_CODE.get(tokens[place], (False, "", None))
        if meaning is None:
            return None
        k = 0
        if needs:
            place += 1
            constant = tokens[place] if place < len(tokens) else ""
            if constant.removesuffix(end) not in map(str, _CONSTANTS) or not constant.endswith(end):
                return None
            k = int(constant.removesuffix(end))
        steps.append((meaning, k))
        place += 1
    return steps


def _run(steps: Sequence[tuple[Any, int]], x: int) -> int:
    for meaning, k in steps:
        x = meaning(x, k)
    return x
