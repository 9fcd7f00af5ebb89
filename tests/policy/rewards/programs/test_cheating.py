"""Programs that cheat get no more than what they honestly pass."""

from __future__ import annotations

import pytest
from program_runs import one

TESTS = ["assert f(2) == 4", "assert f(3) == 9", "assert f(-1) == 1", "assert f(1) == 1"]
LIAR = """
class Liar:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    def __hash__(self): return 0
    def __contains__(self, x): return True
    def __getattr__(self, name): return lambda *a: True
    def __lt__(self, o): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __sub__(self, o): return 0
    __rsub__ = __radd__ = __add__ = __sub__
    def __abs__(self): return 0
    def __round__(self, n=None): return 0
    def __float__(self): return 4.0
    def __iter__(self): return iter([])
    def __len__(self): return 0
"""
# What it does -> a program whose honest share of TESTS is 0.
CHEATS = {
    "equal to everything": LIAR + "def f(x): return Liar()",
    "a number equal to everything": "class N(int):\n    __eq__ = lambda s, o: True\n    __hash__ = int.__hash__\ndef f(x): return N(77)",
    "a list equal to everything": "class L(list):\n    __eq__ = lambda s, o: True\ndef f(x): return L()",
    "a class whose metaclass lies": "class M(type):\n    def __eq__(c, o): return True\n    __hash__ = None\n    def __instancecheck__(c, o): return True\nclass f(metaclass=M):\n    def __init__(self, x): pass",
    "patched built-ins": "import builtins\nfor n in ('isinstance', 'len', 'abs', 'all', 'any', 'sorted', 'round', 'set'):\n    setattr(builtins, n, lambda *a, **k: True)\nbuiltins.AssertionError = ZeroDivisionError\ndef f(x): return 77",
    "os._exit in the call": "import os\ndef f(x): os._exit(0)",
    "os._exit at once": "import os\ndef f(x): return 0\nos._exit(0)",
    "sys.exit": "import sys\ndef f(x): sys.exit(0)",
    "sys.exit in a subclass": "class E(SystemExit): pass\ndef f(x): raise E(0)",
    "prints passed": "print('passed'); print('{\"passed\": true}')\ndef f(x):\n    print('passed')\n    return 77",
    "__del__ and atexit": "import atexit, os\nclass D:\n    def __del__(self): os._exit(0)\nd = D()\natexit.register(lambda: os._exit(0))\ndef f(x):\n    global d\n    d = None\n    return 77",
    "a frame that says passed": "import os\nfor n in range(3, 10):\n    try: os.write(n, b'\\0\\0\\0\\x08l\\0\\0\\0\\0NNN')\n    except OSError: pass\ndef f(x): return 77",
    "answers to all that follow": "import os\ndef f(x):\n    for d in range(3, 1024):\n        try: os.write(d, b'\\0\\0\\0\\x06sxxxxx' * 50)\n        except OSError: pass\n    return 77",
    "looks for the tests in frames": "import sys, gc\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n        for v in list(frame.f_locals.values()) + list(frame.f_globals.values()):\n            if isinstance(v, str) and 'tressa'[::-1] in v: return x * x\n        frame = frame.f_back\n    for o in gc.get_objects():\n        if isinstance(o, (dict, list, tuple)) and 'f tressa'[::-1] in repr(o)[:10000]: return x * x\n    return 77",
    "rewrites the agent": "import sys\nfor name, m in list(sys.modules.items()):\n    if name.endswith('.agent') or name.endswith('.wire'):\n        for k, v in list(vars(m).items()):\n            if callable(v) and not isinstance(v, type) and k != 'serve': setattr(m, k, lambda *a, **kw: (b'', 0))\ndef f(x): return 77",
    "an exception that is an assertion": "def f(x): raise AssertionError('passed')",
    "StopIteration": "def f(x): raise StopIteration(x * x)",
    "traces and profiles": "import sys, threading\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\nthreading.settrace(lambda *a: None)\ndef f(x): return 77",
    "forks and lets the child answer": "import os\ndef f(x):\n    if os.fork() == 0: return 78\n    return 77",
    "a coroutine": "async def f(x): return 77",
    "returns itself": "def f(x): return f",
    "closes the socket": "import os\nos.closerange(3, 60)\ndef f(x): return 77",
}  # fmt: skip


