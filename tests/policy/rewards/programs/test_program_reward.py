"""Shares of tests passed: honest programs in every shape of tests, reasons, bad input, cache and pool."""

from __future__ import annotations

import pickle
import time

import datasets
import pytest
from program_runs import at_level, levels, one, reasons

import pluralign as pl
from pluralign.errors import ArgumentError, DataError
from pluralign.policy.rewards.programs.limits import ProgramLimits
from pluralign.policy.rewards.programs.reward import ProgramReward
from pluralign.policy.rewards.sources import rewards_of

SQUARE = "def f(x):\n    return x * x\n"


def test_shares_of_text_and_messages(reward):
    tests = ["assert f(1) == 1", "assert f(2) == 4", "assert f(3) == 8", "assert isinstance(f(2), int)"]
    said = [{"role": "assistant", "content": f"Here:\n```python\n{SQUARE}```\nDone."}]
    rows = {"completion": [SQUARE, said, "I cannot.", "def f(x):\n    return 1"], "tests": [tests] * 4}
    assert reward(rows) == [0.75, 0.75, 0.0, 0.5]


def test_tables_and_lists_of_rows_are_read_as_columns_are(reward):
    rows = [
        {"completion": SQUARE, "tests": ["assert f(2) == 4"]},
        {"completion": "no", "tests": ["assert f()"]},
    ]
    assert reward(rows) == reward(datasets.Dataset.from_list(rows)) == [1.0, 0.0]
    assert reward([]) == []
    assert reward([{**rows[0], "setup": "import math"}, rows[1]]) == [1.0, 0.0]


def test_public_name_is_a_reward_source(reward):
    assert pl.policy.ProgramReward is ProgramReward
    rows = {"prompt": ["p"], "completion": [SQUARE], "tests": [["assert f(2) == 4", "assert f(2) == 5"]]}
    assert rewards_of(reward, rows) == [0.5]
    assert reward.describe()["kind"] == "programs"
    assert reward.describe()["limits"]["memory_mib"] == 256


