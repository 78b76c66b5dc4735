"""A sweep on a Ray cluster: the only module that imports Ray.

A cluster is joined or started for the duration of a sweep. A task trains one batch of jobs, publishes the rows itself and returns a
receipt. When the sweep ends, everything that it changed in this process, the environment and Ray itself, is as it was before.
"""

from __future__ import annotations

import getpass
import logging
import math
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray import exceptions as failures
from ray.autoscaler.sdk import request_resources
from ray.util.metrics import Counter, Gauge, Histogram
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..devices import DeviceLost, cores, gpus, resolve_device
from ..display.progress import Progress
from ..display.terminal import say
from ..errors import InputError
from ..spec.tables import ResourcesSpec
from ..studies import AnyStudy
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
START_SECONDS = 300.0
"""How long a Ray may take to start, or to be joined."""
_GRACE_SECONDS = 15.0
"""After these, whatever holds this process is out of the reach of signals, as code of Ray's that waits for a server."""
_SLOW_SECONDS = 60.0
# What a socket may be called is 107 bytes long; Ray names its own "session_<date>_<number>/sockets/plasma_store" in its folder.
_FOLDER_LENGTH = 42
# Fewer than a Ray of its own was seen to have, with its workers: 199 with one core, 225 with two, 376 with eight.
_THREADS, _THREADS_PER_CORE = 150, 20
# Of the variables that begin with RAY_, what a private Ray is to take from the user: a place, secrets and encryption, and settings of Ray
# itself, which are in small letters. Others belong to a cluster that this process was started on.
_KEPT = re.compile(
    "RAY_([a-z].*|TMPDIR|AUTH_.*|USE_TLS|TLS_.*|USAGE_STATS_.*|OBJECT_STORE_ALLOW_SLOW_STORAGE)"
)
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
    if ray.is_initialized():
        progress.phase("joining the Ray of this process")
        _await_node(resources, progress)
        yield _checked(RayCluster(study, borrowed=True), study.source)
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    progress.phase("starting Ray" if address == "local" else f"joining the cluster at {address}")
    if address == "local":
        _check_fits("cpus_per_task", resources.cpus_per_task, float(cores()), study.source)
        found = _local_gpus(resources)
        if resources.device == "cuda":
            resolve_device("cuda", f"{study.source}: resources.device")
        _check_device(resources, found, study.source)
        _check_fits("gpus_per_task", resources.gpus_per_task, found, study.source)
        _check_threads()
    _check_reachable(address)
    with _environment(local=address == "local"), _quiet_raylet():
        _start_ray(address, progress)
        try:
            if address != "local":
                with interruptible():  # Ray has its own in place now
                    _await_node(resources, progress)
            yield _checked(RayCluster(study, borrowed=False, here=address == "local"), study.source)
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
        here: it is of this machine alone.
    """

    def __init__(self, study: AnyStudy, borrowed: bool, here: bool = False) -> None:
        self.here = here
        self.resources = study.spec.resources
        self.threads = self.resources.threads
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
        if name == "GPU":
            _check_device(resources, largest, source)
        _check_fits(key, getattr(resources, key), largest, source)
    if not count_slots(_resources(), resources):
        raise InputError(
            f"{source}: resources.cpus_per_task, resources.gpus_per_task: no single node has "
            f"{resources.cpus_per_task:g} CPUs and {resources.gpus_per_task:g} GPUs"
        )
    return cluster


def _local_gpus(resources: ResourcesSpec) -> float:
    """Number of GPUs that torch can use on this machine; 0 without a look where none is needed."""
    return float(gpus()) if resources.gpus_per_task or resources.device == "cuda" else 0.0


def _check_threads() -> None:
    """Raises `InputError` if this user may not start as many processes and threads as a Ray has: it would abort this process."""
    needed = _THREADS + _THREADS_PER_CORE * cores()
    for what, left in (
        ("ulimit -u", _threads_left_to_user()),
        ("pids.max of the container", _threads_left_in_container()),
    ):
        if left < needed:
            raise InputError(
                f"a local Ray could not be started: it needs about {needed} processes and threads, and {max(left, 0):.0f} more are allowed "
                f"here ({what}); --local trains without it"
            )


def _threads_left_to_user() -> float:
    try:
        import resource
    except ImportError:  # Windows
        return math.inf
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if limit == resource.RLIM_INFINITY or os.geteuid() == 0:
        return math.inf
    used = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            used += int(fields["Threads"]) if int(fields["Uid"].split()[0]) == os.getuid() else 0
    return limit - used


def _threads_left_in_container() -> float:
    try:
        limit, used = (Path("/sys/fs/cgroup", name).read_text() for name in ("pids.max", "pids.current"))
        return int(limit) - int(used)
    except (OSError, ValueError):  # there is no limit, or none to be seen
        return math.inf


def _check_reachable(address: str) -> None:
    """Raises `InputError` if nothing listens at HOST:PORT, or where "auto" leads; Ray itself would try for minutes."""
    if address.startswith(("http://", "https://")):
        raise InputError(
            f"RAY_ADDRESS: {address} is an address for 'ray job submit'; allowed for 'phasediag run': HOST:PORT of the head, "
            "port 6379 by default"
        )
    found = _last_started() if address == "auto" else address
    host, _, port = found.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return  # "local" or a URI: for Ray to resolve
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        where = found if found == address else f"{found}, where 'ray start' was last run here"
        raise InputError(
            f"RAY_ADDRESS: nothing answers at {where} ({error}); allowed: the address of a cluster, or no RAY_ADDRESS for a private Ray"
        ) from None


def _last_started() -> str:
    """The cluster that "auto" stands for: what `ray start` has noted on this machine; nothing where it has not, and Ray looks for one."""
    with suppress(OSError, ValueError):
        return Path(_system_folder(), "ray", "ray_current_cluster").read_text(encoding="utf-8").strip()
    return ""


def _system_folder() -> str:
    """Where Ray puts its own folder."""
    return os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"


def _folder_of_its_own() -> str:
    """A folder for a private Ray: where Ray would have it, or, if its sockets could not be there or it belongs to someone else, elsewhere.

    Raises:
        InputError: there is no such place.
    """
    own = f"ray-{getpass.getuser()}" if os.name == "nt" else f"ray-{os.getuid()}"
    candidates = [
        Path(base, name) for base in (_system_folder(), "/tmp", "/var/tmp") for name in ("ray", own)
    ]
    for folder in candidates:
        place = folder if folder.exists() else folder.parent
        if len(os.fsencode(folder)) <= _FOLDER_LENGTH and os.access(place, os.W_OK | os.X_OK):
            return str(folder)
    raise InputError(
        f"RAY_TMPDIR, TMPDIR: Ray cannot create its sockets in {candidates[0]}, nor in {candidates[2]}; allowed: a writable folder "
        f"with a name of at most {_FOLDER_LENGTH - len('/ray')} bytes"
    )


@contextmanager
def _environment(local: bool) -> Iterator[None]:
    """Environment variables that Ray reads, for the duration of a `with` block; variables that the user has set for it stay unchanged."""
    wanted = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}  # Ray's future default; silences its notice
    foreign: set[str] = set()
    if local:
        # A private cluster gets a token of its own. Ray would write one to the home directory, and clusters
        # that the user starts later would ask for it.
        wanted |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN": _token()}
        foreign = {name for name in os.environ if name.startswith("RAY_") and not _KEPT.fullmatch(name)}
        # Parts of Ray do not start where warnings are errors.
        foreign |= {"PYTHONWARNINGS"} & os.environ.keys()
    before = {name: os.environ.get(name) for name in foreign | (wanted.keys() - os.environ.keys())}
    for name in foreign:
        del os.environ[name]
    os.environ.update({name: wanted[name] for name in wanted.keys() & before.keys()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@cache
def _token() -> str:
    """The token of all private clusters of this process: Ray reads it once, so there is only one."""
    return secrets.token_hex(32)


def _start_ray(address: str, progress: Progress) -> None:
    local = address == "local"
    options: dict[str, Any] = {}
    if local:
        folder = _folder_of_its_own()
        options = {"include_dashboard": False, "num_cpus": cores(), "_temp_dir": folder}
        options["_node_ip_address"] = "127.0.0.1"
        what, slow = (
            "a local Ray could not be started",
            f"starting Ray, which is slow here ({folder}/session_latest/logs says more)",
        )
    else:
        what, slow = (
            f"RAY_ADDRESS: {address} cannot be joined",
            f"joining the cluster at {address}, which is slow to answer",
        )

    def message(error: BaseException) -> str:
        hint = _starting_hint(error) if local else _joining_hint(address, error)
        return f"{what}: {error if isinstance(error, _TooLate) else last_line(error)}{hint}"

    noticed = threading.Timer(
        _SLOW_SECONDS, progress.phase, [f"{slow}; waited for until {START_SECONDS:.0f} s have passed"]
    )
    noticed.daemon = True
    noticed.start()
    try:
        with (
            _deadline(START_SECONDS, message),
            _loopback() if local else nullcontext(),
            _own_interpreter() if local else nullcontext(),
        ):
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except SystemExit:  # while it starts, Ray's own handler of SIGTERM is in place
        raise KeyboardInterrupt from None
    except (_TooLate, Exception) as error:  # Ray raises whatever comes to its mind
        _clear_away()
        raise InputError(message(error)) from None
    finally:
        noticed.cancel()
        noticed.join()


class _TooLate(BaseException):
    """Ray has not started in time. No Exception: Ray catches those and goes on waiting."""


@contextmanager
def _deadline(seconds: float, message: Callable[[BaseException], str]) -> Iterator[None]:
    """Raises `_TooLate` if a `with` block takes longer, where the system can interrupt it; ends the process, with the ``message`` of that
    error, if it is to no avail."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    late = _TooLate(f"not there after {seconds:.0f} s")

    def expire(number: int, frame: FrameType | None) -> None:
        raise late

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    stuck = threading.Timer(seconds + _GRACE_SECONDS, _end_process, [message(late)])
    stuck.daemon = True
    stuck.start()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)
        stuck.cancel()
        stuck.join()


