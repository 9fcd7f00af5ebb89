"""Programs that harm: each ends within its limits with a reason, and the machine and the pool are as before."""

from __future__ import annotations

import errno
import os
import platform
import tempfile
import time
from pathlib import Path

import pytest
from program_runs import SHORT, at_level, levels, of_programs, one, reasons

from pluralign.errors import SandboxError
from pluralign.policy.rewards.programs import launching, probing, surroundings
from pluralign.policy.rewards.programs.leftovers import remove_files
from pluralign.policy.rewards.programs.limits import ProgramLimits
from pluralign.policy.rewards.programs.probing import find_sandbox
from pluralign.policy.rewards.programs.reward import ProgramReward
from pluralign.policy.rewards.programs.system_calls import call_filter

TESTS = ["assert f(1) == 'harm'", "assert f(2) == 'harm'"]

# program -> reasons that it may end with; "wrong answer" where it was kept from doing harm and said so.
HOSTILE = {
    "fork bomb": ("import os\ndef f(x):\n    while True:\n        try: os.fork()\n        except OSError: pass", {"timeout", "error"}),
    "fork count": ("import os, time\ndef f(x):\n    n = 0\n    try:\n        while n < 50:\n            if os.fork() == 0: time.sleep(60)\n            n += 1\n    except OSError: return n\n    return 'harm'", {"wrong answer"}),
    "memory bomb": ("def f(x):\n    a = []\n    while True: a.append(bytearray(1 << 22))", {"memory"}),
    "memory at once": ("x = bytearray(1 << 40)\ndef f(x): return 'harm'", {"memory"}),
    "endless loop": ("def f(x):\n    while True: pass", {"timeout"}),
    "endless loop at import": ("while True: pass\ndef f(x): return 'harm'", {"timeout"}),
    "ignores signals": ("import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\ndef f(x):\n    while True: pass", {"timeout"}),
    "output flood": ("def f(x):\n    while True: print('x' * 100000)", {"timeout"}),
    "answer flood": ("def f(x): return 'x' * (40 << 20)", {"error", "memory"}),
    "answer of many parts": ("def f(x): return [[] for _ in range(10 ** 7)]", {"error", "memory", "timeout"}),
    "deep answer": ("def f(x):\n    a = ()\n    for _ in range(5000): a = (a,)\n    return a", {"error"}),
    "cyclic answer": ("def f(x):\n    a = []\n    a.append(a)\n    return a", {"error"}),
    "disk flood": ("def f(x):\n    n = 0\n    try:\n        while n < 200:\n            with open(f'/tmp/flood{n}', 'wb') as g: g.write(b'x' * (1 << 20))\n            n += 1\n    except OSError: return n\n    return 'harm'", {"wrong answer"}),
    "one large file": ("def f(x):\n    try:\n        with open('/tmp/large', 'wb') as g:\n            for _ in range(200): g.write(b'x' * (1 << 20))\n    except OSError: return 0\n    return 'harm'", {"wrong answer"}),
    "many files": ("def f(x):\n    try:\n        held = [open(__file__ if 0 else '/dev/null') for _ in range(1000)]\n    except OSError: return 0\n    return 'harm'", {"wrong answer"}),
    "deep folders": ("import os\ndef f(x):\n    n = 0\n    try:\n        while n < 1500:\n            os.mkdir('d'); os.chdir('d'); n += 1\n    except OSError: pass\n    return n", {"wrong answer"}),
    "folders without permissions": ("import os\ndef f(x):\n    os.makedirs(f'a{x}/b'); open(f'a{x}/b/c', 'w').close(); os.chmod(f'a{x}/b', 0); os.chmod(f'a{x}', 0)\n    return 0", {"wrong answer"}),
    "shared memory": ("import ctypes\ndef f(x):\n    libc = ctypes.CDLL(None)\n    return [libc.shmget(0, 4096, 0o1600), libc.semget(0, 2, 0o1600), libc.msgget(0, 0o1600)]", {"wrong answer"}),
    "files in memory": ("import os\ndef f(x):\n    held = []\n    try:\n        for _ in range(40):\n            held.append(os.memfd_create('x'))\n            os.write(held[-1], bytes(8 << 20))\n    except OSError: return len(held)\n    return 'harm'", {"wrong answer"}),
    "kills its parent": ("import os, signal\ndef f(x):\n    os.kill(os.getppid(), signal.SIGKILL)\n    return 0", {"wrong answer", "error", "killed"}),
    "kills everyone": ("import os, signal\ndef f(x):\n    os.kill(-1, signal.SIGKILL)\n    return 0", {"wrong answer", "error", "killed"}),
    "kills its group": ("import os, signal\ndef f(x):\n    os.killpg(0, signal.SIGKILL)\n    return 0", {"killed"}),
    "stops itself": ("import os, signal\ndef f(x): os.kill(os.getpid(), signal.SIGSTOP)", {"timeout"}),
    "sleeps": ("import time\ndef f(x): time.sleep(1000)", {"timeout"}),
    "becomes root": ("import os\ndef f(x):\n    try: os.setuid(0)\n    except OSError: return 0\n    return 'harm' if os.geteuid() == 0 else 0", {"wrong answer"}),
    "ctypes": ("import ctypes\ndef f(x): return ctypes.string_at(0)", {"killed"}),
    "stack": ("import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(x): return f(x)", {"killed", "error", "memory", "timeout"}),
    "raises its limits": ("import resource\ndef f(x):\n    try: resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\n    except (OSError, ValueError): return 0\n    return 'harm'", {"wrong answer"}),
    "threads that stay": ("import threading, time\ndef f(x):\n    for _ in range(3): threading.Thread(target=time.sleep, args=(1000,)).start()\n    return 0", {"wrong answer"}),
    "too many threads": ("import threading, time\ndef f(x):\n    try:\n        for _ in range(500): threading.Thread(target=time.sleep, args=(1000,)).start()\n    except RuntimeError: return 0\n    return 'harm'", {"wrong answer"}),
    "zombies": ("import os\ndef f(x):\n    for _ in range(3):\n        if os.fork() == 0: os._exit(0)\n    return 0", {"wrong answer", "error"}),
    "daemon": ("import os, time\ndef f(x):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n            os.closerange(0, 100)\n            time.sleep(1000)\n        os._exit(0)\n    return 0", {"wrong answer"}),
    "half a frame": ("import os, time\ndef f(x):\n    for d in range(3, 1024):\n        try: os.write(d, b'\\0\\0\\xff\\xffN')\n        except OSError: pass\n    time.sleep(1000)", {"timeout"}),
    "drips": ("import os, time\ndef f(x):\n    for d in range(3, 1024):\n        try: os.write(d, b'\\0\\0\\xff\\xff')\n        except OSError: continue\n        while True:\n            os.write(d, b'N'); time.sleep(0.1)", {"timeout"}),
    "a frame of 4 GiB": ("import os, time\ndef f(x):\n    for d in range(3, 1024):\n        try: os.write(d, b'\\xff\\xff\\xff\\xffN')\n        except OSError: pass\n    time.sleep(1000)", {"error"}),
}  # fmt: skip
# Only where the program has a root of its own and no network.
ISOLATED = {
    "sockets": ("import socket\ndef f(x):\n    try: socket.create_connection(('127.0.0.1', PORT), 1)\n    except OSError: return 0\n    return 'harm'", {"wrong answer"}),
    "reads the environment": ("import glob, os\ndef f(x):\n    if 'SECRET_OF_TESTS' in os.environ: return 'harm'\n    for p in glob.glob('/proc/[0-9]*/environ'):\n        try:\n            if b'SECRET_OF_TESTS' in open(p, 'rb').read(): return 'harm'\n        except OSError: pass\n    return 0", {"wrong answer"}),
    "reads files": ("import os\ndef f(x):\n    try: open(SECRET).read()\n    except OSError: return 0\n    return 'harm'", {"wrong answer"}),
    "deletes files": ("import os\ndef f(x):\n    try: os.unlink(SECRET)\n    except OSError: return 0\n    return 'harm'", {"wrong answer"}),
    "symlinks out": ("import os\ndef f(x):\n    try:\n        os.symlink(SECRET, '/tmp/link%d' % x)\n        open('/tmp/link%d' % x).read()\n    except OSError: return 0\n    return 'harm'", {"wrong answer"}),
    "writes to the system": ("import os, sys\ndef f(x):\n    for p in ('/usr/x', '/x', '/etc/x', '/dev/x', sys.prefix + '/x'):\n        try:\n            open(p, 'w'); return 'harm'\n        except OSError: pass\n    return 0", {"wrong answer"}),
    "ptrace": ("import ctypes, os\ndef f(x):\n    libc = ctypes.CDLL(None)\n    return 'harm' if any(libc.ptrace(16, p, 0, 0) == 0 for p in range(1, 400) if p != os.getpid()) else 0", {"wrong answer"}),
    "sees processes": ("import os\ndef f(x):\n    for p in range(3, 30000):\n        if p != os.getpid():\n            try: os.kill(p, 0)\n            except ProcessLookupError: continue\n            except PermissionError: pass\n            return 'harm'\n    return 0", {"wrong answer"}),
    "mounts": ("import ctypes\ndef f(x):\n    libc = ctypes.CDLL(None)\n    return 'harm' if libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0 else 0", {"wrong answer"}),
}  # fmt: skip


