"""The engine on Ray Data: shards on as many workers as there are, on this machine or on a cluster.

In: a job and the numbers of its shards. Out: the shards, written by workers into the job's folder. Only
numbers of shards travel through Ray: workers read rows and write results themselves, so the driver and Ray's
object store stay small whatever the number of rows, and no text of users passes through Ray or into its logs.

Each worker is an actor of `map_batches` that loads its model once. If a worker dies, Ray starts a new one
with the same shard. An error in a worker is returned as a result, with the machine's name.

A cluster that is started here (no address) is bound to this machine's loopback address, requires a token that
is made for this process, has no dashboard and no usage statistics, and ends with the run, as does its folder.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pluralign import errors
from pluralign._version import __version__
from pluralign.backbones.progress import Progress
from pluralign.engines.jobs import Job, ShardWorker
from pluralign.engines.stages import Batch, text_column
from pluralign.errors import ArgumentError, MissingDependencyError, PluralignError, RunError

__all__ = ["RayEngine"]

_MOST_BLOCKS = 10_000  # Ray keeps a few kilobytes for each; behind that, a block is several shards
_STORE_BYTES = 128 * 2**20  # of Ray's object store, which holds numbers of shards only
_LOOPBACK = "127.0.0.1"
_LONGEST_BASE = 28  # of the path of a temporary folder: names of sockets have 107 bytes, and Ray's take 79
_CLEARING = 5.0  # seconds in which Ray's processes leave their folder
_TRIES = 5  # of a shard, whose worker died with it in hand
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
_ADDRESS = re.compile(r"auto|(ray://)?(?P<host>[\w.-]+|\[[\da-f:]+\]):(?P<port>\d{1,5})")
_NAMED = re.compile(r"(\w+\.)*\w+(Error|Exception): ")
_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_LOG_LEVEL": "ERROR",
}
_SETTINGS = {
    "enable_progress_bars": False,
    "print_on_execution_start": False,
    "execution_no_progress_timeout_s": -1,  # a shard takes as long as it takes
}


class RayEngine:
    """Makes shards on the workers of a Ray cluster.

    Args:
        workers: number of actors, each with a model of its own; None for as many as there are cores (or GPUs,
            where a worker takes some) in the cluster for them.
        cpus: cores per worker, which are also its torch threads.
        gpus: GPUs per worker; a fraction shares one.
        address: of a running cluster: `host:port`, `ray://host:port`, or `auto` for the one that this machine
            belongs to; None for a cluster of our own on this machine.

    Raises:
        ArgumentError: a number is out of range.
        MissingDependencyError: Ray Data is not installed.
    """

    name = "ray"

    def __init__(
        self, *, workers: int | None = None, cpus: int = 1, gpus: float = 0.0, address: str | None = None
    ) -> None:
        for what, value, least in (("workers", workers, 1), ("cpus", cpus, 1), ("gpus", gpus, 0)):
            if value is not None and not value >= least:  # NaN is not
                raise ArgumentError(f"{what} must be at least {least}, received {value}")
        if gpus > 1 and gpus != int(gpus):
            raise ArgumentError(f"gpus: received {gpus}; allowed: a whole number, or a fraction below 1")
        if address is not None and not _ADDRESS.fullmatch(address):
            raise ArgumentError(f"address: received {address!r}; allowed: host:port, auto")
        _ray(address)
        self._workers, self._cpus, self._gpus, self._address = workers, cpus, gpus, address

    def run(self, job: Job, shards: Sequence[int], progress: Progress | None) -> None:
        """Makes these shards; see `Engine`.

        Raises:
            RunError: there is no such cluster, it has no room for a worker, or it ended.
        """
        ray = _ray(self._address)
        job = replace(job, rows=job.rows.absolute(), out=job.out.absolute())  # workers are in other folders
        with self._cluster(ray):
            count = min(self._count(ray), len(shards))
            try:
                self._drive(ray, job, shards, count, progress)
            except ray.exceptions.RayError as error:
                raise RunError(
                    f"Ray stopped: {_reason(error)}. Finished shards stay; the same command continues"
                ) from error

    def _drive(
        self, ray: Any, job: Job, shards: Sequence[int], count: int, progress: Progress | None
    ) -> None:
        run = secrets.token_hex(4)
        with _settings(ray.data.DataContext.get_current()):
            numbers = ray.data.from_items(
                [{"shard": number} for number in shards], override_num_blocks=min(len(shards), _MOST_BLOCKS)
            )
            made = numbers.map_batches(
                _Actor,
                fn_constructor_kwargs={"job": job, "cpus": self._cpus, "version": __version__, "run": run},
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=1),
                num_cpus=self._cpus,
                num_gpus=self._gpus or None,
            )
        done = 0
        for batch in made.iter_batches(batch_size=None, prefetch_batches=0):
            for problem in batch["problem"]:
                _raise(str(problem))
            done += len(batch["shard"])
            if progress is not None:
                progress(done, len(shards))

    def _count(self, ray: Any) -> int:
        """How many workers."""
        found = ray.cluster_resources()
        rooms = [found.get("CPU", 0.0) // self._cpus]
        if self._gpus:
            rooms.append(found.get("GPU", 0.0) // self._gpus)
        room = int(min(rooms))
        if room < (self._workers or 1):
            raise RunError(
                f"the cluster has {found.get('CPU', 0):g} CPUs and {found.get('GPU', 0):g} GPUs, room for "
                f"{room} workers of {self._cpus} CPUs and {self._gpus:g} GPUs; needed: {self._workers or 1}. "
                "Ask for fewer or smaller workers, or add machines"
            )
        return self._workers or room

    @contextmanager
    def _cluster(self, ray: Any) -> Iterator[None]:
        """Connects, or starts a cluster that ends with the block; an existing connection is used as it is."""
        if ray.is_initialized():
            yield
            return
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        with _session_folder() if self._address is None else nullcontext() as folder:
            try:
                if self._address is None:
                    cores = os.cpu_count() or 1
                    ray.init(
                        address="local",
                        num_cpus=max(cores, (self._workers or 1) * self._cpus),
                        object_store_memory=_STORE_BYTES,
                        include_dashboard=False,
                        _node_ip_address=_LOOPBACK,
                        _temp_dir=folder,
                        **quiet,
                    )
                else:
                    _knock(self._address)
                    ray.init(address=self._address, **quiet)
            except (ConnectionError, ValueError, RuntimeError, OSError, TimeoutError) as error:
                where = "on this machine" if self._address is None else f"at {self._address}"
                raise RunError(
                    f"no Ray cluster {where} ({_reason(error)}). `ray start --head` starts one and prints "
                    "its address; without an address one is started for the run"
                ) from error
            try:
                yield
            finally:
                ray.shutdown()


@contextmanager
def _session_folder() -> Iterator[str]:
    """A folder for the sockets and logs of a cluster that is started here; removed when the block ends.

    Raises:
        RunError: none can be made.
    """
    requested = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    base = requested if len(os.fsencode(requested)) <= _LONGEST_BASE else "/tmp"
    try:
        folder = tempfile.mkdtemp(prefix="ray-", dir=base)
    except OSError as error:
        raise RunError(
            f"{base} takes no folder for Ray's sockets ({error.strerror}); name another by RAY_TMPDIR, of at "
            f"most {_LONGEST_BASE} characters"
        ) from error
    try:
        yield folder
    finally:
        end = time.monotonic() + _CLEARING
        while os.path.exists(folder) and time.monotonic() < end:  # what ends there may still write
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.05)


class _Actor:
    """A worker as Ray Data calls it: shard numbers in; the same numbers out, with their errors.

    Ray restarts a dead worker without limit. A file beside the rows grows by one byte each time that a shard
    is started in this run, so that a shard on which every worker dies is given up.
    """

    def __init__(self, job: Job, cpus: int, version: str, run: str) -> None:
        import torch

        torch.set_num_threads(cpus)
        self._worker = ShardWorker(job)
        self._version, self._run, self._rows = version, run, job.rows

    def __call__(self, batch: Batch) -> Batch:
        problems = [self._make(int(number)) for number in batch["shard"]]
        return {"shard": np.asarray(batch["shard"]), "problem": text_column(problems)}

    def _make(self, number: int) -> str:
        """Makes a shard; returns an empty text, or the error as JSON."""
        if __version__ != self._version:
            problem = (
                f"has pluralign {__version__}, the command {self._version}: install the same on all machines"
            )
            return _problem(RunError(problem), "")
        tries = self._rows / f".tries-{self._run}-{number:05d}"
        if _one_more(tries) > _TRIES:
            problem = (
                f"shard {number} was started {_TRIES} times, and its worker died each time, perhaps because "
                "memory ran out: use fewer workers per machine, or smaller shards"
            )
            return _problem(RunError(problem), "")
        try:
            self._worker.make(number)
            tries.unlink(missing_ok=True)
        except PluralignError as error:
            return _problem(error, "")
        except Exception as error:  # a fault of ours, or of a package: with its place
            return _problem(error, traceback.format_exc(limit=-3))
        return ""


def _knock(address: str) -> None:
    """Tries to connect, since Ray takes minutes to give up.

    Raises:
        OSError: nothing answers.
    """
    found = _ADDRESS.fullmatch(address)
    if found is not None and found["host"]:
        with socket.create_connection((found["host"].strip("[]"), int(found["port"])), timeout=10):
            pass


def _one_more(file: Path) -> int:
    """Adds a byte to a file; how many it has. 0 where it cannot be written."""
    try:
        with file.open("ab") as opened:
            opened.write(b".")
            return opened.tell()
    except OSError:
        return 0


def _problem(error: Exception, trace: str) -> str:
    facts = {
        "kind": type(error).__name__,
        "message": str(error),
        "machine": socket.gethostname(),
        "trace": trace,
    }
    return json.dumps(facts)


def _raise(problem: str) -> None:
    """Raises a worker's error, if there is one."""
    if not problem:
        return
    facts = json.loads(problem)
    kind = getattr(errors, facts["kind"], None)
    known = isinstance(kind, type) and issubclass(kind, PluralignError)
    message = f"a worker on {facts['machine']}: "
    if not known:
        raise RunError(f"{message}{facts['kind']}: {facts['message']}\n{facts['trace']}")
    assert kind is not None
    raise kind(f"{message}{facts['message']}. Finished shards stay; the same command continues")