@pytest.mark.parametrize(
    ("program", "test"),
    [
        ("def f(a, b=2, *c, **d): return (a, b, c, d)", "assert f(1, *[3, 4], k=5) == (1, 3, (4,), {'k': 5})"),
        ("def f(x): return sorted(set(x))", "assert sorted(f([3, 1, 3])) == [1, 3] and len(f([1, 1])) == 1"),
        ("def f(x): return x / 3", "assert math.isclose(f(1.0), 1 / 3) and round(f(1), 2) == 0.33"),
        ("def f(x): return {x, (1, 2), frozenset({3})}", "assert f(1.5) == {1.5, (1, 2), frozenset([3])}"),
        ("def f(n): return 2 ** n", "assert f(20_000) == 1 << 20_000 and f(0) == True"),
        ("def f(n): return -n", "assert [f(i) for i in (0, 127, 128, 255, 256)] == [0, -127, -128, -255, -256]"),
        ("def f(s): return s[::-1]", "assert f('añ\\ud800') == '\\ud800ña' and f(b'ab') == b'ba'"),
        ("def f(): return None", "assert f() is None and not f()"),
        ("def f(x): return {'a': [x, {'b': (x,)}]}", "assert f(2)['a'][1]['b'] == (2,)"),
        ("def f(x): raise ValueError('no ' + x)", "try:\n    f('x')\n    assert False\nexcept ValueError as e:\n    assert str(e) == 'no x'"),
        ("class E(KeyError): pass\ndef f(): raise E(1)", "try:\n    f()\nexcept LookupError:\n    pass\nelse:\n    raise AssertionError"),
        ("def f(g, xs): return [g(x) for x in xs]", "assert f(lambda x: x + 1, [1, 2]) == [2, 3] and f(str, (1,)) == ['1']"),
        ("def f(n):\n    for i in range(n): yield i", "assert list(f(3)) == [0, 1, 2] and sum(f(4)) == 6 and 2 in f(3)"),
        ("from collections import Counter, deque, OrderedDict\ndef f(s): return Counter(s), deque(s), OrderedDict(a=1)",
         "assert f('aab') == ({'a': 2, 'b': 1}, collections.deque('aab'), {'a': 1})"),
        ("from decimal import Decimal\nimport datetime\ndef f(): return Decimal('0.1'), datetime.date(2024, 2, 29), range(3)",
         "from decimal import Decimal\nassert f() == (Decimal('0.10'), datetime.date(2024, 2, 29), range(0, 3))"),
        ("def f(x):\n    x.sort()", "x = [3, 1]\nf(x)\nassert x == [1, 3]"),
        ("def f(x):\n    x.pop()\n    return len(x)", "x = [3, 1]\nk = f(x)\nassert k == 1 and x == [3]"),
        ("class Stack:\n    def __init__(self): self.xs = []\n    def push(self, x): self.xs.append(x)\n    def pop(self): return self.xs.pop()\n    def __len__(self): return len(self.xs)",
         "s = Stack()\ns.push(1)\ns.push([2])\nassert len(s) == 2 and s.pop() == [2] and s.xs == [1] and isinstance(s, Stack)"),
        ("def adder(n): return lambda x: x + n", "assert adder(2)(3) == 5"),
        ("def sum(a, b): return a * b", "assert sum(2, 5) == 10"),  # asked for by the name of a built-in
        ("LIMIT = 7", "assert LIMIT == 7"),
        ("def f(x): return float('nan') if x else float('inf')", "assert math.isnan(f(1)) and f(0) == math.inf"),
        ("from collections import Counter\ndef f(s): return Counter(s)", "assert f('aab')['z'] == 0 and f('aab').most_common(1) == [('a', 2)] and f('a') + f('b') == {'a': 1, 'b': 1}"),
        ("from collections import OrderedDict\ndef f(s):\n    d = OrderedDict.fromkeys(s, 1)\n    d.move_to_end(s[0])\n    return d",
         "from collections import OrderedDict\nassert f('ab') == OrderedDict(b=1, a=1) != OrderedDict(a=1, b=1) and list(f('ab')) == ['b', 'a']"),
        ("from collections import defaultdict\ndef f(k): return defaultdict(list, {k: [1]})", "assert f('a') == {'a': [1]} and f('a')['b'] == []"),
        ("from typing import NamedTuple\nclass P(NamedTuple):\n    x: int\n    y: int = 2\ndef f(x): return [P(x)]", "assert f(1)[0].y == 2 and f(1) == [(1, 2)] and isinstance(f(1)[0], tuple)"),
        ("def f(d): return d.keys(), d.values(), d.items()", "k, v, i = f({'b': 1, 'a': 2})\nassert k == {'a', 'b'} and list(k) == ['b', 'a'] and list(v) == [1, 2] and i == {('a', 2), ('b', 1)}"),
        ("from datetime import *\ndef f(): return datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2))), datetime(2024, 1, 1), time(1, 2, 3, 4)",
         "from datetime import *\naware, naive, t = f()\nassert aware == datetime(2023, 12, 31, 22, tzinfo=timezone.utc) and aware != naive == datetime(2024, 1, 1) and t == time(1, 2, 3, 4)"),
        ("def f(d): return d['q']", "try:\n    f({})\n    assert False\nexcept KeyError as e:\n    assert e.args == ('q',) and str(e) == \"'q'\""),
        ("def f(b): return b.decode('ascii')", "try:\n    f(b'\\xff')\n    assert False\nexcept UnicodeDecodeError as e:\n    assert e.start == 0"),
        ("def f(p): return open(p)", "import errno\ntry:\n    f('/nothing')\n    assert False\nexcept OSError as e:\n    assert e.errno == errno.ENOENT"),
        ("class E(ValueError):\n    def __init__(self, code): self.code = code\n    def __str__(self): return f'code {self.code}'\ndef f(): raise E(3)", "try:\n    f()\n    assert False\nexcept ValueError as e:\n    assert str(e) == 'code 3'"),
        ("class D:\n    def __init__(self): self.d = {}\n    def __setitem__(self, k, v): self.d[k] = v\n    def __delitem__(self, k): del self.d[k]\n    def __getitem__(self, k): return self.d[k]",
         "d = D()\nd['a'] = 1\nd['b'] = 2\ndel d['a']\nassert d['b'] == 2 and d.d == {'b': 2}"),
        ("def f(q):\n    q.rotate(1)\n    q.append(0)", "from collections import deque\nq = deque([1, 2])\nf(q)\nassert q == deque([2, 1, 0])"),
        ("def f(n): return 0 if n == 0 else 1 + f(n - 1)", "assert f(3000) == 3000"),
        ("def f(xs): return [x + 1 for x in xs]", "xs = list(range(-100_000, 100_000))\nassert f(xs) == [x + 1 for x in xs] and f([x / 2 for x in xs[:20]])[0] == -49999.0 and f([2**63 - 1] * 20)[0] == 2**63"),
        ("def f(x):\n    if x < 0: exit()\n    return x", "assert f(1) == 1"),
        ("import random\nrandom.seed(0)\ndef f(): return {'b', 'a'}, hash('x')", "assert f()[0] == {'a', 'b'} and f() == f()"),
    ],
)  # fmt: skip
def test_tests_of_the_common_kinds(reward, program, test):
    result = one(reward, program, [test])
    assert result.tests[0].reason == "passed", result.tests