def leftovers():
    return {
        entry.path
        for folder in ("/tmp", "/var/tmp", "/dev/shm")
        for entry in os.scandir(folder)
        if entry.name.startswith(("flood", "large", "link", f"pluralign-program-{os.getpid()}-"))
    }


def shared_memory():
    """Users who have some of System V's, by kind."""
    found = set()
    for kind in ("shm", "sem", "msg"):
        head, *lines = Path(f"/proc/sysvipc/{kind}").read_text("ascii").splitlines()
        place = head.split().index("uid")
        found |= {(kind, int(line.split()[place])) for line in lines}
    return {(kind, uid) for kind, uid in found if uid >= 1_500_000_000}


def run_hostile(reward, programs, monkeypatch, tmp_path):
    """All at a time, then what is left of them."""
    import socket

    monkeypatch.setenv("SECRET_OF_TESTS", "assert f")
    secret = tmp_path / "secret"
    secret.write_text("assert f", encoding="utf-8")
    before = leftovers()
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = f"SECRET = {str(secret)!r}\nPORT = {server.getsockname()[1]}\n"
        rows = {
            "completion": [head + code for code, _ in programs.values()],
            "tests": [TESTS] * len(programs),
        }
        results = reward.results(rows)
    for (name, (_, allowed)), result in zip(programs.items(), results, strict=True):
        assert result.share == 0.0, (name, result)
        assert set(result.reasons) <= allowed | {"timeout"}, (name, result)  # a busy machine is slow
    assert secret.exists()
    assert one(reward, "def f(x): return 'harm'", TESTS).share == 1.0, "the pool is broken"
    reward.close()  # a judge that waits has a folder of its own
    assert leftovers() == before
    assert shared_memory() == set()
    for _ in range(100):  # the kernel may still be at it
        if not of_programs():
            break
        time.sleep(0.05)
    assert of_programs() == []