def _ray(address: str | None) -> Any:
    """Ray with Ray Data, which reports nothing about its use.

    Args:
        address: of a cluster; without one, what Ray starts is bound to the loopback address, for which Ray
            reads a variable when it is first imported.

    Raises:
        MissingDependencyError: it is not installed.
    """
    _set_variables(own=address is None)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError(
            f"the Ray engine needs Ray Data ({error}); install it with: pip install 'pluralign[ray]'"
        ) from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    return ray


def _set_variables(own: bool) -> None:
    """Sets what Ray reads from the environment, where nobody has set it.

    Args:
        own: for a cluster of our own, on the loopback address and with a token that others do not know.
    """
    variables = dict(_VARIABLES)
    if own:
        variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        if not any(name.startswith("RAY_AUTH_") for name in os.environ):
            variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for name, value in variables.items():
        os.environ.setdefault(name, value)


@contextmanager
def _settings(context: Any) -> Iterator[None]:
    """Settings of Ray Data for data sets that are made in the block; the caller's are put back."""
    before = {name: getattr(context, name) for name in _SETTINGS if hasattr(context, name)}
    try:
        for name in before:
            setattr(context, name, _SETTINGS[name])
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


def _reason(error: BaseException) -> str:
    """The cause of an error in Ray's long message: the last line that names an error, else the first."""
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    named = [line for line in lines if _NAMED.match(line)]
    return (named or lines[:1] or [type(error).__name__])[-1]
