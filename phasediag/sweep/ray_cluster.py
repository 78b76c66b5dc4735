"""A sweep on a Ray cluster: the only module that imports Ray.

A cluster is joined or started for the duration of a sweep. A task trains one batch of jobs and publishes its rows itself; what comes back
is a receipt. What a sweep changes in this process, the environment and Ray itself, is as it was before when the sweep ends.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from itertools import count
from typing import Any

import ray
from ray import exceptions as failures
from ray.autoscaler.sdk import request_resources
from ray.util.metrics import Counter, Gauge, Histogram
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..devices import DeviceLost, cores, gpus
from ..display.progress import Progress
from ..errors import InputError
from ..spec.tables import ResourcesSpec
from ..study import AnyStudy
from .executor import Ended, Executor, Metrics, Place, Trouble
from .interruption import interruptible
from .plan import Batch
from .retries import Misfortune
from .worker import Receipt, Shared, last_line, time_limit, work

POLL_SECONDS = 0.5
NODE_SECONDS = 900.0
"""How long a cluster without nodes for tasks may take to start the first."""
_SLOTS_SECONDS = 10.0
_RATE_SECONDS = 10.0
_CONNECT_SECONDS = 10.0
# After an interruption, for tasks that are about to publish.
_DRAIN_SECONDS = 1.0


@contextmanager
def ray_cluster(study: AnyStudy, progress: Progress) -> Iterator[Executor]:
    """The Ray there is, or one of its own, for the duration of a `with` block.

    A Ray that runs in this process already is used as it is; RAY_ADDRESS is joined; otherwise a local one is started.

    Raises:
        InputError: there is no cluster at RAY_ADDRESS, or a task asks for more than any node has.
    """
    resources = study.spec.resources
    _check_device(resources, study.source)
    if ray.is_initialized():
        progress.phase("joining the Ray of this process")
        _await_node(resources, progress)
        yield _checked(RayCluster(study, borrowed=True), study.source)
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    progress.phase("starting Ray" if address == "local" else f"joining the cluster at {address}")
    if address == "local":
        _check_fits("cpus_per_task", resources.cpus_per_task, float(cores()), study.source)
        _check_fits("gpus_per_task", resources.gpus_per_task, _local_gpus(resources), study.source)
    _check_reachable(address)
    with _environment(local=address == "local"), _quiet_raylet():
        _start_ray(address)
        try:
            if address != "local":
                with interruptible():  # Ray has its own in place now
                    _await_node(resources, progress)
            yield _checked(RayCluster(study, borrowed=False), study.source)
        finally:
            ray.shutdown()


def _work(batch: Batch, shared: Shared) -> Receipt:
    """A task: what a worker does, in a process that can be spared."""
    try:
        with time_limit(batch.limit):
            return work(batch, shared)
    except DeviceLost as error:
        traceback.print_exception(error)
        sys.stderr.flush()
        os._exit(1)


# max_calls: a GPU task would otherwise get a process, and a CUDA context, of its own.
_task = ray.remote(max_retries=0, max_calls=0)(_work)


class RayCluster(Executor):
    """The tasks of one sweep on Ray.

    Args:
        study: whose sweep it is.
        borrowed: the Ray was there before the sweep in this process, and stays after it.
    """

    def __init__(self, study: AnyStudy, borrowed: bool) -> None:
        self.resources = study.spec.resources
        self._borrowed = borrowed
        self._slots, self._slots_time = 1, float("-inf")
        self._numbers = count()
        self._flying: dict[ray.ObjectRef[Any], tuple[int, Batch, float]] = {}
        self._metrics = _RayMetrics(study.spec.name)

    def slots(self) -> int:
        if time.monotonic() - self._slots_time > _SLOTS_SECONDS:
            self._slots, self._slots_time = (
                max(count_slots(_resources(), self.resources), 1),
                time.monotonic(),
            )
        return self._slots

    def share(self, shared: Shared) -> None:
        self._shared = ray.put(shared)
        self._options = {
            "num_cpus": self.resources.cpus_per_task,
            "num_gpus": self.resources.gpus_per_task or None,
        }

    def submit(self, batch: Batch, place: Place = Place.ANYWHERE) -> int:
        number = next(self._numbers)
        task = _task.options(**self._options)
        if place is Place.ELSEWHERE:
            task = _task.options(**self._options, scheduling_strategy="SPREAD")
        if place is Place.ALONE:
            task = _task.options(**self._options, scheduling_strategy=self._roomiest())
        self._flying[task.remote(batch, self._shared)] = number, batch, time.monotonic()
        return number

    def wait(self, seconds: float) -> list[Ended]:
        flying = list(self._flying)
        ray.wait(flying, num_returns=1, timeout=seconds)
        refs, _ = ray.wait(flying, num_returns=len(flying), timeout=0)
        ended = []
        for ref in refs:
            number, batch, begun = self._flying.pop(ref)
            ended.append(Ended(number, _result(ref, batch, time.monotonic() - begun)))
        return ended

    def stop(self) -> None:
        """Tasks of a cluster that was joined or started for this sweep end as the driver leaves it. They are not killed one by one, since
        Ray 2.60 aborts the driver if a task ends by itself while it is being killed.
        """
        with suppress(failures.RayError):  # there may be no cluster any more
            if not self._flying:
                return
            flying = list(self._flying)
            _, running = ray.wait(flying, num_returns=len(flying), timeout=_DRAIN_SECONDS)
            if self._borrowed:
                for ref in running:
                    ray.cancel(ref)

    @property
    def metrics(self) -> Metrics:
        return self._metrics

    def _roomiest(self) -> NodeAffinitySchedulingStrategy | str:
        """A strategy for a task that needs memory: on the node that has most of it, of those on which it fits."""
        fitting = [node for node in _nodes() if _fitting(node["Resources"], self.resources)]
        if not fitting:
            return "DEFAULT"
        largest = max(fitting, key=lambda node: float(node["Resources"].get("memory", 0.0)))
        # Soft: the node may be gone before the task gets there.
        return NodeAffinitySchedulingStrategy(largest["NodeID"], soft=True)


def _result(ref: ray.ObjectRef[Any], batch: Batch, seconds: float) -> Receipt | Trouble:
    """What a task left, that many seconds after it was handed out."""
    try:
        receipt: Receipt = ray.get(ref)
    except failures.RayTaskError as error:
        return Trouble(Misfortune.UNSTORED, last_line(error.cause or error))
    except failures.OutOfMemoryError:
        return Trouble(Misfortune.DIED, "the worker ran out of memory and was ended")
    except failures.WorkerCrashedError:
        if seconds < batch.limit:
            return Trouble(
                Misfortune.DIED, "the worker died: crashed, or ended from outside (its log may say more)"
            )
        late = f"not done within {batch.limit:.0f} s of being handed out (the worker's log says where it was)"
        return Trouble(Misfortune.STUCK, late)
    except failures.RayError as error:
        return Trouble(Misfortune.LOST, last_line(error))
    return receipt


class _RayMetrics(Metrics):
    """What Ray exports of a sweep, to Prometheus say, under names that begin with ``ray_phasediag_``."""

    def __init__(self, study: str) -> None:
        tags = {"study": study}

        def tagged(metric: Any) -> Any:
            metric.set_default_tags(tags)
            return metric

        keys = tuple(tags)
        self._done = tagged(Counter("phasediag_jobs_done", "Jobs that have ended, failed ones too.", keys))
        self._failed = tagged(Counter("phasediag_jobs_failed", "Jobs that could not be run.", keys))
        self._flying = tagged(Gauge("phasediag_jobs_in_flight", "Jobs handed to the cluster.", keys))
        self._evaluations = tagged(
            Counter("phasediag_evaluations", "Full-batch forward and backward passes.", keys)
        )
        self._rate = tagged(
            Gauge("phasediag_evaluations_per_second", "Evaluations per second, lately.", keys)
        )
        self._seconds = tagged(
            Histogram(
                "phasediag_batch_seconds",
                "Duration of the training of a batch.",
                boundaries=[0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000],
                tag_keys=keys,
            )
        )
        self._lately, self._since = 0, time.monotonic()

    def fly(self, jobs: int) -> None:
        self._flying.set(jobs)
        seconds = time.monotonic() - self._since
        if seconds >= _RATE_SECONDS or not jobs:
            self._rate.set(self._lately / seconds if jobs else 0)
            self._lately, self._since = 0, time.monotonic()

    def count(self, jobs: int, failed: int) -> None:
        if jobs:
            self._done.inc(jobs)
        if failed:
            self._failed.inc(failed)

    def observe(self, receipt: Receipt) -> None:
        self._seconds.observe(receipt.seconds)
        if receipt.evaluations:
            self._evaluations.inc(receipt.evaluations)
            self._lately += receipt.evaluations


# Joining and starting a cluster.


def _await_node(resources: ResourcesSpec, progress: Progress) -> None:
    """On a cluster without any CPU, or GPU if tasks want one, asks for a node and waits for it: such a cluster grows when work comes.

    One that has some, but less than a task wants, is not waited for, nor is one for longer than `NODE_SECONDS`.
    """
    wanted = {"CPU": resources.cpus_per_task, "GPU": resources.gpus_per_task}
    bundle = {name: number for name, number in wanted.items() if number}

    def lacking() -> bool:
        return any(all(not node.get(name) for node in _resources()) for name in bundle)

    if not lacking():
        return
    progress.phase("waiting for a node with " + " and ".join(f"{n:g} {name}" for name, n in bundle.items()))
    request_resources(bundles=[bundle])
    try:
        end = time.monotonic() + NODE_SECONDS
        while lacking() and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
    finally:
        request_resources(bundles=[])  # stands until it is replaced, also beyond this driver


def _checked(cluster: RayCluster, source: str) -> RayCluster:
    """The cluster; raises `InputError` if no task fits on any of its nodes."""
    resources = cluster.resources
    for key, name in (("cpus_per_task", "CPU"), ("gpus_per_task", "GPU")):
        largest = max((node.get(name, 0.0) for node in _resources()), default=0.0)
        _check_fits(key, getattr(resources, key), largest, source)
    if not count_slots(_resources(), resources):
        raise InputError(
            f"{source}: resources.cpus_per_task, resources.gpus_per_task: no single node has "
            f"{resources.cpus_per_task:g} CPUs and {resources.gpus_per_task:g} GPUs"
        )
    return cluster


def _local_gpus(resources: ResourcesSpec) -> float:
    """Number of GPUs that torch can use on this machine; not looked for where none is asked for."""
    return float(gpus()) if resources.gpus_per_task else 0.0


def _check_reachable(address: str) -> None:
    """Raises `InputError` if nothing listens at HOST:PORT; Ray itself would try for minutes."""
    if address.startswith(("http://", "https://")):
        raise InputError(
            f"RAY_ADDRESS: {address} is an address for 'ray job submit'; allowed for 'phasediag run': HOST:PORT of the head, "
            "port 6379 if no other was chosen"
        )
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return  # "local", "auto" or a URI: for Ray to resolve
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"RAY_ADDRESS: nothing answers at {address} ({error}); allowed: the address of a cluster"
        ) from None


@contextmanager
def _environment(local: bool) -> Iterator[None]:
    """Environment variables that Ray reads, for the duration of a `with` block; those that the user has set stay as they are."""
    wanted = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}  # Ray's future default; silences its notice
    if local:
        # A private cluster gets a token of its own. Ray would write one to the home directory, and clusters
        # that the user starts later would ask for it.
        wanted |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN": _token()}
    added = wanted.keys() - os.environ.keys()
    os.environ.update({name: wanted[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@cache
def _token() -> str:
    """The token of all private clusters of this process: Ray reads it once, so there is only one."""
    return secrets.token_hex(32)


def _start_ray(address: str) -> None:
    local = address == "local"
    options: dict[str, Any] = {"include_dashboard": False, "num_cpus": cores()} if local else {}
    if local:
        options["_node_ip_address"] = "127.0.0.1"
    try:
        with _loopback() if local else nullcontext():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, RuntimeError, failures.RayError) as error:
        where = "a local Ray could not be started" if local else f"RAY_ADDRESS: {address} cannot be joined"
        hint = "" if local else _joining_hint(address, error)
        raise InputError(f"{where}: {last_line(error)}{hint}") from None
    except SystemExit:  # while it starts, Ray's own handler of SIGTERM is in place
        raise KeyboardInterrupt from None


def _joining_hint(address: str, error: Exception) -> str:
    """What to do about a cluster that cannot be joined."""
    if not isinstance(error, ConnectionError) or ":" not in address:
        return "; allowed: HOST:PORT of the head of a cluster"
    # Something answers there. Ray's own error does not say that it may be the token, nor that a driver sends none unless it is told to.
    if os.environ.get("RAY_AUTH_MODE") == "token":
        return "; the token in RAY_AUTH_TOKEN or ~/.ray/auth_token may not be that of the cluster"
    return "; a cluster that asks for a token is joined with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"


def _loopback() -> AbstractContextManager[None]:
    """Makes a Ray that is started at 127.0.0.1 within a `with` block listen there alone.

    Ray 2.60 would take the address of the machine on its network instead, and has no public switch.
    """
    return _patched(ray._private.services, "resolve_ip_for_localhost", lambda host: host)


def _quiet_raylet() -> AbstractContextManager[None]:
    """Keeps reports of dead workers off standard output within a `with` block: the sweep deals with them and notes them itself.

    Ray has no public switch for them.
    """
    return _patched(ray._private.worker, "print_to_stdstream", lambda *_, **__: None)


@contextmanager
def _patched(module: Any, name: str, function: Any) -> Iterator[None]:
    """A function of Ray's own, replaced for the duration of a `with` block; a version that does not have it does as it likes."""
    original = getattr(module, name, None)
    if original is None:
        yield
        return
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, original)