QUICK = [n for n in HOSTILE if HOSTILE[n][1] & {"wrong answer", "memory", "killed", "error"}]


def test_hostile_programs_that_end_at_once(reward, monkeypatch, tmp_path):
    quick = {
        name: HOSTILE[name] for name in QUICK if name not in ("fork bomb", "answer of many parts", "stack")
    }
    if reward.sandbox.level in ("rlimits", "separate_user"):
        pytest.skip(f"the strongest level here is {reward.sandbox.level}; test_every_level covers it")
    run_hostile(reward, quick | ISOLATED, monkeypatch, tmp_path)


def test_blocking_programs(monkeypatch, tmp_path):
    limits = ProgramLimits(test_seconds=0.5, total_seconds=1.0, memory_mib=256)
    reward = ProgramReward(limits, cache_size=0, workers=4)
    names = ("fork bomb", "endless loop", "ignores signals", "sleeps", "stops itself", "drips")
    try:
        rows = {"completion": [HOSTILE[name][0] for name in names], "tests": [TESTS] * len(names)}
        for name, result in zip(names, reward.results(rows), strict=True):
            assert set(result.reasons) <= HOSTILE[name][1], (name, result)
    finally:
        reward.close()
    assert of_programs() == []


@pytest.mark.slow
@pytest.mark.parametrize("level", levels())
def test_every_level(level, monkeypatch, tmp_path):
    programs = dict(HOSTILE)
    if level in ("namespaces", "bubblewrap"):
        programs |= ISOLATED
    else:  # /tmp is the machine's own, its files are removed afterwards
        for name in ("disk flood", "kills everyone"):
            programs.pop(name)
        if level == "rlimits" and os.getuid() == 0:
            for name in (
                "fork bomb",
                "fork count",
                "becomes root",
                "too many threads",
                "raises its limits",
                "kills its parent",
                "one large file",
            ):
                programs.pop(name)
    reward = at_level(monkeypatch, level)
    try:
        run_hostile(reward, programs, monkeypatch, tmp_path)
    finally:
        reward.close()


