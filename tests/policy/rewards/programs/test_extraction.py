"""Which block of a completion is the program."""

from __future__ import annotations

import pytest

from pluralign.policy.rewards.programs.extraction import defined_names, extract_program

F, G = "def f():\n    return 1\n", "def f():\n    return 2\n"


@pytest.mark.parametrize(
    ("text", "program"),
    [
        (f"```python\n{F}```", F),
        (f"```py\n{F}```\nor\n```Python3\n{G}```", G),
        (f"Text\n```\n{F}```\n", F),
        (f"```bash\npip install x\n```\n```python\n{F}```\n```\nprints 1\n```", F),
        (f"```python\n{F}```\nUse it so:\n```python\nprint(f())\n```", F),
        ("```python\na = 1\n```\n```python\nb = 2\n```", "b = 2\n"),
        (f"~~~python\n{F}~~~", F),
        (f"````python\nx = '''\n```\n'''\n{F}````", f"x = '''\n```\n'''\n{F}"),
        (f"Cut off:\n```python\n{F}", F),
        (f"   ```python\n{F}   ```", F),
        (f"<think>\n```python\n{G}```\n</think>\n```python\n{F}```", F),
        (f"```{{.python}}\n{F}```", F),
        (F, F),
        ("import os\nprint(os", "import os\nprint(os"),
        ("print(input())", "print(input())"),
        ("I would write a function.", None),
        ("Sorry", None),
        ("42", None),
        ("", None),
        ("```js\nlet x\n```", None),
        (f"<think>\n```python\n{F}```\n</think>\nNo.", None),
        ("```python\n\n```", None),
    ],
)
def test_program_in_a_completion(text, program):
    assert extract_program(text, {"f"}) == program


def test_names_that_code_defines():
    code = "import a.b as c, d.e\nfrom g import h\nx, (y, *z) = 1, (2, 3)\nclass K:\n    def m(self): pass\nif x:\n    w = 1\n"
    assert defined_names(code) == {"c", "d", "h", "x", "y", "z", "K", "w"}
    assert defined_names("def f(:\nclass G:") == {"f", "G"}
