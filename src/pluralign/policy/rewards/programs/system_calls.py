"""System calls that no program needs, for the kernel to refuse (seccomp): each is a way around a limit.

In: the kind of this machine. Out: a filter in the kernel's own bytes (classic BPF), none for other machines.

Refused are memory that counts for no process (System V's shared memory, files in memory) and what outlives
one (its queues and semaphores, keys), namespaces of its own, looking into other processes, and calls that are
known for faults of the kernel and useless here (io_uring, bpf, perf, userfaultfd). Calls of another
architecture end the process.

Reference: https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import functools
import platform
import struct

__all__ = ["call_filter"]

# Their numbers for x86_64 and for aarch64.
_REFUSED = {
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # our column, the kernel's name
_NEW_NAMESPACES = 0x7E020000
_NUMBER, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16  # where they are in the kernel's description of a call
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_OF, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _END, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050001  # the last: EPERM
_MISSING = 0x00050026  # ENOSYS; the C library then does without


@functools.cache
def call_filter() -> bytes:
    """The filter for this machine; empty where its system calls are not known here."""
    if platform.machine() not in _MACHINES:
        return b""
    column, machine = _MACHINES[platform.machine()]
    steps = [
        _step(_LOAD, _MACHINE),
        _step(_IF_EQUAL, machine, 1, 0),
        _step(_RETURN, _END),
        _step(_LOAD, _NUMBER),
        _step(_IF_AT_LEAST, 0x40000000, 0, 1),  # x32, the same calls by other numbers
        _step(_RETURN, _REFUSE),
    ]
    for numbers in _REFUSED.values():
        steps += [_step(_IF_EQUAL, numbers[column], 0, 1), _step(_RETURN, _REFUSE)]
    steps += [
        _step(_IF_EQUAL, _CLONE3[column], 0, 1),  # its flags are in memory, where no filter looks
        _step(_RETURN, _MISSING),
        _step(_IF_EQUAL, _CLONE[column], 0, 3),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(_IF_ANY_OF, _NEW_NAMESPACES, 0, 1),
        _step(_RETURN, _REFUSE),
        _step(_RETURN, _ALLOW),
    ]
    return b"".join(steps)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction; jumps are numbers of instructions to leave out."""
    return struct.pack("=HBBI", code, if_true, if_false, value)