@pytest.fixture(scope="module")
def cheated(reward):
    rows = {"completion": [*CHEATS.values()], "tests": [TESTS] * len(CHEATS)}
    return dict(zip(CHEATS, reward.results(rows), strict=True))


@pytest.mark.parametrize("cheat", CHEATS)
def test_cheats_pass_nothing(cheated, cheat):
    assert cheated[cheat].share == 0.0, cheated[cheat]


@pytest.mark.parametrize(
    "test",
    [
        "assert f(2) in [4, 5]",
        "assert not f(2) != 4",
        "assert 4 in f(2)",
        "assert f(2) > 3",
        "assert abs(f(2) - 4) < 1e-6",
        "assert math.isclose(f(2), 4)",
        "assert round(f(2), 2) == 4",
        "assert f(2).startswith('4')",
        "assert f(2).issubset({4})",
        "assert f(2).count(4) == True",
        "assert isinstance(f(2), int)",
        "assert type(f(2)) is int",
        "assert {f(2)} == {4}",
        "assert [f(2)] == [4]",
        "assert (4,) == (f(2),)",
        "assert f(2) == f(2) == 4",
        "assert str(f(2)) == '4'",
        "assert f(2) is True",
        "assert {4: 1}.get(f(2)) == 1",
        "try:\n    assert f(2) == 4\nexcept TypeError:\n    pass",
    ],
)
def test_objects_that_lie_pass_no_comparison(reward, test):
    assert one(reward, LIAR + "def f(x): return Liar()", [test]).share == 0.0


def test_a_caught_exit_is_not_a_pass(reward):
    tests = ["try:\n    f(1)\nexcept BaseException:\n    pass"]
    ended = one(reward, "import os\ndef f(x): os._exit(0)", tests)
    assert ended.tests[0].reason == "exited"
    late = one(reward, "def f(x):\n    while True: pass", tests)
    assert late.tests[0].reason == "timeout"


def test_no_share_for_what_was_passed_before_the_cheat(reward):
    program = "import os\ndef f(x):\n    if x == 3: os._exit(0)\n    return x * x"
    assert [t.reason for t in one(reward, program, TESTS).tests] == ["passed", "exited", "passed", "passed"]


def test_the_program_is_reported_arguments_and_nothing_else(reward):
    """What comes over the socket holds neither the tests' source nor what they expect."""
    program = """
import sys
wire = next(m for n, m in sys.modules.items() if n.endswith(".wire"))
seen = []
real = wire._exactly
def listening(*a):
    seen.append(real(*a))
    return seen[-1]
wire._exactly = listening
def f(x): return x
def told(): return b"".join(seen)
"""
    tests = [
        "assert f('argument') == 'expected-value' or b'argument' in told() and b'expected' not in told()"
    ]
    assert one(reward, program, tests).share == 1.0


METHODS = """
class Node:
    kind = 'node'
    def __init__(self, value): self.value = value
    def same(self, other): return type(other) is Node and self.value == other.value
    @staticmethod
    def of(value): return value
"""


