"""The program in a policy's completion: one of its blocks of code, or none.

In: text, and names that the tests use. Out: code or None. Fences are those of Markdown (``` or ~~~, closed or
cut off); reasoning before `</think>` holds drafts and is skipped.

Of several blocks marked as Python (else of those without a mark) the last that defines what the tests use is
the program, and where none does, the last. Text without a fence is a program if it reads as one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection

__all__ = ["defined_names", "extract_program"]

_FENCE = re.compile(r"^[ ]{0,3}(?P<fence>`{3,}|~{3,})[ \t]*(?P<mark>[^\n`]*)$", re.MULTILINE)
_PYTHON = {"python", "py", "python3", "python2", "py3", "ipython", "pycon"}
_STARTS = re.compile(r"^(def |class |import |from \w[\w.]* import |async def |@)", re.MULTILINE)


def extract_program(text: str, names: Collection[str] = ()) -> str | None:
    """The program in a completion.

    Args:
        text: the completion.
        names: the names that the tests use.

    Returns:
        Code, with or without syntax errors; None if there is none.

    >>> said = "Here:\\n```python\\ndef f(): return 1\\n```\\nUse it as\\n```python\\nf()\\n```"
    >>> extract_program(said, {"f"})
    'def f(): return 1\\n'
    """
    _, thought, answer = text.rpartition("</think>")
    source = answer if thought else text
    blocks = _blocks(source)
    if blocks:
        kept = [code for mark, code in blocks if mark in _PYTHON] or [
            code for mark, code in blocks if not mark
        ]
        kept = [code for code in kept if code.strip()]
        if not kept:
            return None
        defining = [code for code in kept if set(names) & defined_names(code)]
        return (defining or kept)[-1]
    return source if _reads_as_program(source) else None


def _blocks(text: str) -> list[tuple[str, str]]:
    """Mark and content of each fenced block, in order."""
    found: list[tuple[str, str]] = []
    place = 0
    while (start := _FENCE.search(text, place)) is not None:
        fence, words = start["fence"], start["mark"].strip().split()
        close = re.compile(rf"^[ ]{{0,3}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$", re.MULTILINE)
        end = close.search(text, start.end())
        content = text[start.end() + 1 : end.start() if end else len(text)]
        found.append((words[0].strip("{}.").lower() if words else "", content))
        if end is None:
            break
        place = end.end()
    return found


def defined_names(code: str) -> set[str]:
    """Names that the code binds at its top level; none if it does not parse."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set(re.findall(r"^(?:async )?(?:def|class) (\w+)", code, re.MULTILINE))
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        else:
            found |= {
                n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            }
    return found


def _reads_as_program(text: str) -> bool:
    """Whether text without a fence is code: it parses and does something, or has lines that only code has."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _STARTS.search(text) is not None
    idle = (ast.Constant, ast.Name, ast.Tuple, ast.Attribute, ast.BinOp, ast.Compare, ast.UnaryOp, ast.BoolOp)
    return any(not (isinstance(n, ast.Expr) and isinstance(n.value, idle)) for n in tree.body)