def _end_process(message: str) -> None:
    """Ends this process from another thread than the one that is stuck, with the message that this one cannot give."""
    _end_started()
    say(f"error: {message}", error=True)
    os._exit(2)


def _clear_away() -> None:
    """Ends what a Ray that did not come up has started."""
    with suppress(Exception):
        ray.shutdown()
    _end_started()


def _end_started() -> None:
    """Ends the processes of a Ray that did not come up."""
    with suppress(Exception):
        node = ray._private.worker._global_node  # shut down by Ray only where it has come up
        if node is not None:
            node.kill_all_processes(check_alive=False, allow_graceful=False)


def _starting_hint(error: BaseException) -> str:
    """What to do about a Ray that does not start."""
    if isinstance(error, MemoryError) or "memory" in str(error).lower() or "allocate" in str(error).lower():
        return "; it needs some GB of memory and of address space (ulimit -v); --local trains without it"
    if isinstance(error, _TooLate):
        return "; try again, or train without it: --local"
    return "; --local trains without it"


def _joining_hint(address: str, error: BaseException) -> str:
    """What to do about a cluster that cannot be joined."""
    if not isinstance(error, ConnectionError) or ":" not in address:
        return "; allowed: HOST:PORT of the head of a cluster"
    # Something answers there. Ray's own error does not say that it may be the token, nor that a driver sends none by default.
    if os.environ.get("RAY_AUTH_MODE") == "token":
        return "; the token in RAY_AUTH_TOKEN or ~/.ray/auth_token may differ from the cluster's"
    return "; to join a cluster that requires a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"


