"""Threads by load, and file systems by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pluralign.backbones import choose_num_threads, torch_threads
from pluralign.backbones.disk import cache_folder, file_system, is_network_file_system
from pluralign.backbones.threads import busy_cores
from pluralign.errors import ConfigError


@pytest.mark.parametrize(
    ("cores", "busy", "expected"),
    [(2, 0.0, 2), (2, 0.1, 2), (2, 1.0, 1), (2, 5.0, 1), (16, 3.4, 13), (1, 0.0, 1)],
)
def test_cores_in_use_are_left_alone(
    cores: int, busy: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert choose_num_threads(cores, busy) == expected


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert choose_num_threads(2, 2.0) == 7
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    with pytest.raises(ConfigError, match="OMP_NUM_THREADS='many'"):
        choose_num_threads()


def test_a_measurement_is_a_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert busy_cores(0.02) >= 0
    monkeypatch.setattr("pluralign.backbones.threads._STAT", Path("/nowhere"))
    monkeypatch.setattr("os.getloadavg", lambda: (1.5, 9.0, 9.0))
    assert busy_cores() == 1.5


def test_threads_are_put_back_after_an_error() -> None:
    before = torch.get_num_threads()
    seen = []

    def interrupted() -> None:
        with torch_threads(before + 2):
            seen.append(torch.get_num_threads())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert seen == [before + 2]
    assert torch.get_num_threads() == before


MOUNTS = """\
/dev/vda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
tmpfs /home/me/scratch tmpfs rw 0 0
store /data\\040sets fuse.sshfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/var/tmp", "ext4", False),
        ("/home/me/.cache", "nfs4", True),
        ("/home/me/scratch/x", "tmpfs", False),
        ("/homes", "ext4", False),
        ("/data sets/x", "fuse.sshfs", True),
    ],
)
def test_the_longest_mount_point_decides_the_file_system(path: str, kind: str, network: bool) -> None:
    assert file_system(Path(path), MOUNTS) == kind
    assert is_network_file_system(kind) is network


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLURALIGN_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere")
    monkeypatch.delenv("PLURALIGN_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "pluralign"
    assert is_network_file_system(None) is False