def test_human_evals_check_counts_its_statements(reward):
    tests = """
METADATA = {'author': 'x'}
def near(a, b):
    return abs(a - b) < 1e-6
def check(candidate):
    assert near(candidate(2.0), 4.0)
    xs = [1, 2]
    for x in xs:
        assert candidate(x) == x * x
    assert candidate(3) == 10, "wrong"
check(square)
"""
    program = "def square(x):\n    return x * x"
    assert reasons(reward, program, tests) == ["passed", "passed", "wrong answer"]
    assert one(reward, program, [tests], entry_point="square").share == pytest.approx(2 / 3)


def test_completion_that_continues_its_prompt(reward):
    prefix = 'def square(x: int) -> int:\n    """Square."""\n'
    check = "def check(candidate):\n    assert candidate(3) == 9\n"
    columns = {"prefix": prefix, "entry_point": "square"}
    assert one(reward, "    return x * x\n", check, **columns).share == 1.0
    assert one(reward, "def square(x):\n    return x * x\n", check, **columns).share == 1.0
    assert one(reward, "I do not know.", check, **columns).tests[0].reason == "no code"


LEETCODE_SETUP = """
from typing import *
from collections import *
class ListNode:
    def __init__(self, val=0, next=None):
        self.val = val
        self.next = next
def list_node(values):
    head = ListNode()
    p = head
    for v in values:
        p.next = ListNode(v)
        p = p.next
    return head.next
def is_same_list(a, b):
    while a and b:
        if a.val != b.val:
            return False
        a, b = a.next, b.next
    return a is None and b is None
"""


def test_leetcode_with_its_own_classes(reward):
    program = """
class Solution:
    def reverse(self, head: Optional[ListNode]) -> Optional[ListNode]:
        last = None
        while head:
            head.next, last, head = last, head, head.next
        return last
"""
    tests = """
def check(candidate):
    assert is_same_list(candidate(head = list_node([1, 2, 3])), list_node([3, 2, 1]))
    assert is_same_list(candidate(head = list_node(list(range(2000)))), list_node(list(range(1999, -1, -1))))
    assert is_same_list(candidate(head = list_node([1, 2])), list_node([1, 2]))
"""
    columns = {"entry_point": "Solution().reverse", "setup": LEETCODE_SETUP}
    assert reasons(reward, program, tests, **columns) == ["passed", "passed", "wrong answer"]


def test_what_a_program_changes_in_instances_of_the_setup_comes_back(reward):
    program = "def f(head):\n    head.next, head.val = None, 7"
    tests = ["head = list_node([1, 2])\nf(head)\nassert head.val == 7 and head.next is None"]
    assert one(reward, program, tests, setup=LEETCODE_SETUP).share == 1.0