def _loopback() -> AbstractContextManager[None]:
    """Makes a Ray that is started at 127.0.0.1 within a `with` block listen there alone.

    Ray 2.60 would take the address of the machine on its network instead, and has no public switch.
    """
    return _patched(ray._private.services, "resolve_ip_for_localhost", lambda host: host)


def _own_interpreter() -> AbstractContextManager[None]:
    """Makes the workers of a Ray that is started within a `with` block run with the interpreter of this process.

    Under ``uv run``, Ray has each worker started by uv in a copy of the current folder. Its switch is read when Ray is imported.
    """
    return _patched(ray._private.ray_constants, "RAY_ENABLE_UV_RUN_RUNTIME_ENV", False)


def _quiet_raylet() -> AbstractContextManager[None]:
    """Keeps reports of dead workers off standard output within a `with` block: the sweep deals with them and notes them itself.

    Ray has no public switch for them.
    """
    return _patched(ray._private.worker, "print_to_stdstream", lambda *_, **__: None)


@contextmanager
def _patched(module: Any, name: str, value: Any) -> Iterator[None]:
    """A function or constant of Ray's own, replaced for the duration of a `with` block; a version without it does as it likes."""
    original = getattr(module, name, None)
    if original is None:
        yield
        return
    setattr(module, name, value)
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


def _check_device(resources: ResourcesSpec, largest: float, source: str) -> None:
    """Raises `InputError` if tasks need a GPU and get none: no node has one, or they do not ask for it."""
    if resources.device != "cuda":
        return
    if not largest:
        raise InputError(
            f"{source}: resources.device: 'cuda', but no node of the cluster has a GPU; allowed: auto, cpu"
        )
    if not resources.gpus_per_task:
        raise InputError(
            f'{source}: resources.gpus_per_task: 0 hides the GPU that device = "cuda" needs; '
            "allowed: a fraction above 0, or a whole number"
        )
