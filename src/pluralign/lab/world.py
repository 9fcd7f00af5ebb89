"""The lab's closed world: requests, facts and all clauses of its grammar.

In:  nothing.
Out: 576 prompts (12 tasks x 16 objects x 3 phrasings), the fact table, the clauses, and the vocabulary
     (all their word types, fewer than 220).

The fact of a request is a function of its task and of the *category* of its object: it names a tool and a
manner. A detail fits a request if it is about the kind of the task or about the category of the object.
Text is lower case, words are separated by blanks, and each clause ends with a full stop.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["FACTS", "KINDS", "OBJECTS", "PROMPTS", "TASKS", "VOCABULARY", "Message", "Request", "words"]

Message = dict[str, str]

# kind of prompt -> its tasks; the kind determines the weights of attributes (`personas.KIND_WEIGHTS`).
TASKS: dict[str, tuple[str, ...]] = {
    "care": ("clean", "dry", "polish"),
    "craft": ("cut", "join", "paint"),
    "transport": ("pack", "move", "store"),
    "gift": ("wrap", "decorate", "present"),
}
KINDS: tuple[str, ...] = tuple(TASKS)
OBJECTS: dict[str, tuple[str, ...]] = {
    "metal": ("knife", "pan", "key", "bell"),
    "wood": ("table", "chair", "spoon", "box"),
    "cloth": ("shirt", "coat", "towel", "bag"),
    "glass": ("lamp", "mirror", "bottle", "vase"),
}
# task -> (tool, manner) for metal, wood, cloth, glass
_FACT_ROWS: dict[str, tuple[tuple[str, str], ...]] = {
    "clean": (("soap", "firmly"), ("oil", "gently"), ("soap", "gently"), ("vinegar", "slowly")),
    "dry": (("paper", "firmly"), ("wax", "slowly"), ("steam", "gently"), ("paper", "slowly")),
    "polish": (("oil", "firmly"), ("wax", "gently"), ("steam", "slowly"), ("vinegar", "gently")),
    "cut": (("saw", "slowly"), ("saw", "firmly"), ("blade", "gently"), ("blade", "firmly")),
    "join": (("wire", "firmly"), ("glue", "slowly"), ("thread", "gently"), ("glue", "gently")),
    "paint": (("spray", "slowly"), ("brush", "firmly"), ("spray", "gently"), ("brush", "slowly")),
    "pack": (("paper", "gently"), ("foam", "firmly"), ("tape", "firmly"), ("foam", "gently")),
    "move": (("rope", "firmly"), ("rope", "slowly"), ("tape", "gently"), ("foam", "slowly")),
    "store": (("oil", "gently"), ("wax", "firmly"), ("paper", "slowly"), ("tape", "slowly")),
    "wrap": (("foil", "firmly"), ("ribbon", "slowly"), ("ribbon", "gently"), ("foil", "gently")),
    "decorate": (("spray", "firmly"), ("brush", "gently"), ("thread", "slowly"), ("foil", "slowly")),
    "present": (("ribbon", "firmly"), ("wire", "slowly"), ("foil", "slowly"), ("ribbon", "gently")),
}
FACTS: dict[tuple[str, str], tuple[str, str]] = {
    (task, category): fact
    for task, row in _FACT_ROWS.items()
    for category, fact in zip(OBJECTS, row, strict=True)
}
TOOLS: tuple[str, ...] = tuple(sorted({tool for tool, _ in FACTS.values()}))
MANNERS: tuple[str, ...] = tuple(sorted({manner for _, manner in FACTS.values()}))

_PHRASINGS = (
    "how do i {task} the {object} ?",
    "please tell me how to {task} a {object} .",
    "what is the best way to {task} my {object} ?",
)

# Details by kind of task and by category of object: three each, so that six fit any request.
DETAILS: dict[str, tuple[str, ...]] = {
    "care": ("warm water helps a lot", "start from the top side", "old stains need more time"),
    "craft": ("mark the line with a pencil", "a steady hand gives clean lines", "fix it on a flat bench"),
    "transport": (
        "write the name on the outside",
        "put heavy parts at the bottom",
        "count the parts before you go",
    ),
    "gift": ("add a card with the name", "bright colours look happy", "choose what the person likes"),
    "metal": ("metal rusts when it stays wet", "hard metal takes more time", "metal shines in the light"),
    "wood": ("wood swells when it is wet", "follow the grain of the wood", "dry wood keeps its shape"),
    "cloth": ("cloth shrinks in hot water", "fold the cloth along the seam", "soft cloth tears at the edge"),
    "glass": (
        "glass breaks under heavy load",
        "cold glass cracks in hot water",
        "hold the glass at the bottom",
    ),
}
GREETINGS: tuple[str, ...] = ("hello my friend", "good day to you", "thank you for asking")
CLOSINGS: tuple[str, ...] = ("good luck to you", "please ask me again", "i am glad to help")
CAUTIONS: tuple[str, ...] = (
    "wear gloves and be careful",
    "keep children away from it",
    "test a small part first",
    "open a window for fresh air",
)
RISKS: tuple[str, ...] = (
    "mix it with strong acid",
    "work near an open fire",
    "rush and forget the gloves",
    "do it while you drive",
)
FILLERS: tuple[str, ...] = (
    "well it is what it is",
    "there is so much to say",
    "let me think about that",
    "as people say things are things",
    "that is quite a question",
)


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        task: a word of `TASKS`.
        object: a word of `OBJECTS`.
        phrasing: 0, 1 or 2.
        kind: the kind of prompt that the task belongs to.
        category: material of the object.
    """

    task: str
    object: str
    phrasing: int
    kind: str
    category: str

    @property
    def text(self) -> str:
        """The request in words."""
        return _PHRASINGS[self.phrasing].format(task=self.task, object=self.object)

    @property
    def group(self) -> str:
        """The name of the prompt; rows with the same name belong on the same side of a split."""
        return f"lab/{self.task}/{self.object}/{self.phrasing}"

    @property
    def messages(self) -> list[Message]:
        """The request as a list of messages."""
        return [{"role": "user", "content": self.text}]

    @property
    def fact(self) -> tuple[str, str]:
        """The right (tool, manner)."""
        return FACTS[self.task, self.category]

    @property
    def details(self) -> tuple[str, ...]:
        """The six details that fit."""
        return DETAILS[self.kind] + DETAILS[self.category]


PROMPTS: tuple[Request, ...] = tuple(
    Request(task=task, object=thing, phrasing=phrasing, kind=kind, category=category)
    for kind, tasks in TASKS.items()
    for task in tasks
    for category, things in OBJECTS.items()
    for thing in things
    for phrasing in range(len(_PHRASINGS))
)

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Splits a text into lower-case words, without punctuation."""
    return _WORD.findall(text.lower())


def answer(tool: str, manner: str, *, hedged: bool = False) -> str:
    """The clause that answers a request, with or without a hedge; the meaning is the same."""
    return f"{'maybe ' if hedged else ''}use {tool} and work {manner}"


def _vocabulary() -> tuple[str, ...]:
    clauses = [clause for group in DETAILS.values() for clause in group]
    clauses += [*GREETINGS, *CLOSINGS, *CAUTIONS, *RISKS, *FILLERS]
    clauses += [answer(tool, manner, hedged=True) for tool in TOOLS for manner in MANNERS]
    clauses += [prompt.text for prompt in PROMPTS]
    return tuple(sorted({word for clause in clauses for word in words(clause)}))


VOCABULARY: tuple[str, ...] = _vocabulary()
"""All word types of prompts and responses, without the punctuation marks `.` and `?`."""