def test_a_tree_of_any_depth_is_removed(tmp_path):
    """Deeper than Python's recursion and than a path may be long, as a program can make it."""
    place = os.getcwd()
    made = tmp_path / "made"
    made.mkdir()
    os.chdir(made)
    try:
        for depth in range(1100):
            os.mkdir("folder")
            os.chdir("folder")
            if depth % 300 == 0:
                Path("file").write_text("x", "utf-8")
                os.symlink("/", "link")
    finally:
        os.chdir(place)
    (made / "closed" / "inner").mkdir(parents=True)
    (made / "closed" / "inner").chmod(0)
    (made / "closed").chmod(0)
    (tmp_path / "kept").write_text("x", "utf-8")
    os.symlink(tmp_path / "kept", made / "out")
    remove_files(str(made), None)
    assert os.listdir(tmp_path) == ["kept"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs other users")
def test_shared_memory_of_a_user_is_removed(tmp_path):
    import ctypes

    uid = surroundings.unused_uid(123)
    child = os.fork()
    if child == 0:
        os.setresuid(uid, uid, uid)
        libc = ctypes.CDLL(None)
        made = [libc.shmget(0, 4096, 0o1600), libc.semget(0, 2, 0o1600), libc.msgget(0, 0o1600)]
        os._exit(int(min(made) < 0))
    assert os.waitpid(child, 0)[1] == 0
    of_user = {(kind, uid) for kind in ("shm", "sem", "msg")}
    assert of_user <= shared_memory()
    remove_files(str(tmp_path / "none"), uid)
    assert not of_user & shared_memory()


def test_an_answer_that_blocks_the_tests_costs_its_own_test_alone():
    """In one long step of the interpreter, which no signal interrupts."""
    limits = ProgramLimits(test_seconds=0.5, total_seconds=1.0)
    reward = ProgramReward(limits, cache_size=0)
    program = "def f(x): return range(10**18) if x else 1"
    try:
        tests = ["assert f(0) == 1", "assert 4.5 in f(1)", "assert f(0) == 1"]
        assert reasons(reward, program, tests) == ["passed", "timeout", "timeout"]
        assert one(reward, program, tests[:1]).share == 1.0
    finally:
        reward.close()


CALLS = """
import ctypes, os
def f(x):
    libc = ctypes.CDLL(None, use_errno=True)
    calls = {
        "shmget": lambda: libc.shmget(0, 4096, 0o1600),
        "semget": lambda: libc.semget(0, 2, 0o1600),
        "msgget": lambda: libc.msgget(0, 0o1600),
        "memfd_create": lambda: libc.memfd_create(b"x", 0),
        "ptrace": lambda: libc.ptrace(0, 0, 0, 0),
        "unshare": lambda: libc.unshare(0x10000000),
        "clone": lambda: libc.syscall(CLONE, 0x10000011, 0, 0, 0, 0),
        "mount": lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
    }
    found = {}
    for name, call in calls.items():
        result = call()
        found[name] = ctypes.get_errno() if result == -1 else "done"
        if name == "clone" and result == 0:
            os._exit(0)
    return found
"""


@pytest.mark.skipif(not call_filter(), reason="the numbers of this machine's system calls are not known")
@pytest.mark.parametrize("level", levels())
def test_calls_that_no_program_needs_are_refused_at_every_level(level, monkeypatch):
    """One that used System V's shared memory, or files in memory, had all of the machine's."""
    program = CALLS.replace("CLONE", {"x86_64": "56", "aarch64": "220"}[platform.machine()])
    names = ("shmget", "semget", "msgget", "memfd_create", "ptrace", "unshare", "clone", "mount")
    reward = at_level(monkeypatch, level, workers=1)
    try:
        assert reward.sandbox.calls_filtered
        found = one(reward, program, [f"assert f(0) == dict.fromkeys({names}, {errno.EPERM}), f(0)"])
        assert found.share == 1.0, found
    finally:
        reward.close()


def test_a_kernel_that_takes_no_filter_is_reported_and_done_without(monkeypatch):
    for module in (launching, probing):
        monkeypatch.setattr(module, "call_filter", lambda: b"\xff" * 8)
    found, _ = probing._try_level.__wrapped__("rlimits", os.getuid(), "")
    assert not found.calls_filtered
    assert "shared memory unlimited" in str(found)
    monkeypatch.setattr(probing, "call_filter", lambda: b"")  # another machine
    assert probing._try_level.__wrapped__("rlimits", os.getuid(), "")[0] == found


def test_levels_say_what_they_leave_open(monkeypatch):
    weak = find_sandbox("rlimits", "rlimits")
    assert "your files and processes unprotected" in str(weak)
    assert "network open" in str(weak)
    assert ("processes unlimited" in str(weak)) == (os.getuid() == 0)


def test_a_missing_sandbox_is_a_clear_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="bwrap is not installed.*apt-get install bubblewrap"):
        find_sandbox("bubblewrap")