def test_scripts_read_and_print(reward):
    tests = [
        {"input": "1 2\n", "output": "3"},
        {"input": "5 5", "output": "10\n\n"},
        {"input": "", "output": "0"},
    ]
    program = "a, b = map(int, input().split())\nprint(a + b, ' ')\n"
    assert reasons(reward, program, tests) == ["passed", "passed", "error"]
    both = {"inputs": ["1\n"], "outputs": ["2"]}
    assert one(reward, "if __name__ == '__main__':\n    print(int(input()) + 1)", both).share == 1.0
    assert reasons(reward, "import sys\nsys.stdout.buffer.write(b'\\xff')", both) == ["wrong answer"]
    assert reasons(reward, "print(", both) == ["no code"] or reasons(reward, "import x\nprint(", both) == [
        "syntax error"
    ]
    assert reasons(reward, "import sys\nprint(2)\nsys.exit(3)", both) == ["exited"]


@pytest.mark.parametrize(
    "program",
    [
        "print(int(input()) + 1)\nexit()",
        "print(int(input()) + 1)\nquit(0)",
        "import fileinput\nprint(int(next(fileinput.input())) + 1)",
        "import sys\nprint(int(sys.stdin.readline()) + len(sys.argv))",
        "print(int(open(0).read()) + 1)",
        "import atexit\natexit.register(lambda: print(int(input()) + 1))",
        "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(1 << 26)\ndef f(n): return 1 if n == 0 else f(n - 1)\n"
        "t = threading.Thread(target=lambda: print(int(input()) + f(20_000)))\nt.start()",
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass(order=True)\nclass P:\n    x: int\nprint(max(P(2), P(int(input()))).x)",
        "import asyncio\nasync def main(): print(int(input()) + 1)\nif __name__ == '__main__':\n    asyncio.run(main())",
    ],
)  # fmt: skip
def test_scripts_as_people_write_them(reward, program):
    assert reasons(reward, program, {"inputs": ["1\n"], "outputs": ["2"]}) == ["passed"]