def _nodes() -> list[dict[str, Any]]:
    """The nodes that are alive."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def _resources() -> list[Mapping[str, float]]:
    """What every node that is alive has to offer."""
    return [node["Resources"] for node in _nodes()]


def count_slots(nodes: Sequence[Mapping[str, float]], resources: ResourcesSpec) -> int:
    """How many tasks fit on the nodes at a time."""
    return sum(_fitting(node, resources) for node in nodes)


def _fitting(node: Mapping[str, float], resources: ResourcesSpec) -> int:
    fitting = int(node.get("CPU", 0.0) / resources.cpus_per_task + 1e-9)
    if resources.gpus_per_task:
        fitting = min(fitting, int(node.get("GPU", 0.0) / resources.gpus_per_task + 1e-9))
    return fitting


def _check_fits(key: str, wanted: float, largest: float, source: str) -> None:
    if wanted > largest:
        raise InputError(
            f"{source}: resources.{key}: {wanted:g} is more than any node has; allowed: up to {largest:g}"
        )


def _check_device(resources: ResourcesSpec, source: str) -> None:
    if resources.device == "cuda" and not resources.gpus_per_task:
        raise InputError(
            f'{source}: resources.gpus_per_task: 0 hides the GPU that device = "cuda" asks for; '
            "allowed: a fraction above 0, or a whole number"
        )