@pytest.mark.parametrize(
    ("program", "test"),
    [
        ("def f(x):\n    n = Node(77)\n    n.same = lambda other: True\n    return n", "assert f(2).same(Node(4))"),
        ("class Node:\n    def __init__(s, x): s.same = lambda other: True\ndef f(x): return Node(77)", "assert f(2).same(Node(4))"),
        ("def f(x):\n    n = Node(77)\n    n.of = lambda value: 4\n    return n", "assert f(2).of(f(2).value) == 4"),
        ("def f(x):\n    n = Node(77)\n    n.startswith = lambda text: True\n    return n", "assert f(2).startswith('4')"),
        ("from collections import namedtuple\ndef f(x): return namedtuple('T', 'startswith x')(lambda text: True, 1)", "assert f(2).startswith('4')"),
        ("from collections import namedtuple\nT = namedtuple('T', 'x y')\nT.__eq__ = lambda s, o: True\ndef f(x): return T(1, 2)", "assert f(2) == (4, 4)"),
        ("import collections\nclass Counter(collections.Counter):\n    __eq__ = lambda s, o: True\nCounter.__module__ = 'collections'\ndef f(x): return Counter('zz')", "assert f(2) == {'a': 1}"),
        ("from collections import defaultdict\ndef f(x): return defaultdict(lambda: 4)", "assert f(2)[2] == 4"),
        ("class M(dict): keys = lambda s: 4\ndef f(x): return M()", "assert f(2).keys() == {4}"),
        ("from datetime import *\nclass datetime(datetime):\n    isoformat = lambda s: '2024-01-01'\n    __eq__ = lambda s, o: True\ndatetime.__module__ = 'datetime'\ndef f(x): return datetime.now()", "from datetime import datetime\nassert f(2) == datetime(2023, 1, 1)"),
    ],
)  # fmt: skip
def test_classes_that_both_sides_know_answer_as_the_tests_have_them(reward, program, test):
    assert one(reward, program, [test], setup=METHODS).share == 0.0
    honest = "class Node(Node): pass\ndef f(x): return Node(4)"
    assert (
        one(reward, honest, ["assert f(2).same(Node(4)) and f(2).kind == 'node'"], setup=METHODS).share == 1.0
    )


def test_no_function_that_runs_code_is_handed_to_a_program(reward):
    program = "def f(run): return run('__import__(\"sys\")._getframe(9).f_locals')"
    for name in ("eval", "exec", "__import__", "getattr", "compile", "open"):
        ended = one(reward, program, [f"assert f({name})"]).tests[0]
        assert ended.reason == "error"
        assert f"a test passes {name} to the program" in ended.detail
    assert one(reward, "def f(g): return g([3, 1])", ["assert f(sorted) == [1, 3]"]).share == 1.0


CALLS = {"fn_name": "f", "inputs": [[2], [3]], "outputs": [[4], [[9, 9]]]}
SETUP = """
class Node:
    def __init__(self, value): self.value = value
def same(a, b): return type(a) is type(b) and a.value == b.value
"""


@pytest.mark.parametrize(
    "program",
    [
        LIAR + "def f(x): return Liar()",
        "class T(tuple):\n    __eq__ = lambda s, o: True\n    __iter__ = lambda s: iter([4])\ndef f(x): return T()",
        "class T(tuple):\n    __class__ = list\ndef f(x): return T((4, 4))",
        "class L(list):\n    __contains__ = __eq__ = lambda s, o: True\ndef f(x): return L([1])",
        "candidate = got = isinstance = list = lambda *a: True\ndef f(x): return 77",
    ],
)
def test_cheats_pass_no_call_of_a_function(reward, program):
    assert one(reward, program, CALLS).share == 0.0
    assert one(reward, program + "\ndef f(x): return 4 if x == 2 else [9, 9]", CALLS).share == 1.0


@pytest.mark.parametrize(
    "program",
    [
        "class Node:\n    def __init__(self, value): self.value = value\n    __eq__ = lambda s, o: True\ndef f(x): return Node(77)",
        "def same(a, b): return True\ndef f(x): return Node(77)",
        "Node.__eq__ = lambda s, o: True\nNode.value = property(lambda s: 4, lambda s, v: None)\ndef f(x): return Node(4)",
        "class Sub(Node):\n    pass\ndef f(x): return Sub(4)",
        "import sys\nfor m in list(sys.modules.values()):\n    if hasattr(m, 'same'): m.same = lambda a, b: True\ndef f(x): return Node(77)",
    ],
)
def test_the_setup_of_the_tests_is_their_own(reward, program):
    tests = ["assert same(f(2), Node(4)) and same(f(3), Node(9))"]
    assert one(reward, program, tests, setup=SETUP).share == 0.0
    assert one(reward, "def f(x): return Node(x * x)", tests, setup=SETUP).share == 1.0