@pytest.mark.parametrize("level", levels())
def test_honest_programs_pass_at_every_level(level, monkeypatch):
    """Where there is no bubblewrap, processes are forked, and have to end as started ones do."""
    scripts = [
        "print(int(input()) + 1)",
        "print(int(input()) + 1)\nexit()",
        "import atexit\natexit.register(lambda: print(int(input()) + 1))",
        "import threading, time\ndef f():\n    time.sleep(0.05)\n    print(int(input()) + 1)\nthreading.Thread(target=f).start()",
        "import subprocess\nsubprocess.run(['/bin/sh', '-c', 'read n; echo 2'])",
    ]
    ends = {
        "print(2)\n1 / 0": "error",
        "import sys\nprint(2)\nsys.exit(3)": "exited",
        "print(3)": "wrong answer",
    }
    functions = [
        SQUARE,
        "from concurrent.futures import ThreadPoolExecutor\ndef f(x):\n    with ThreadPoolExecutor(2) as pool: return pool.submit(lambda: x * x).result()",
        "import asyncio\nasync def g(x): return x * x\ndef f(x): return asyncio.run(g(x))",
        "import tempfile\ndef f(x):\n    with tempfile.TemporaryFile('w+') as file:\n        file.write(str(x * x))\n        file.seek(0)\n        return int(file.read())",
    ]
    reward = at_level(monkeypatch, level, workers=1)
    try:
        script = {"inputs": ["1\n"], "outputs": ["2"]}
        found = {program: reasons(reward, program, script) for program in [*scripts, *ends]}
        assert found == {program: [ends.get(program, "passed")] for program in found}
        calls = {program: reasons(reward, program, ["assert f(3) == 9"]) for program in functions}
        assert calls == {program: ["passed"] for program in functions}
    finally:
        reward.close()


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Two of Python alone, and one with a compiled part."""
    for name, content in {
        "many_parts/__init__.py": "from .inner.numbers import double\n",
        "many_parts/inner/__init__.py": "",
        "many_parts/inner/numbers.py": "from many_parts import inner\ndef double(x): return 2 * x\n",
        "one_file.py": "HALF = 0.5\n",
        "compiled/__init__.py": "",
        "compiled/fast.so": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("level", levels())
def test_packages_that_are_given_can_be_imported_and_no_others(level, monkeypatch, packages):
    reward = at_level(monkeypatch, level, workers=1, packages=["many_parts", "one_file"])
    program = "import one_file, many_parts.inner.numbers\nfrom many_parts import double\ndef f(x): return double(x) * one_file.HALF"
    try:
        assert one(reward, program, ["assert f(3) == 3"]).share == 1.0
        assert (
            one(reward, program, ["assert f(3) == half"], setup="from one_file import HALF\nhalf = 3").share
            == 1.0
        )
        assert reasons(reward, "import one_file\nprint(one_file.HALF)", [{"output": "0.5"}]) == ["passed"]
        assert reasons(reward, "import compiled\ndef f(x): return x", ["assert f(3) == 3"]) == ["error"]
        assert reward.describe()["packages"] == {"many_parts": "", "one_file": ""}
    finally:
        reward.close()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["compiled"], "compiled has compiled parts"),
        (["math"], "math has compiled parts|math is not installed"),
        (["nothing_like_it"], r"nothing_like_it is not installed here \(`pip install nothing_like_it`\)"),
        ("one_file", "packages is 'one_file'; allowed: a list of names"),
        (["one-file"], "allowed: a list of names as they are imported"),
        ([3], "allowed: a list of names"),
    ],
)
def test_packages_that_cannot_be_sent_are_named(packages, names, message):
    with pytest.raises(ArgumentError, match=message):
        ProgramReward(packages=names)


PYTEST = "def helper(x):\n    return x * x\ndef test_two():\n    assert f(2) == helper(2)\ndef test_three():\n    assert f(3) == 8\n"
UNITTEST = """
import unittest
class Squares(unittest.TestCase):
    @classmethod
    def setUpClass(cls): cls.two = 2
    def setUp(self): self.three = 3
    def test_two(self): self.assertEqual(f(self.two), 4)
    def test_three(self):
        with self.subTest("three"):
            self.assertEqual(f(self.three), 8)
    def test_raises(self):
        with self.assertRaises(TypeError):
            f("x")