def test_bubblewrap_that_does_not_work_is_reported_and_passed_over(monkeypatch, tmp_path):
    """As in a container without user namespaces."""
    fake = tmp_path / "bwrap"
    fake.write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n", "utf-8"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = find_sandbox("rlimits")
    assert found.level != "bubblewrap"
    assert dict(found.refused)["bubblewrap"].endswith("No permissions to create a new namespace")
    with pytest.raises(SandboxError, match="No permissions"):
        find_sandbox("bubblewrap")


def test_rlimits_alone_need_consent(monkeypatch):
    monkeypatch.setattr(probing, "_try_level", lambda level, *_: (None, "not here"))
    with pytest.raises(SandboxError, match="minimum='rlimits' .--sandbox rlimits. consents"):
        ProgramReward()


def test_scripts_that_flood_and_hang():
    limits = ProgramLimits(test_seconds=1.0, total_seconds=10, output_kib=64)
    reward = ProgramReward(limits, cache_size=0)
    tests = [{"input": "x\n" * 100_000, "output": "0"}]
    try:
        assert reasons(reward, "while True: print('x' * 1000)", tests) == ["output"]
        assert reasons(reward, "while True: pass", tests) == ["timeout"]
        assert reasons(reward, "import os\nos.close(1)\nos.close(2)\nwhile True: pass", tests) == ["timeout"]
        assert reasons(reward, "import os, time\nif os.fork(): print(0)\nelse: time.sleep(1000)", tests) == [
            "passed"
        ]
        assert reasons(reward, "import sys\nprint(0 * len(sys.stdin.read()))", tests) == ["passed"]
        assert reasons(reward, "x = bytearray(1 << 40)", tests) == ["memory"]
        assert reasons(reward, "import os\nos.abort()", tests) == ["killed"]
    finally:
        reward.close()
    assert of_programs() == []


def test_tests_that_end_their_judge_harm_no_other():
    reward = ProgramReward(SHORT, cache_size=0, workers=1)
    try:
        for test in ("import os\nos._exit(0)", "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)"):
            assert reasons(reward, "def f(x): return x", [f"{test}\nassert f(1) == 1"]) == ["error"]
            assert one(reward, "def f(x): return x", ["assert f(1) == 1"]).share == 1.0
        assert reasons(reward, "def f(x): return x", ["while True: f(1)", "assert f(1) == 1"]) == [
            "timeout",
            "passed",
        ]
    finally:
        reward.close()


def test_nothing_is_left_after_close():
    pattern = f"pluralign-program-{os.getpid()}-*"
    reward = ProgramReward(workers=2)
    reward({"completion": ["def f(): return 1", "def f(): return 2"], "tests": [["assert f() == 1"]] * 2})
    judges = [runner._judge for runner in reward._pool._runners]
    reward.close()
    assert all(judge.wait(0) is not None for judge in judges if judge is not None)
    assert not list(Path(tempfile.gettempdir()).glob(pattern))