"""


@pytest.mark.parametrize(
    ("tests", "found"),
    [
        (PYTEST, ["passed", "wrong answer"]),
        (PYTEST + "if __name__ == '__main__':\n    test_three()\n    print('ok')\n", ["wrong answer", "passed"]),
        ([PYTEST], ["wrong answer"]),
        ("class TestSquares:\n    def test_two(self): assert f(2) == 4\n    def test_three(self): assert f(3) == 8", ["passed", "wrong answer"]),
        (UNITTEST, ["passed", "wrong answer", "passed"]),
        (UNITTEST + "unittest.main()", ["passed", "wrong answer", "passed"]),
        (UNITTEST + "if __name__ == '__main__':\n    unittest.main(argv=[''], exit=False)", ["passed", "wrong answer", "passed"]),
        (UNITTEST + "suite = unittest.TestLoader().loadTestsFromTestCase(Squares)\nunittest.TextTestRunner().run(suite)", ["passed", "wrong answer", "passed"]),
        ("def t():\n    assert f(2) == 5\nif __name__ == '__main__':\n    t()", ["wrong answer"]),
    ],
)  # fmt: skip
def test_tests_that_a_text_only_defines_are_run(reward, tests, found):
    assert reasons(reward, SQUARE, tests) == found


def test_a_setup_may_import_what_is_not_here(reward):
    """LeetCodeDataset imports sortedcontainers for all programs of a row, and few of them use it."""
    setup = "from sortedcontainers import SortedList\nimport math"
    tests = ["assert f(2) == math.isqrt(16)"]
    assert one(reward, SQUARE, tests, setup=setup).share == 1.0
    assert reasons(reward, "def f(x): return SortedList([x])", tests, setup=setup) == ["error"]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("def f(x): return x", "wrong answer"),
        ("def f(x): return undefined", "error"),
        ("def g(x): return 2", "error"),
        ("def f(x: return 2", "syntax error"),
        ("def f(x):\n    return '\0'", "syntax error"),
        ("no code at all", "no code"),
        ("```\n```", "no code"),
        ("```bash\nls\n```", "no code"),
        ("", "no code"),
        ("import nothing_like_it\ndef f(x): return 2", "error"),
        ("def f(x): return [0] * 10 ** 9", "memory"),
        ("import sys\ndef f(x): sys.exit(0)", "exited"),
        ("import sys\nsys.exit(0)\ndef f(x): return 2", "exited"),
        ("def f(x): assert x > 5", "error"),
        ("def f(x): return f(x)", "error"),
        ("x = input()\ndef f(x): return 2", "error"),
    ],
)
def test_reasons(reward, program, reason):
    assert reasons(reward, program, ["assert f(1) == 2"]) == [reason]


def test_a_program_that_blocks_once_is_started_again(reward):
    program = "def f(x):\n    while x == 1:\n        pass\n    return x"
    limits = ProgramLimits(test_seconds=0.7, total_seconds=20)
    quick = ProgramReward(limits)
    tests = ["assert f(0) == 0", "assert f(1) == 1", "assert f(2) == 2", "assert f(3) == 4"]
    try:
        assert reasons(quick, program, tests) == ["passed", "timeout", "passed", "wrong answer"]
        check = "def check(candidate):\n    xs = [2]\n    assert candidate(1) == 1\n    assert candidate(xs[0]) == 2\n"
        assert reasons(quick, program, check, entry_point="f") == ["timeout", "passed"]
        assert not quick._cache  # a timeout may be the machine's doing
    finally:
        quick.close()


def test_a_program_that_hangs_only_sometimes_is_run_again():
    """A timeout is not remembered: it may have been the machine's doing, and the next run may pass."""
    quick = ProgramReward(ProgramLimits(test_seconds=0.7, total_seconds=20))
    until = time.time() + 3.0
    program = f"import time\ndef f(x):\n    while time.time() < {until}: pass\n    return x"
    try:
        assert reasons(quick, program, ["assert f(1) == 1"]) == ["timeout"]
        time.sleep(max(0.0, until - time.time()))
        assert reasons(quick, program, ["assert f(1) == 1"]) == ["passed"]
        assert quick.ended == {"timeout": 1, "passed": 1}
    finally:
        quick.close()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_that_is_no_text_does_no_harm(reward, stream):
    noise = f"import sys\nsys.{stream}.buffer.write(bytes(range(256)) * 100)\nsys.{stream}.flush()\n"
    assert reasons(reward, noise + SQUARE, ["assert f(2) == 4"]) == ["passed"]
    script = [{"input": "", "output": "3"}]
    expected = ["passed"] if stream == "stderr" else ["wrong answer"]
    assert reasons(reward, noise + "print(3)", script) == expected


def test_statement_before_the_tests_that_fails(reward):
    tests = "x = f(1)\nassert x == 1\nx = f(0)\nassert x == 1\nassert f(1) == 1"
    assert reasons(reward, "def f(x): return x // x", tests) == ["passed", "error", "error"]


def test_tests_may_print_and_define(reward):
    tests = [
        "print('passed')\ndef helper(a): return f(a) + 1\nassert helper(1) == 2",
        "import sys\nsys.stdout.write('x' * 10**6)\nassert f(1) == 1",
    ]
    assert one(reward, SQUARE, tests).share == 1.0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"completion": ["x"]}, "needs a column 'tests'; the columns are: completion"),
        ({"completion": ["x"], "tests": [[]]}, "row 0: tests: the list is empty"),
        ({"completion": ["x", "x"], "tests": [["assert f(1)"], 3]}, "row 1: tests: received int; allowed: a list"),
        ({"completion": ["x"], "tests": [["assert f(1"]]}, "row 0: tests: test 0 is not valid Python"),
        ({"completion": [3], "tests": [["assert f(1)"]]}, "row 0: completion is 3; allowed: text"),
        ({"completion": ["x"], "tests": ["def check(c):\n    assert c(1)"]}, "a column entry_point"),
        ({"completion": ["x"], "tests": [[{"input": "1"}]]}, "must be texts"),
        ({"completion": ["x"], "tests": [{"inputs": ["1"], "outputs": []}]}, "1 inputs and 0 outputs"),
        ({"completion": ["def f(): pass"], "tests": [["assert f()"]], "setup": ["x = 1 / 0"]}, "row 0: tests: their setup fails: ZeroDivisionError"),
        ({"completion": ["x"], "tests": [["assert f(them.x)"]], "setup": ["import nothing_like_it as them"]}, "row 0: tests: they need nothing_like_it; allowed: the standard library"),
        ({"completion": ["x"], "tests": [["from solution import f\nassert f()"]]}, "they need solution; allowed: the standard library. Names that the program defines need no import"),
        ({"completion": ["x"], "tests": [["from . import f\nassert f()"]]}, "they need a package around them"),
        ({"completion": ["x"], "tests": [["assert np.allclose(f(), 1)"]]}, "they need numpy"),
        ({"completion": ["x"], "tests": [["def one():\n    assert f()"]]}, "test 0 neither asserts nor calls anything"),
        ({"completion": ["x"], "tests": ["class Helper:\n    def one(self): assert f()"]}, "the text neither asserts nor calls anything"),
        ({"completion": ["x"], "tests": [["def test_one(tmp_path):\n    assert f()"]]}, "test 0 defines test_one, which takes arguments and is called by nothing"),
        ({"completion": ["x"], "tests": ["async def test_one():\n    assert f()"]}, "the text defines test_one, which is asynchronous"),
        ({"completion": ["x"], "tests": ["def check(candidate):\n    pass"], "entry_point": ["f"]}, "check neither asserts nor calls anything"),
        ({"completion": ["x"], "tests": []}, "each needs one"),
        ({"completion": "x", "tests": ["assert f(1)"]}, "column 'completion' is 'x'; allowed: a list"),
        ([{"completion": "x"}], "needs a column 'tests'"),
        ("x", "rows: received str 'x'; allowed: columns"),
        (None, "rows: received NoneType"),
    ],
)  # fmt: skip
def test_bad_input_is_named(reward, rows, message):
    with pytest.raises(DataError) as caught:
        reward(rows)
    assert message in str(caught.value)
    assert one(reward, SQUARE, ["assert f(1) == 1"]).share == 1.0


def test_arguments_are_checked():
    for arguments in ({"workers": 0}, {"cache_size": -1}, {"limits": 3}, {"minimum": "docker"}):
        with pytest.raises(ArgumentError):
            ProgramReward(**arguments)
    for limits in (
        {"memory_mib": 1},
        {"test_seconds": 0},
        {"processes": 1.5},
        {"total_seconds": float("nan")},
    ):
        with pytest.raises(ArgumentError, match=next(iter(limits))):
            ProgramLimits(**limits)


def test_results_are_remembered_by_content(monkeypatch):
    reward = ProgramReward(workers=1)
    try:
        rows = {"completion": [SQUARE, SQUARE + "\n"], "tests": [["assert f(2) == 4"]] * 2}
        assert reward(rows) == [1.0, 1.0]
        monkeypatch.setattr(reward, "_own_pool", lambda: None)  # nothing can run any more
        assert reward(rows) == [1.0, 1.0]
        with pytest.raises(AttributeError):
            reward({"completion": [SQUARE], "tests": [["assert f(2) == 5"]]})
    finally:
        monkeypatch.undo()
        reward.close()


def test_many_programs_in_order_and_again_after_close():
    reward = ProgramReward(workers=4, all_or_nothing=True)
    rows = {
        "completion": [f"def f(x): return x + {i % 7}" for i in range(40)],
        "tests": [["assert f(1) == 4", "assert f(2) == 5"]] * 40,
    }
    expected = [float(i % 7 == 3) for i in range(40)]
    assert reward(rows) == expected
    reward.close()
    copied = pickle.loads(pickle.dumps(reward))
    copied._cache.clear()
    assert copied(rows) == expected
    copied.close()
